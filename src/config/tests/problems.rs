//! What is said of files that do not load.

use super::*;

#[test]
fn a_sandbox_gives_nobody_what_nobody_may_have() {
    let text = "
servers:
  a:
    command: x
    sandbox: {profile: of, read: [/, /etc, ~/.ssh, ~/, /srv/../x, /run/docker.sock], write: [/usr/x]}
  b: {command: x, sandbox: {profile: off}}
  c: {command: x, sandbox: {uncontained: true, network: webb, require: [landlok]}}
  d: {command: x, sandbox: {network: [0, 443, x], read: [g.yaml, .], write: /srv}}
  e: {command: x, sandbox: {read: [~/.local/state/mcp-gateway/x, /etc/mcp-gateway, ~/.cache]}}
  f: {command: x, limits: {memory: 1K, processes: 0, open_files: 3, tmp: 0}}
";
    let expected = "
g.yaml:5:24: servers.a.sandbox.profile: `of` is none of strict, browser, dev and off (did you mean `off`?)
g.yaml:5:35: servers.a.sandbox.read[0]: is everything; name the folders that are needed
g.yaml:5:38: servers.a.sandbox.read[1]: is the whole of /etc; name the files that are needed
g.yaml:5:44: servers.a.sandbox.read[2]: is in /home/u/.ssh, where keys are
g.yaml:5:52: servers.a.sandbox.read[3]: holds /home/u/.ssh, where keys are; name the folders in /home/u
g.yaml:5:56: servers.a.sandbox.read[4]: has `..` in it; write the path without
g.yaml:5:67: servers.a.sandbox.read[5]: is in /run, which leads out of every sandbox
g.yaml:5:94: servers.a.sandbox.write[0]: is in /usr, which is the system's to write
g.yaml:6:38: servers.b.sandbox.profile: lets the server do whatever you may do; if that is meant, add `uncontained: true`
g.yaml:7:42: servers.c.sandbox.uncontained: goes with `profile: off` only
g.yaml:7:57: servers.c.sandbox.network: write none, web, host, or a list of ports, such as [443]
g.yaml:7:73: servers.c.sandbox.require[0]: `landlok` is none of namespaces, landlock, scopes and seccomp (did you mean `landlock`?)
g.yaml:8:39: servers.d.sandbox.network[0]: write a whole number from 1 to 65535
g.yaml:8:47: servers.d.sandbox.network[2]: write a whole number from 1 to 65535
g.yaml:8:58: servers.d.sandbox.read[0]: would give it the gateway's own FOLDER/g.yaml; name something else
g.yaml:8:66: servers.d.sandbox.read[1]: would give it the gateway's own FOLDER/g.yaml; name something else
g.yaml:8:77: servers.d.sandbox.write: write a list of paths
g.yaml:9:36: servers.e.sandbox.read[0]: would give it the gateway's own /home/u/.local/state/mcp-gateway; name something else
g.yaml:9:66: servers.e.sandbox.read[1]: would give it the gateway's own /etc/mcp-gateway; name something else
g.yaml:9:84: servers.e.sandbox.read[2]: would give it the gateway's own /home/u/.cache/mcp-gateway; name something else
g.yaml:10:36: servers.f.limits.memory: write a size from 16MiB to 4096GiB, such as 8M
g.yaml:10:51: servers.f.limits.processes: write a whole number from 1 to 100000
g.yaml:10:66: servers.f.limits.open_files: write a whole number from 64 to 1048576
g.yaml:10:74: servers.f.limits.tmp: write a size from 1MiB to 4096GiB, such as 8M
";
    let (folder, result) = load_bytes("boxes", text, Mode::Foreground);
    let here = folder.0.to_string_lossy();
    let said = result.unwrap_err().to_string();
    let said = said.replace(&format!("{here}/g.yaml:"), "g.yaml:").replace(&*here, "FOLDER");
    assert_eq!(said.trim(), expected.trim());
}

