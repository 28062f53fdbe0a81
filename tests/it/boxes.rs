//! The sandbox as a user meets it: what works without a word in the config, what each key changes,
//! and what is said when something does not work.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration};

use serde_json::{Value, json};

use crate::harness::{Client, World, eventually, faulty, python};

/// Where tests/setup has put the real servers.
pub fn installed() -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/setup/setup.sh");
    let said = Command::new(script).arg("--path").output().unwrap();
    let path = String::from_utf8(said.stdout).unwrap().trim().to_owned();
    assert!(Path::new(&path).join("npm").exists(), "no servers in {path}: run `make setup`");
    path
}

/// The first text of a tool's result.
fn text(client: &mut dyn Client, tool: &str, arguments: Value) -> String {
    let answer = client.call(tool, arguments);
    let text = answer["result"]["content"][0]["text"].as_str();
    text.unwrap_or_else(|| panic!("{answer}")).to_owned()
}

#[test]
fn real_servers_work_in_the_default_box() {
    let at = installed();
    let node = |name: &str, more: &str| {
        let index = format!("{at}/npm/node_modules/@modelcontextprotocol/{name}/dist/index.js");
        assert!(Path::new(&index).exists(), "{index}");
        format!("{{command: node, args: [{index}{more}]}}")
    };
    let python =
        |name: &str, more: &str| format!("{{command: {at}/python/bin/{name}, args: [{more}]}}");
    let world = World::with(&format!(
        "  files: {}
  every: {}
  memory: {}
  think: {}
  time: {}
  git: {}
",
        node("server-filesystem", ", \"{DIR}/files\""),
        node("server-everything", ""),
        node("server-memory", "").replace('}', ", env: {MEMORY_FILE_PATH: /tmp/graph.json}}"),
        node("server-sequential-thinking", ""),
        python("mcp-server-time", "--local-timezone, UTC"),
        python("mcp-server-git", "--repository, \"{DIR}/repo\""),
    ));
    fs::create_dir(world.path("files")).unwrap();
    world.write("files/here.txt", "in the file");
    let git = |args: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=it", "-c", "user.email=it@localhost"]).args(args);
        assert!(command.current_dir(world.path("repo")).output().unwrap().status.success());
    };
    fs::create_dir(world.path("repo")).unwrap();
    git(&["init", "-q"]);
    git(&["commit", "-q", "--allow-empty", "-m", "the only commit"]);
    let mut client = world.stdio();
    let file = world.path("files/here.txt");
    assert_eq!(text(&mut client, "files_read_text_file", json!({"path": file})), "in the file");
    text(
        &mut client,
        "files_write_file",
        json!({"path": world.path("files/made"), "content": "x"}),
    );
    assert_eq!(world.read("files/made"), "x");
    assert_eq!(text(&mut client, "every_echo", json!({"message": "hello"})), "Echo: hello");
    let entity =
        json!({"entities": [{"name": "box", "entityType": "thing", "observations": ["closed"]}]});
    text(&mut client, "memory_create_entities", entity);
    assert!(text(&mut client, "memory_read_graph", json!({})).contains("closed"));
    let thought =
        json!({"thought": "x", "nextThoughtNeeded": false, "thoughtNumber": 1, "totalThoughts": 1});
    text(&mut client, "think_sequentialthinking", thought);
    assert!(text(&mut client, "time_get_current_time", json!({"timezone": "UTC"})).contains("UTC"));
    let log = text(&mut client, "git_git_log", json!({"repo_path": world.path("repo")}));
    assert!(log.contains("the only commit"), "{log}");
    drop(client);
    world.assert_empty();
}

