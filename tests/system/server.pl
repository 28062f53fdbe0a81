#!/usr/bin/perl
# A small MCP server for machines that have nothing but perl. Its tools take what they can get.
use strict;
use warnings;
$| = 1;

sub answer {
    my ($id, $result) = @_;
    print qq({"jsonrpc":"2.0","id":$id,"result":$result}\n);
}

sub text {
    my ($text) = @_;
    return qq({"content":[{"type":"text","text":"$text"}]});
}

# Beside it one that nobody asked for, which leaves its session and hears nothing.
if (@ARGV && $ARGV[0] eq 'stubborn') {
    $SIG{$_} = 'IGNORE' for qw(TERM HUP INT);
    if (!fork) {
        require POSIX;
        POSIX::setsid();
        exit if fork;
        close $_ for *STDIN, *STDOUT, *STDERR;
        exec 'sleep', '1000';
    }
}

while (my $line = <STDIN>) {
    my ($id) = $line =~ /"id"\s*:\s*("[^"]*"|\d+)/;
    my ($method) = $line =~ /"method"\s*:\s*"([^"]*)"/;
    next unless defined $id && defined $method;
    if ($method eq 'initialize') {
        answer($id, '{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"taker","version":"1"}}');
    } elsif ($method eq 'tools/list') {
        my @tools = map { qq({"name":"$_","inputSchema":{"type":"object"}}) } qw(grow fork hello);
        answer($id, '{"tools":[' . join(',', @tools) . ']}');
    } elsif ($method eq 'tools/call' && $line =~ /"name"\s*:\s*"hello"/) {
        answer($id, text('hello'));
    } elsif ($method eq 'tools/call' && $line =~ /"name"\s*:\s*"fork"/) {
        my $count = 0;
        while ($count < 200) {
            my $pid = fork;
            last unless defined $pid;
            if ($pid == 0) { sleep 1000; exit }
            $count++;
        }
        answer($id, text($count));
    } elsif ($method eq 'tools/call') {
        # In many processes, none of which is large; each as fast as it can, so that no watchdog
        # that looks every few seconds is first.
        for (1 .. 10) {
            my $pid = fork;
            if (defined $pid && $pid == 0) { my $x = 'x' x (20 << 20); sleep 1000; exit }
        }
        sleep 1000;
    } else {
        print qq({"jsonrpc":"2.0","id":$id,"error":{"code":-32601,"message":"no such method"}}\n);
    }
}