#[test]
fn every_problem_at_once() {
    let text = r#"
nmae: x
idle_timeout: abc
timeouts: {session: 0}
servers:
  a b: {command: x}
  git:
    comand: git
    args: -y
    enabled: "false"
    timeouts: {call: 20m, strat: 5s, stop: -1}
    limits: {calls: 0, line: 1K}
    share: usr
  url: {url: "http://x"}
  old: {command: x, disabled: true, type: stdio}
  nul:
  no-command: {}
  empty: {command: ""}
  args: {command: x, args: [1, null, {a: b}, "${HOME}"]}
  env: {command: x, env: [A=1]}
  env2: {command: x, env: {"A=B": 1, C: [1], D: "${NO}"}}
  tools: {command: x, tools: {allow: "a*", deny: ["[a"]}}
  cwd: {command: x, cwd: "", prefix: "a b", roots: [rel, "http://x", {name: n}]}
  git: {command: again}
plugins: json
roles:
  text: "gateway_*"
  number: [1, true, "ok_*"]
  empty: {}
  open: {allow: , dney: []}
mcpServers: {}
"#;
    let expected = r#"
g.yaml:2:1: nmae: unknown key (did you mean `name`?)
g.yaml:3:15: idle_timeout: `abc` is no duration: write seconds, or a number with ms, s, m, h or d
g.yaml:4:21: timeouts.session: must be more than 0
g.yaml:6:3: servers.a b: a server's name is 1 to 64 of A-Z a-z 0-9 _ . -
g.yaml:8:5: servers.git.comand: unknown key (did you mean `command`?)
g.yaml:9:11: servers.git.args: write a list, such as ["-y", "some-package"]
g.yaml:10:14: servers.git.enabled: write false without quotes
g.yaml:11:22: servers.git.timeouts.call: call (20m) is longer than max_call (600s); set both
g.yaml:11:27: servers.git.timeouts.strat: unknown key (did you mean `start`?)
g.yaml:11:44: servers.git.timeouts.stop: `-1` is no duration: a duration cannot be negative
g.yaml:12:21: servers.git.limits.calls: write a whole number from 1 to 10000
g.yaml:12:30: servers.git.limits.line: write a size from 64KiB to 1GiB, such as 8M
g.yaml:13:12: servers.git.share: `usr` is none of user, session, project and all (did you mean `user`?)
g.yaml:14:3: servers.url: has no command; name the program to start
g.yaml:14:9: servers.url.url: unknown key: remote servers are not supported
g.yaml:15:21: servers.old.disabled: unknown key: use `enabled: false`
g.yaml:15:37: servers.old.type: unknown key: leave it out: every server is a command that talks over stdio
g.yaml:16:3: servers.nul: has no value; write a map with a command
g.yaml:17:3: servers.no-command: has no command; name the program to start
g.yaml:18:20: servers.empty.command: is empty; name the program to start
g.yaml:19:32: servers.args.args[1]: has no value; write a text, in quotes if it is "null"
g.yaml:19:38: servers.args.args[2]: write one text, not a list or a map
g.yaml:19:46: servers.args.args[3]: warning: `${…}` is expanded in env values only; it is passed on as written
g.yaml:20:26: servers.env.env: write a map of NAME: value
g.yaml:21:28: servers.env2.env.A=B: is no name of a variable
g.yaml:21:41: servers.env2.env.C: write one value, not a list or a map
g.yaml:21:49: servers.env2.env.D: warning: `NO` is not set, and the reference stays as written; set it, or write ${NO:-default}
g.yaml:22:38: servers.tools.tools.allow: write a list of globs, such as ["git_*"]
g.yaml:22:51: servers.tools.tools.deny[0]: `[a` is no glob: unclosed character class; missing ']'
g.yaml:23:26: servers.cwd.cwd: write an absolute path, or one that starts with `~/`
g.yaml:23:38: servers.cwd.prefix: a prefix is up to 32 of A-Z a-z 0-9 _ -
g.yaml:23:53: servers.cwd.roots[0]: write an absolute path, or one that starts with `~/`
g.yaml:23:58: servers.cwd.roots[1]: a root is a path or starts with `file:///`
g.yaml:23:70: servers.cwd.roots[2]: has no uri
g.yaml:24:3: servers: `git` is written twice, first on line 7
g.yaml:25:10: plugins: write a list, such as [my_tools.text]
g.yaml:27:9: roles.text: write a list of globs, such as ["git_*"], or null for everything
g.yaml:28:12: roles.number[0]: is not a text; write it in quotes if it is meant as one
g.yaml:28:15: roles.number[1]: is not a text; write it in quotes if it is meant as one
g.yaml:29:10: roles.empty: is empty; write null for everything, or [] for nothing
g.yaml:30:10: roles.open.allow: has no value; write [] for nothing, or leave it out for everything
g.yaml:30:19: roles.open.dney: unknown key (did you mean `deny`?)
g.yaml:31:1: mcpServers: unknown key: write `servers:`"#;
    let problems = bad("all", text, Mode::Foreground);
    assert_eq!(problems, expected.trim_start());
}

