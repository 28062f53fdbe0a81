//! `plugins:` of the config: Python functions as tools, each set of them in a host of its own.

use std::{fs, process::Output};

use serde_json::{Value, json};

use crate::harness::{Client, World, eventually, faulty, python};

const ADD: &str = r#"
from mcp_gateway import tool

@tool(description="Add two numbers")
def add(a: float, b: float) -> float:
    return a + b
"#;

const ODD: &str = r#"
import os, sys, time
from mcp_gateway import Context, Image, tool

@tool
def greet(name: str) -> str:
    print("printed", name)
    return f"hello {name}"

@tool
def crash() -> str:
    os._exit(3)

@tool
def leave() -> str:
    sys.exit(4)

@tool
def spin() -> str:
    while True:
        pass

@tool
def huge() -> str:
    return "x" * (1 << 30)

@tool
def variable(name: str) -> str:
    return os.environ.get(name, "none")

@tool
def peek(path: str) -> str:
    return open(path).read()

@tool
def connect(port: int) -> str:
    import socket
    return str(socket.create_connection(("127.0.0.1", port), 2))

@tool
def parent() -> str:
    os.kill(os.getppid(), 9)
    return "killed"

@tool
def forks(count: int) -> int:
    made = 0
    for _ in range(count):
        try:
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
        except OSError:
            break
        made += 1
    return made

@tool
def files() -> int:
    import resource
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

@tool
def space() -> str:
    return str(os.stat("/proc/self/ns/pid").st_ino)

@tool
def steps(count: int, ctx: Context) -> str:
    for n in range(count):
        ctx.progress(n + 1, count)
    return "done"

@tool
def ask(ctx: Context) -> str:
    answer = ctx.elicit("Your name?", str).result()
    return f"hello {answer.data}" if answer else "nobody"

@tool
def dot() -> Image:
    return Image(data=b"\x89PNG\r\n\x1a\n", format="png")

@tool
def point() -> dict[str, int]:
    return {"x": 1}
"#;