#[test]
fn the_seeds_readme_config_shows_the_hosts_tmp() {
    // Not in /tmp, since a folder that holds the config itself is given to nobody.
    let config = "
servers:
  filesystem:
    command: npx
    args: [\"-y\", \"@modelcontextprotocol/server-filesystem\", \"/tmp\"]
";
    let world = World::new_in(Path::new("/var/tmp"), config);
    let marker = tempfile::NamedTempFile::with_prefix_in("mcp-gateway-marker-", "/tmp").unwrap();
    let name = marker.path().file_name().unwrap().to_string_lossy().into_owned();
    let mut client = world.stdio();
    let listed = eventually("the first call, which installs it", || {
        let answer = client.call("list_directory", json!({"path": "/tmp"}));
        answer["result"]["content"][0]["text"].as_str().map(str::to_owned)
    });
    assert!(listed.contains(&name), "{name} in {listed}");
    drop(client);
    world.assert_empty();
}

/// What a shell in the box of a server with these keys writes to its stderr. `{DIR}` is the world.
fn said_in(world: &World, keys: &str, script: &str) -> String {
    let keys = if keys.is_empty() { String::new() } else { format!(", {keys}") };
    let script = format!("exec >&2; {script}; exit 9").replace('\'', "''");
    let config = format!("servers:\n  x: {{command: sh, args: [-c, '{script}']{keys}}}\n");
    let folder = world.folder().to_string_lossy();
    world.write("gateway.yaml", &config.replace("{DIR}", &folder));
    world.stdio_with_error("x").replace(&*folder, "{DIR}")
}

fn said(keys: &str, script: &str) -> String {
    said_in(&World::new(""), keys, script)
}

#[test]
fn what_a_server_sees_without_a_word() {
    let world = World::new("");
    world.write("secret", "hush");
    let look = "cat {DIR}/secret; ls -a $HOME | tr '\\n' ' '; echo; id -u";
    let told = said_in(&world, "", look);
    assert!(!told.contains("hush"), "{told}");
    assert!(told.contains("No such file") && told.contains(" | . .. | 0"), "{told}");
    // What is wrong is put in its place.
    assert!(told.contains("[it sees only what `mcp-gateway check` lists"), "{told}");
}

#[test]
fn read_and_write_give_paths() {
    let world = World::new("");
    fs::create_dir(world.path("r")).unwrap();
    fs::create_dir(world.path("w")).unwrap();
    world.write("r/file", "in r");
    let keys = "sandbox: {read: [r], write: [\"{DIR}/w\"]}";
    let told = said_in(
        &world,
        keys,
        "cat {DIR}/r/file; echo; echo x > {DIR}/w/file; echo x > {DIR}/r/new",
    );
    assert!(told.contains("in r") && told.contains("Read-only file system"), "{told}");
    assert_eq!(world.read("w/file"), "x\n");
    let told = said_in(&world, "sandbox: {read: [\"{DIR}/gone\"]}", "true");
    assert!(told.contains("{DIR}/gone cannot be given to it: does not exist"), "{told}");
    // A link that leads to what nobody is given.
    std::os::unix::fs::symlink("/run", world.path("link")).unwrap();
    let told = said_in(&world, "sandbox: {read: [\"{DIR}/link\"]}", "true");
    assert!(told.contains("leads to /run, which is in /run"), "{told}");
}

/// What a Python script in the box of a server with these keys writes to its stderr.
fn python_said(keys: &str, script: &str) -> String {
    let world = World::new("");
    fs::create_dir(world.path("src")).unwrap();
    let path = world.write("src/script.py", script);
    let keys = if keys.is_empty() { String::new() } else { format!(", sandbox: {{{keys}}}") };
    let (python, path) = (python(), path.display());
    let config = format!("servers:\n  x: {{command: {python}, args: [{path}]{keys}}}\n");
    world.write("gateway.yaml", &config);
    world.stdio_with_error("x")
}

#[test]
fn network_is_what_it_says() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "import socket as s, sys
def attempt(what):
    try:
        what()
        print('yes', end=' ', file=sys.stderr)
    except OSError as error:
        print(error.errno, end=' ', file=sys.stderr)
attempt(lambda: s.create_connection(('127.0.0.1', {port})))
attempt(lambda: s.socket(s.AF_INET, s.SOCK_DGRAM))
sys.exit(9)
"
    );
    let outcome = |keys: &str| {
        let told = python_said(keys, &script);
        let (_, outcome) = told.split_once("exit status: 9: ").unwrap_or_else(|| panic!("{told}"));
        outcome.split(" [").next().unwrap().trim().to_owned()
    };
    // 111: nobody listens there. 13: denied by Landlock. 1: denied by seccomp.
    assert_eq!(outcome("network: none"), "111 yes");
    assert_eq!(outcome(""), "13 yes");
    assert_eq!(outcome("network: web"), "13 yes");
    assert_eq!(outcome(&format!("network: [{port}]")), "yes 1");
    assert_eq!(outcome(&format!("network: [{port}, 53]")), "yes yes");
    assert_eq!(outcome("network: host"), "yes yes");
}

#[test]
fn a_network_that_is_off_is_told() {
    let script = "import socket; socket.create_connection(('example.org', 80))";
    let told = python_said("network: none", script);
    assert!(told.contains("[network is off for it (servers.x.sandbox.network;"), "{told}");
}

