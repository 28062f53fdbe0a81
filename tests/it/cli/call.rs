//! `call`: one tool call from the shell.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    process::Stdio,
    time::{Duration, Instant},
};

use nix::errno::Errno;
use serde_json::{Value, json};

use super::{command, finish, run, run_with};
use crate::harness::{World, example, faulty};

#[test]
fn a_result_is_printed() {
    let world = World::with(&example("e", "echo", "", ""));
    for name in ["e_echo", "echo"] {
        let did = run(&world, &["call", name, r#"{"text": "hello\nworld"}"#]);
        let expected = (0, "hello\nworld\n", "");
        assert_eq!((did.code, did.out.as_str(), did.err.as_str()), expected);
    }
    let did = run(&world, &["call", "--json", "e_echo", r#"{"text": "hello"}"#]);
    let result: Value = serde_json::from_str(&did.out).unwrap();
    assert_eq!(result["content"], json!([{"type": "text", "text": "hello"}]));
    // Arguments from a pipe, on as many lines as one likes.
    let piped = command(&world, &["call", "e_echo", "-"]);
    let did = finish(piped, Some("{\n  \"text\":\n    \"from a pipe\"\n}\n"));
    assert_eq!((did.code, did.out.as_str(), did.err.as_str()), (0, "from a pipe\n", ""));
    // No arguments are an empty object.
    let did = run(&world, &["call", "gateway_status", "--json"]);
    assert_eq!(did.code, 0, "{}", did.err);
    let status: Value = serde_json::from_str(&did.out).unwrap();
    assert_eq!(status["structuredContent"]["servers"][0]["name"], "e");
    world.assert_empty_now();
}

#[test]
fn a_tool_that_fails_is_exit_1() {
    let world = World::with(&example("r", "reference-backend", "stdio", ""));
    let did = run(&world, &["call", "r_fail", r#"{"message": "out of paper"}"#]);
    assert_eq!((did.code, did.out.as_str(), did.err.as_str()), (1, "out of paper\n", ""));
    let did = run(&world, &["call", "r_fail", "--json", r#"{"message": "out of paper"}"#]);
    let result: Value = serde_json::from_str(&did.out).unwrap();
    assert_eq!((did.code, &result["isError"]), (1, &json!(true)));
}

#[test]
fn what_is_no_text_is_printed_as_json() {
    let world = World::with(&example("r", "reference-backend", "stdio", ""));
    let did = run(&world, &["call", "r_vendor"]);
    assert_eq!(did.code, 0, "{}", did.err);
    assert!(did.out.starts_with("unicode: \u{e9}"), "{}", did.out);
    let (_, link) = did.out.split_once('\n').unwrap();
    let link: Value = serde_json::from_str(link).unwrap();
    assert_eq!(link["uri"], "test://static-text");
}

#[test]
fn a_wrong_call_is_a_usage_error() {
    let world = World::with(&example("e", "echo", "", ""));
    for name in ["nope", "e_nope", "E_ECHO", ""] {
        let did = run(&world, &["call", name]);
        assert_eq!((did.code, did.out.as_str()), (64, ""), "{name:?}: {}", did.err);
        assert!(did.err.contains(&format!("Unknown tool: {name}")), "{}", did.err);
    }
    for (arguments, word) in [
        ("{\"text\"", "not JSON"),
        ("", "not JSON"),
        ("text=hello", "not JSON"),
        ("[1]", "must be a JSON object"),
        ("null", "must be a JSON object"),
    ] {
        let did = run(&world, &["call", "e_echo", arguments]);
        assert_eq!((did.code, did.out.as_str()), (64, ""), "{arguments}: {}", did.err);
        assert!(did.err.contains(word) && did.err.lines().count() == 1, "{}", did.err);
    }
    let did = finish(command(&world, &["call", "e_echo", "-"]), Some("{"));
    assert_eq!(did.code, 64, "{}", did.err);
}

#[test]
fn a_backend_that_cannot_start_is_exit_69_with_the_reason() {
    let servers = [
        faulty("crash", "exit-at-once", ""),
        "  gone: {command: no-such-program}\n".to_owned(),
        faulty("mute", "missing-init", "timeouts: {start: 1s, stop: 1s}"),
        example("good", "echo", "", ""),
    ];
    let world = World::with(&servers.concat());
    for (tool, words) in [
        ("crash_echo", ["\"crash\"", "missing API key"]),
        ("gone_echo", ["\"gone\"", "no program \"no-such-program\""]),
        ("mute_echo", ["\"mute\"", "timeouts.start"]),
    ] {
        let did = run(&world, &["call", tool]);
        assert_eq!((did.code, did.out.as_str()), (69, ""), "{tool}: {}", did.err);
        assert!(words.iter().all(|word| did.err.contains(word)), "{tool}: {}", did.err);
        assert_eq!(did.err.lines().count(), 1, "{}", did.err);
    }
    let did = run(&world, &["call", "good_echo", r#"{"text": "hello"}"#]);
    assert_eq!((did.code, did.out.as_str()), (0, "hello\n"), "{}", did.err);
    // Alone, it is what every name must belong to.
    let world = World::with(&faulty("crash", "exit-at-once", ""));
    let did = run(&world, &["call", "echo"]);
    assert_eq!(did.code, 69, "{}", did.err);
    assert!(did.err.contains("missing API key"), "{}", did.err);
    world.assert_empty_now();
}

#[test]
fn a_backend_that_starts_slowly_is_waited_for() {
    // Longer than all backends together get when nobody knows whose tool it is.
    let servers = [faulty("slow", "slow-start 11", ""), faulty("other", "plain", "")];
    let world = World::with(&servers.concat());
    let did = run(&world, &["call", "slow_echo", r#"{"text": "at last"}"#]);
    assert_eq!((did.code, did.out.as_str(), did.err.as_str()), (0, "at last\n", ""));
}

/// Everything that is written to the terminal until it is closed.
fn watch(mut terminal: File) -> String {
    let until = Instant::now() + crate::harness::PATIENCE;
    let mut seen = Vec::new();
    loop {
        let mut some = [0; 4096];
        match terminal.read(&mut some) {
            Ok(0) => break,
            Ok(size) => seen.extend_from_slice(&some[..size]),
            // The last one who had it open is gone.
            Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("{error}"),
        }
        assert!(Instant::now() < until, "it does not end");
    }
    String::from_utf8_lossy(&seen).into_owned()
}

/// What a terminal shows in the end of what was written to it: as much of one as this needs.
fn screen(written: &str) -> String {
    let (mut lines, mut row, mut column) = (vec![Vec::new()], 0, 0);
    let mut rest = written.chars();
    while let Some(next) = rest.next() {
        match next {
            '\r' => column = 0,
            '\n' => {
                row += 1;
                lines.resize(lines.len().max(row + 1), Vec::new());
            }
            '\u{1b}' => {
                assert_eq!(rest.next(), Some('['));
                let mut code = String::new();
                while !code.ends_with(|last: char| last.is_ascii_alphabetic()) {
                    code.push(rest.next().expect("a whole sequence"));
                }
                match code.as_str() {
                    "2K" => lines[row].clear(),
                    "?25l" | "?25h" | "0m" | "m" => {}
                    _ if code.ends_with('A') => {
                        row -= code.trim_end_matches('A').parse::<usize>().unwrap_or(1);
                    }
                    _ => panic!("unknown to this terminal: {code:?}"),
                }
            }
            shown => {
                let line: &mut Vec<char> = &mut lines[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = shown;
                column += 1;
            }
        }
    }
    let lines = lines.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

#[test]
fn on_a_terminal_one_sees_it_start() {
    let world = World::with(&faulty("f", "slow-start 3", ""));
    let pty = nix::pty::openpty(None, None).unwrap();
    let mut call = command(&world, &["call", "f_echo", r#"{"text": "hello"}"#]);
    call.env("TERM", "xterm").stderr(Stdio::from(pty.slave));
    let child = call.spawn().unwrap();
    // Its own end of the terminal must close with the child.
    drop(call);
    let seen = watch(File::from(pty.master));
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"hello\n"[..]));
    for second in ["(1 s)", "(2 s)"] {
        let sign = format!("starting backend \"f\" {second}");
        assert!(seen.contains(&sign), "{sign} in {seen:?}");
    }
    assert_eq!(screen(&seen), "", "the spinner is gone afterwards: {seen:?}");
}

#[test]
fn elsewhere_nothing_is_drawn() {
    let world = World::with(&faulty("f", "slow-start 2", ""));
    let began = Instant::now();
    let did = run(&world, &["call", "f_echo", r#"{"text": "hello"}"#]);
    assert_eq!((did.code, did.out.as_str(), did.err.as_str()), (0, "hello\n", ""));
    assert!(began.elapsed() > Duration::from_secs(2));
}

#[test]
fn a_role_learns_nothing_of_a_backend_that_it_may_not_reach() {
    let servers = [faulty("crash", "exit-at-once", ""), example("good", "echo", "", "")];
    let roles = "roles: {reader: [\"good_*\"]}\n";
    let world = World::new(&format!("servers:\n{}{roles}", servers.concat()));
    let role = [("MCP_GATEWAY_ROLE", "reader")];
    for tool in ["crash_echo", "crash_nope", "_crash_connect", "nobody_echo", "good_nope"] {
        let did = run_with(&world, &["call", tool], &role);
        let words = format!("mcp-gateway: Unknown tool: {tool}\n");
        assert_eq!((did.code, did.out.as_str(), did.err), (64, "", words));
    }
    let did = run_with(&world, &["call", "good_echo", r#"{"text": "hello"}"#], &role);
    assert_eq!((did.code, did.out.as_str()), (0, "hello\n"), "{}", did.err);
}