/// A world with these plugins; `{PY}` is Python itself, which starts sooner than a shim of it.
fn world(config: &str, files: &[(&str, &str)]) -> World {
    let world = World::new(&config.replace("{PY}", python()));
    for (name, text) in files {
        let path = world.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    world
}

/// One host with [`ODD`], and a server beside it.
fn odd(keys: &str) -> World {
    let config = format!(
        "servers:\n{}plugins: [{{module: odd, python: {{PY}}{keys}}}]\n",
        faulty("f", "slow", "")
    );
    world(&config, &[("odd.py", ODD)])
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn call(client: &mut impl Client, tool: &str, arguments: Value) -> Value {
    client.request("tools/call", &json!({"name": tool, "arguments": arguments})).json()["result"]
        .clone()
}

/// What a function says that could not do it.
fn failed(client: &mut impl Client, tool: &str, arguments: Value) -> String {
    let result = call(client, tool, arguments);
    assert_eq!(result["isError"], true, "{result}");
    result["content"][0]["text"].as_str().unwrap().to_owned()
}

#[test]
fn the_plugin_of_the_seeds_readme_is_a_tool_without_more_words() {
    let config = "servers: {}\nplugins:\n  - module: my_tools.calculator\n  - notes\n";
    let notes =
        "from mcp_gateway import tool\n@tool()\ndef note(text: str) -> str:\n    return text\n";
    let files = [("my_tools/calculator.py", ADD), ("notes.py", notes)];
    let world = world(config, &files);
    let (out, _) = text(&world.run(&["list"]));
    assert_eq!(
        out,
        "Servers (0):\n\nPlugins (2):\n  add: Add two numbers\n  note: note\n\nTotal tools: 3\n"
    );
    let mut client = world.stdio();
    assert_eq!(client.tools(), ["add", "note", "gateway_status"]);
    let sum = call(&mut client, "add", json!({"a": 1.5, "b": 2}));
    assert_eq!(sum["structuredContent"], json!({"result": 3.5}));
    // What does not fit is refused before the function runs.
    let wrong = call(&mut client, "add", json!({"a": "1", "b": 2}));
    assert_eq!(wrong["isError"], true, "{wrong}");
    drop(client);
    world.assert_empty();
}

#[test]
fn plugins_are_listed_from_what_they_said_last_until_their_code_changes() {
    let world = world("plugins: [{module: sums, python: {PY}}]\n", &[("sums.py", ADD)]);
    let mut first = world.stdio();
    assert_eq!(first.tools(), ["add", "gateway_status"]);
    let kept = || fs::read_dir(world.path("cache/catalog")).ok()?.next().map(drop);
    eventually("what it said to be on disk", kept);
    drop(first);
    world.gone_soon(0);
    let mut client = world.stdio();
    assert_eq!(client.tools(), ["add", "gateway_status"]);
    assert!(
        world.children().is_empty(),
        "Python ran for a list that is known: {:?} {}",
        world.children(),
        client.status()
    );
    drop(client);
    fs::write(world.path("sums.py"), ADD.replace("def add", "def plus")).unwrap();
    assert_eq!(world.stdio().tools(), ["plus", "gateway_status"]);
}

#[test]
fn entries_with_words_of_their_own_have_a_host_of_their_own() {
    let odd = ODD.replace("def greet", "def welcome");
    let config = "plugins:
  - {module: odd, python: {PY}, path: deep/er, prefix: m_, env: {WHO: me, PYTHONPATH: /nowhere}}
  - {file: more/one.py, python: {PY}, prefix: f_, tools: {allow: [add]}}
  - {dir: all, python: {PY}, prefix: d_, limits: {memory: 300M}, share: session}
";
    let files = [
        ("deep/er/odd.py", odd.as_str()),
        ("more/one.py", ADD),
        (
            "all/two.py",
            "from lib import NAME\nfrom mcp_gateway import tool\n@tool\ndef two() -> str:\n    return NAME\n",
        ),
        ("all/lib.py", "NAME = 'shared'\n"),
        ("all/_hidden.py", ADD),
        ("all/test_two.py", "raise SystemExit"),
    ];
    let world = world(config, &files);
    let mut client = world.stdio();
    let tools = client.tools();
    assert!(tools.contains(&"m_welcome".to_owned()), "{tools:?}");
    let of = |prefix: &str| -> Vec<&str> {
        tools.iter().map(String::as_str).filter(|name| name.starts_with(prefix)).collect()
    };
    assert_eq!((of("f_"), of("d_")), (vec!["f_add"], vec!["d_two"]));
    assert_eq!(client.text("m_variable", json!({"name": "WHO"})), "me");
    assert_eq!(client.text("m_variable", json!({"name": "MCP_GATEWAY_CACHE"})), "none");
    assert_eq!(client.text("d_two", json!({})), "shared");
    let names: Vec<String> = client.status()["servers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|server| server["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["plugins", "plugins-2", "plugins-3"]);
}

#[test]
fn another_python_brings_its_own_packages() {
    let world = world(
        "plugins: [{module: uses, python: venv/bin/python}]\n",
        &[(
            "uses.py",
            "import only_here\nfrom mcp_gateway import tool\n@tool\ndef which() -> str:\n    return only_here.NAME\n",
        )],
    );
    let made = std::process::Command::new(python())
        .args(["-m", "venv", "--without-pip"])
        .arg(world.path("venv"))
        .status()
        .unwrap();
    assert!(made.success());
    let lib = fs::read_dir(world.path("venv/lib")).unwrap().next().unwrap().unwrap().path();
    fs::write(lib.join("site-packages/only_here.py"), "NAME = 'of the venv'\n").unwrap();
    assert_eq!(world.stdio().text("which", json!({})), "of the venv");
}

#[test]
fn a_server_never_has_the_name_of_a_plugins_tool() {
    let config = format!(
        "servers:\n{}plugins: [{{module: echo, python: {{PY}}}}]\n",
        faulty("f", "slow", "prefix: ''")
    );
    let echo =
        "from mcp_gateway import tool\n@tool\ndef echo(text: str) -> str:\n    return 'mine'\n";
    let world = world(&config, &[("echo.py", echo)]);
    let mut client = world.stdio();
    assert_eq!(client.tools()[0], "echo");
    assert_eq!(client.text("echo", json!({"text": "x"})), "mine");
}

#[test]
fn what_cannot_be_loaded_is_told_with_file_and_line_and_the_rest_runs() {
    let config = "plugins: [{module: sums, python: {PY}}, {module: broken, python: {PY}}, {module: gone, python: {PY}}]\n";
    let broken = "import os\nimport nosuchthing\n";
    let world = world(config, &[("sums.py", ADD), ("broken.py", broken)]);
    let line =
        format!("{}:2: plugin broken: ModuleNotFoundError", world.path("broken.py").display());
    let check = world.run(&["check"]);
    let (_, said) = text(&check);
    assert!(said.contains(&line) && said.contains("plugin gone: "), "{said}");
    assert_eq!(check.status.code(), Some(78));
    let (json, _) = text(&world.run(&["check", "--json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert!(json[0]["what"].as_str().unwrap().starts_with(&line), "{json}");
    let (out, said) = text(&world.run(&["list"]));
    assert!(out.contains("  add: Add two numbers") && said.contains(&line), "{out}{said}");
    let mut client = world.stdio();
    assert_eq!(client.tools(), ["add", "gateway_status"]);
    let problems = client.status()["servers"][0]["problems"].to_string();
    assert!(problems.contains("broken.py:2: plugin broken"), "{problems}");
    drop(client);
    // What was missing comes without a change of the plugin.
    fs::write(world.path("nosuchthing.py"), "").unwrap();
    fs::write(world.path("gone.py"), "").unwrap();
    assert_eq!(world.run(&["check"]).status.code(), Some(0));
}

#[test]
fn a_python_that_is_not_there_is_told() {
    let world = world("plugins: [{module: sums, python: /no/python}]\n", &[("sums.py", ADD)]);
    let check = world.run(&["check"]);
    let (_, said) = text(&check);
    assert!(said.contains("/no/python"), "{said}");
    assert_eq!(check.status.code(), Some(78));
}

#[test]
fn whatever_a_plugin_does_it_does_to_itself() {
    let world = odd(", timeouts: {call: 2s, stop: 1s}");
    let mut client = world.stdio();
    assert_eq!(client.text("greet", json!({"name": "Ada"})), "hello Ada");
    client.gateway().logged("printed Ada");
    let crash = client.failure("crash", json!({}));
    assert!(crash.contains("\"plugins\"") && crash.contains("exit status: 3"), "{crash}");
    let left = failed(&mut client, "leave", json!({}));
    assert!(left.contains("plugin odd, function leave called sys.exit(4)"), "{left}");
    let spun = client.failure("spin", json!({}));
    assert!(spun.contains("timeouts.call"), "{spun}");
    let huge = failed(&mut client, "huge", json!({}));
    assert!(huge.contains("plugin odd, function huge"), "{huge}");
    assert_eq!(client.text("greet", json!({"name": "Bob"})), "hello Bob");
    assert_eq!(client.text("f_echo", json!({"text": "untouched"})), "untouched");
    drop(client);
    world.assert_empty();
}

#[test]
fn a_plugin_gets_no_further_than_its_sandbox() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let world = odd(", sandbox: {network: none}, limits: {processes: 20}");
    world.write("secret", "of another");
    let mut client = world.stdio();
    for path in [world.path("secret"), world.path("gateway.yaml"), "/etc/shadow".into()] {
        let told = failed(&mut client, "peek", json!({"path": path}));
        assert!(told.contains("plugin odd, function peek"), "{told}");
    }
    let told = failed(&mut client, "connect", json!({"port": port}));
    assert!(told.contains("plugin odd, function connect"), "{told}");
    // What it leaves behind ends with it, below.
    client.text("forks", json!({"count": 10}));
    // Its parent is the first process of its own namespace, which it cannot kill.
    let _ = client.request("tools/call", &json!({"name": "parent", "arguments": {}}));
    assert_eq!(client.text("f_echo", json!({"text": "still"})), "still");
    assert_eq!(client.text("greet", json!({"name": "Eve"})), "hello Eve");
    drop(client);
    world.assert_empty();
    let doctor = world.run(&["doctor", "--server", "plugins", "--json"]);
    assert_eq!(doctor.status.code(), Some(0), "{:?}", text(&doctor));
    assert!(text(&doctor).0.contains("seccomp"), "{}", text(&doctor).0);
}

#[test]
fn progress_images_and_structured_results_come_as_they_are() {
    let world = odd("");
    let mut client = world.stdio();
    client.tools();
    let id = client.start_call("steps", json!({"count": 3}));
    assert!(client.response(id).result().contains("done"));
    let steps: Vec<Value> = client
        .kept()
        .iter()
        .map(|message| message.json())
        .filter(|message| message["method"] == "notifications/progress")
        .map(|message| message["params"]["progress"].clone())
        .filter(|step| step.as_f64() >= Some(1.0))
        .collect();
    assert_eq!(steps, [1, 2, 3].map(Value::from));
    let dot = call(&mut client, "dot", json!({}));
    assert_eq!(
        (&dot["content"][0]["type"], &dot["content"][0]["mimeType"]),
        (&json!("image"), &json!("image/png"))
    );
    assert_eq!(call(&mut client, "point", json!({}))["structuredContent"], json!({"x": 1}));
}

#[test]
fn a_call_that_is_cancelled_ends_in_the_plugin_too() {
    let world = odd(", timeouts: {call: 60s}");
    let mut client = world.stdio();
    client.tools();
    let id = client.start_call("spin", json!({}));
    eventually("the call to arrive", || (client.instance("plugins")["calls"] == 1).then_some(()));
    client.send(&format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
    ));
    eventually("the call to end", || (client.instance("plugins")["calls"] == 0).then_some(()));
    assert_eq!(client.text("greet", json!({"name": "you"})), "hello you");
}

#[test]
fn roles_hold_for_plugins() {
    let config =
        "plugins: [{module: odd, python: {PY}}]\nroles: {some: [gre*, gateway_*], none: []}\n";
    let world = world(config, &[("odd.py", ODD)]).env("MCP_GATEWAY_ROLE", "some");
    let mut client = world.stdio();
    assert_eq!(client.tools(), ["greet", "gateway_status"]);
    let told = client.request("tools/call", &json!({"name": "spin", "arguments": {}}));
    assert!(told.error().contains("spin"), "{}", told.error());
}

#[test]
fn a_plugin_that_is_watched_is_what_it_is_when_it_is_saved() {
    for watch in [true, false] {
        let config = format!("plugins: [{{module: sums, python: {{PY}}, watch: {watch}}}]\n");
        let world = world(&config, &[("sums.py", ADD)]);
        let mut client = world.stdio();
        assert_eq!(client.tools(), ["add", "gateway_status"]);
        let sum = json!({"a": 1, "b": 2});
        assert_eq!(client.text("add", sum.clone()), "3.0");
        // As an editor does: a new file in place of the old one.
        fs::write(world.path("new"), ADD.replace("a + b", "a * b * 10")).unwrap();
        fs::rename(world.path("new"), world.path("sums.py")).unwrap();
        if watch {
            client.notice("notifications/tools/list_changed");
            assert_eq!(client.text("add", sum), "20.0");
        } else {
            assert_eq!(client.text("add", sum), "3.0");
        }
        drop(client);
        world.assert_empty();
    }
}

#[test]
fn a_new_plugin_runs_and_overwrites_nothing() {
    let world =
        World::new(&format!("plugins: [{{file: tools/my_notes.py, python: {}}}]\n", python()));
    let made = world.run(&["new-plugin", "my_notes", "--dir", "tools"]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made).1);
    assert!(world.read("tools/test_my_notes.py").contains("class MyNotes("));
    let count = json!({"text": "a b A", "word": "a"});
    assert_eq!(world.stdio().text("my_notes_count", count), "2");
    let again = world.run(&["new-plugin", "my_notes", "--dir", "tools"]);
    assert_eq!(again.status.code(), Some(64));
    assert!(text(&again).1.contains("my_notes.py is there already"), "{}", text(&again).1);
    for name in ["", "a b", "1a", "ü", "../x", "mcp_gateway"] {
        assert_eq!(world.run(&["new-plugin", name]).status.code(), Some(64), "{name}");
    }
}

#[test]
fn limits_and_share_are_those_of_a_server() {
    for (share, apart) in [("user", false), ("session", true)] {
        let world = odd(&format!(", limits: {{open_files: 77}}, share: {share}"));
        let daemon = world.serve();
        let (mut one, mut two) = (daemon.unix(), daemon.unix());
        assert_eq!(one.text("files", json!({})), "77");
        // Each box has a namespace of its own.
        let boxes = [one.text("space", json!({})), two.text("space", json!({}))];
        assert_eq!(boxes[0] != boxes[1], apart, "{share}: {boxes:?}");
    }
}