#[test]
fn a_program_that_nobody_may_see_and_one_without_its_interpreter_are_told() {
    let world = World::new("");
    fs::create_dir_all(world.path(".ssh")).unwrap();
    fs::create_dir_all(world.path("src")).unwrap();
    for (path, first) in [(".ssh/server", "#!/bin/sh"), ("src/server", "#!/no/such/thing")] {
        let path = world.write(path, &format!("{first}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let start = |path: &str| {
        let path = world.path(path);
        world.write("gateway.yaml", &format!("servers: {{x: {{command: {}}}}}\n", path.display()));
        world.stdio_with_error("x")
    };
    let told = start(".ssh/server");
    assert!(
        told.contains(
            "/.ssh/server lives under HOME, which no server sees: add `sandbox: {read: ["
        ),
        "{told}"
    );
    let told = start("src/server");
    assert!(told.contains("/src/server cannot be run: its interpreter"), "{told}");
}

#[test]
fn profiles_and_limits_change_what_a_server_may_take() {
    let limits = "ulimit -n; ulimit -d; stat -f -c %b /tmp; unshare -U true && echo nested";
    let table = [
        ("", "1024 | 2097152 | 16384 | unshare: unshare failed: Operation not permitted"),
        (
            "limits: {memory: 100M, open_files: 99, tmp: 4M}",
            "99 | 204800 | 1024 | unshare: unshare failed: Operation not permitted",
        ),
        ("sandbox: {profile: browser}", "4096 | 4194304 | 131072 | nested"),
        (
            "sandbox: {profile: dev}",
            "4096 | unlimited | 262144 | unshare: unshare failed: Operation not permitted",
        ),
    ];
    for (keys, expected) in table {
        // Three lines are told of.
        let (first, rest) = limits.split_once("; ").unwrap();
        let told = [said(keys, first), said(keys, rest)].map(|told| {
            let (_, words) =
                told.split_once("exit status: 9: ").unwrap_or_else(|| panic!("{told}"));
            words.split(" [").next().unwrap().to_owned()
        });
        assert_eq!(told.join(" | "), expected, "{keys}");
    }
}

#[test]
fn off_is_no_sandbox_and_says_so() {
    let world = World::with(&faulty("f", "env", "sandbox: {profile: off, uncontained: true}"));
    let mut client = world.stdio();
    let is: Value = serde_json::from_str(&client.text("f_env", json!({}))).unwrap();
    assert_eq!(is["env"]["HOME"], world.folder().to_str().unwrap());
    client.gateway().logged("runs without a sandbox");
    let checked = String::from_utf8(world.run(&["check"]).stdout).unwrap();
    assert!(checked.contains("f: off: no sandbox, it may do whatever you may"), "{checked}");
    client.close();
    world.assert_empty();
}

#[test]
fn what_the_kernel_lacks_is_refused_or_left_out_as_require_says() {
    let without = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sandbox/without.py");
    // landlock_create_ruleset
    let before = [python(), without, "444"];
    let world = World::with(&faulty("f", "plain", ""));
    let call = ["call", "f_echo", "{\"text\": \"hello\"}"];
    let output = world.run_behind(&before, &call);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(69), "{told}");
    let expected = "refused, since its sandbox would have no landlock: landlock: the kernel has version 0 of it, 4 is needed. Use Linux 6.12";
    assert!(
        told.contains(expected) && told.contains("leave landlock out of its sandbox.require"),
        "{told}"
    );
    let keys = "sandbox: {require: [namespaces, seccomp]}";
    world.write("gateway.yaml", &format!("servers:\n{}", faulty("f", "plain", keys)));
    let output = world.run_behind(&before, &[&["--log", "warn"], &call[..]].concat());
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "hello\n", "{told}");
    assert!(
        told.contains("its sandbox has no landlock") && told.contains("its sandbox has no scopes"),
        "{told}"
    );
    world.assert_empty();
}

#[test]
fn without_user_namespaces_the_sysctl_is_named_and_the_rest_can_do_without() {
    let line = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"";
    let before = ["unshare", "-Ur", "sh", "-c", line, "sh"];
    let world = World::with(&faulty("f", "plain", ""));
    let call = ["call", "f_echo", "{\"text\": \"hello\"}"];
    let told = String::from_utf8(world.run_behind(&before, &call).stderr).unwrap();
    assert!(
        told.contains("would have no namespaces: user namespace: unshare: No space left"),
        "{told}"
    );
    assert!(told.contains("Raise the sysctl user.max_user_namespaces"), "{told}");
    let keys = "sandbox: {require: [landlock, scopes, seccomp]}";
    world.write("gateway.yaml", &format!("servers:\n{}", faulty("f", "plain", keys)));
    let output = world.run_behind(&before, &call);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "hello\n", "{told}");
    world.assert_empty();
}