#[test]
fn what_the_whole_file_can_get_wrong() {
    let table: [(&[u8], &str); 13] = [
        (b"servers:\n  a: [\n", "g.yaml:3:1: not valid YAML: "),
        (b"a: b: c\n", "g.yaml:1:5: not valid YAML: "),
        (b"- a\n", "g.yaml:1:1: the file must be a map with keys such as `servers:`"),
        (b"text\n", "g.yaml:1:1: the file must be a map with keys such as `servers:`"),
        (b"name: a\n---\nname: b\n", "g.yaml:2:1: a second document starts here; write one only"),
        (b"name: a\nn: \xff\n", "g.yaml:2:4: is not UTF-8 from here on"),
        (b"name: a\0\nx: y\n", "g.yaml:1:8: holds a NUL character"),
        (b"? [a]\n: b\n", "g.yaml:1:3: a key must be text, not a list or a map"),
        (b"x-a: !foo 5\n", "g.yaml:1:6: x-a: the tag `!foo` is not supported"),
        (b"x-a: &a [*a]\n", "g.yaml:1:10: x-a[0]: this alias stands inside its own anchor"),
        (b"x-a: *b\n", "g.yaml:1:6: not valid YAML: "),
        (b"x-a: {<<: 5}\n", "g.yaml:1:11: x-a: `<<` takes a map or a list of maps"),
        (b"servers: [a]\n", "g.yaml:1:10: servers: write a map of name: {command: …}"),
    ];
    for (bytes, expected) in table {
        let problems = bad("whole", bytes, Mode::Foreground);
        assert!(problems.starts_with(expected) && problems.lines().count() == 1, "{problems}");
    }
}

#[test]
fn no_input_takes_for_ever() {
    let mut laughs = "x-a0: &a0 [x, x]\n".to_owned();
    for i in 1..40 {
        laughs += &format!("x-a{i}: &a{i} [*a{}, *a{}]\n", i - 1, i - 1);
    }
    let mut merges = "x-a0: &a0 {k: v}\n".to_owned();
    for i in 1..40 {
        let maps = format!("*a{}, ", i - 1).repeat(2000);
        merges += &format!("x-a{i}: &a{i} {{<<: [{maps}], k{i}: v}}\n");
    }
    let cases = [
        (laughs, "more than 100000 values"),
        (merges, "more than 100000 values"),
        ("[".repeat(100_000), "recursion limit exceeded"),
        ("- ".repeat(100_000), "nested deeper than 64 levels"),
        ("? ".repeat(100_000), "nested deeper than 64 levels"),
        (format!("x-a: {}", "{a: ".repeat(1000)), "nested deeper than 64 levels"),
        (format!("x-a: [{}]", "1, ".repeat(200_000)), "more than 100000 values"),
        ("#".repeat(1 << 20) + "#", "is larger than 1 MiB"),
    ];
    for (text, expected) in cases {
        let problems = bad("bounds", &text, Mode::Foreground);
        assert!(problems.contains(expected), "{problems:.200}");
    }
}