#[test]
fn a_gateway_that_is_killed_leaves_no_backend_however_stubborn() {
    let keys = "timeouts: {stop: 1s}";
    let world = World::with(&faulty("f", "ignore-term,grandchild", keys));
    for _ in 0..5 {
        let mut client = world.stdio();
        client.text("f_echo", json!({"text": "x"}));
        client.gateway().signal(nix::sys::signal::Signal::SIGKILL);
        let began = std::time::Instant::now();
        eventually("the last child's end", || world.children().is_empty().then_some(()));
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
}

#[test]
fn check_tells_what_each_server_is_given() {
    let world = World::new("");
    fs::create_dir(world.path("docs")).unwrap();
    world.write("gateway.yaml", &format!(
        "servers:\n  a: {{command: sh, args: [\"{0}/docs\", --dir={0}/docs, \"{0}\", /etc/hosts]}}\n  b: {{command: no-such, sandbox: {{network: none, write: [docs], require: [seccomp]}}}}\n",
        world.folder().display()
    ));
    let checked = String::from_utf8(world.run(&["check"]).stdout).unwrap();
    let checked = checked.replace(&*world.folder().to_string_lossy(), "DIR");
    for line in [
        "  a: strict, TCP to 443, 80, 53 and UDP, for names (reduces, does not contain), home DIR/.local/state/mcp-gateway/backends/a\n",
        "    writes DIR/docs (in its args)\n",
        "    is not given DIR, which holds DIR/.ssh, where keys are; name the folders in DIR\n",
        "    is not given /etc/hosts, which is in /etc, which is the system's to write\n",
        "  b: strict, no network, home DIR/.local/state/mcp-gateway/backends/b, starts without namespaces, landlock, scopes where need be\n",
        "    writes DIR/docs (config)\n",
        "    cannot start: no program \"no-such\" in PATH",
    ] {
        assert!(checked.contains(line), "{line:?} in\n{checked}");
    }
}

#[test]
fn doctor_looks_from_inside() {
    let world = World::with(
        &(faulty("a", "plain", "")
            + &faulty("b", "plain", "sandbox: {profile: off, uncontained: true}")
            + "  c: {command: no-such-program}\n"),
    );
    let output = world.run(&["doctor", "--attack", "--json"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let told: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
    // The third one does not start.
    assert_eq!(output.status.code(), Some(69));
    let [a, b, c] = told.as_array().unwrap().as_slice() else { panic!("{told}") };
    let layers = a["layers"].as_array().unwrap();
    for name in ["namespaces", "root", "privileges", "landlock", "scopes", "seccomp"] {
        assert!(layers.iter().any(|layer| layer["name"] == name && layer["on"] == true), "{a}");
    }
    let attacks = a["attacks"].as_array().unwrap();
    assert!(attacks.len() > 80, "{}", attacks.len());
    let through: Vec<&Value> = attacks.iter().filter(|row| row["outcome"] != "denied").collect();
    let names: Vec<&str> = through.iter().map(|row| row["attack"].as_str().unwrap()).collect();
    assert_eq!(names, ["UDP to a local service", "listen without bind", "its own death signal"]);
    assert!(through.iter().all(|row| row["outcome"] == "known"), "{through:?}");
    assert_eq!((&b["contained"], &b["profile"]), (&json!(false), &json!("off")));
    assert!(c["error"].as_str().unwrap().contains("no-such-program"), "{c}");
    let output = world.run(&["doctor", "--server", "a"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(
        text.contains("  seccomp     on  3 filters") && text.contains("attacks denied"),
        "{text}"
    );
    // The whole matrix: every attack in a line, every server that has a box in a column.
    let output = world.run(&["doctor", "--attack"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, matrix) = text.split_once("\nattack ").unwrap_or_else(|| panic!("{text}"));
    assert!(
        matrix.lines().count() > 80 && matrix.lines().next().unwrap().trim() == "a",
        "{matrix}"
    );
    let row = |name: &str| matrix.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    assert!(row("an abstract socket outside").ends_with("  EPERM"), "{matrix}");
    assert!(row("listen without bind").ends_with("  reached, as known"), "{matrix}");
    // Nothing that the probe has made is left.
    let home = world.path(".local/state/mcp-gateway/backends/a");
    assert_eq!(fs::read_dir(home).unwrap().count(), 0);
    world.assert_empty();
}
