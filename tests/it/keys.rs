//! Every key of the config changes what happens.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Client, World, eventually, example, faulty, python};

/// What a process of the mode `env` is.
fn look(client: &mut dyn Client, tool: &str) -> Value {
    serde_json::from_str(&client.text(tool, json!({}))).unwrap()
}

#[test]
fn command_args_env_and_cwd_make_the_process() {
    let mut server = faulty("f", "env", "");
    let words: Vec<String> =
        ["env", "${HOME}", "$X", "~", "two words"].iter().map(|word| format!("{word:?}")).collect();
    server = server.replace("\"env\"]", &format!("{}]", words.join(", ")));
    let keys = "env: {A: one, B: \"${GIVEN}\", C: \"${NOT_GIVEN:-default}\", D: $GIVEN/x, E: 010, PATH: /only}, cwd: sub";
    server = server.replace("]}", &format!("], {keys}}}"));
    let world = World::with(&server).env("GIVEN", "given").env("SECRET_OF_THE_GATEWAY", "hidden");
    std::fs::create_dir(world.path("sub")).unwrap();
    // Inherited by the gateway, as from a careless shell.
    let _left_open = nix::unistd::dup(std::io::stdin()).unwrap();
    let is = look(&mut world.stdio(), "f_env");
    let argv: Vec<&str> =
        is["argv"].as_array().unwrap()[1..].iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(argv, ["env", "${HOME}", "$X", "~", "two words"], "as written");
    let env = &is["env"];
    for (name, value) in [
        ("A", "one"),
        ("B", "given"),
        ("C", "default"),
        ("D", "given/x"),
        ("E", "010"),
        ("PATH", "/only"),
    ] {
        assert_eq!(env[name], value, "{name}");
    }
    let home = world.path(".local/state/mcp-gateway/backends/f");
    assert_eq!(env["HOME"], home.to_str().unwrap(), "a home of its own");
    let allowed = ["HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "A", "B", "C", "D", "E"];
    for name in env.as_object().unwrap().keys() {
        // The interpreter and the loader may add their own.
        assert!(allowed.contains(&name.as_str()) || name.starts_with("LC_"), "{name} leaks");
    }
    let sub = world.path("sub").canonicalize().unwrap();
    assert_eq!(is["cwd"], sub.to_str().unwrap());
    assert_eq!(is["pid"], is["pgid"], "a process group of its own");
    let open = is["fds"].as_object().unwrap();
    assert!(open.keys().all(|fd| fd.parse::<u32>().unwrap() < 4), "{open:?}");
}

#[test]
fn a_cwd_that_is_missing_is_told() {
    let world = World::with(&faulty("f", "plain", "cwd: /no/such/folder"));
    let text = world.stdio_with_error("f");
    assert!(text.contains("cwd /no/such/folder is not a folder"), "{text}");
}

#[test]
fn a_prefix_replaces_the_servers_name() {
    let servers = [
        faulty("one", "counter", "prefix: x_"),
        faulty("two", "pages 2", "prefix: \"\""),
        faulty("three", "plain", ""),
    ];
    let world = World::with(&servers.concat());
    let tools = world.stdio().tools();
    for name in ["x_next", "x_echo", "tool_001", "echo", "three_echo"] {
        assert!(tools.contains(&name.to_owned()), "{name} in {tools:?}");
    }
    assert!(!tools.iter().any(|name| name.starts_with("one_") || name.starts_with("two_")));
}

#[test]
fn discover_placeholder_is_the_seeds_behaviour_to_the_letter() {
    let keys = "discover: placeholder, timeouts: {idle: 1s}";
    let servers =
        faulty("ev-ery", "plain", keys) + &faulty("bad", "exit-at-once", "discover: placeholder");
    let world = World::with(&servers);
    let mut client = world.stdio();
    let list = client.ask("tools/list", json!({}))["result"]["tools"].clone();
    assert_eq!(
        list[0],
        json!({
            "name": "_ev_ery_connect",
            "description": "[ev-ery] Connect and discover tools. Call this to activate ev-ery and see its real tools.",
            "inputSchema": {"type": "object", "properties": {}},
        })
    );
    assert!(world.children().is_empty(), "nothing is started for a list");
    let told: Value = serde_json::from_str(&client.text("_ev_ery_connect", json!({}))).unwrap();
    assert_eq!(
        told,
        json!({
            "connected": "ev-ery",
            "tools_discovered": 3,
            "tool_names": ["ev-ery_cancelled", "ev-ery_echo", "ev-ery_pid"],
            "hint": "Tools are now available. Call them directly by name.",
        })
    );
    let tools = client.tools();
    assert_eq!(tools[..3], ["ev-ery_echo", "ev-ery_pid", "ev-ery_cancelled"]);
    // The placeholder has left the list and still answers.
    assert!(client.text("_ev_ery_connect", json!({})).contains("ev-ery_echo"));
    let told: Value = serde_json::from_str(&client.text("_bad_connect", json!({}))).unwrap();
    assert_eq!(told["error"], "Failed to connect to bad");
    // Idle: the placeholder comes back, and the tools keep their routes.
    eventually("the idle backend to stop", || world.children().is_empty().then_some(()));
    eventually("its placeholder", || {
        client.tools().contains(&"_ev_ery_connect".to_owned()).then_some(())
    });
    assert_eq!(client.text("ev-ery_echo", json!({"text": "hello"})), "hello");
}

#[test]
fn discover_auto_lists_at_first_contact_and_then_from_disk_with_every_backend_asleep() {
    let world = World::with(&faulty(
        "f",
        "plain",
        "env: {MCP_TRACE: \"{DIR}/traces/all\"}, sandbox: {write: [\"{DIR}/traces\"]}",
    ));
    let mut first = world.stdio();
    let tools = first.tools();
    assert!(tools.contains(&"f_echo".to_owned()), "on the first list: {tools:?}");
    first.close();
    first.gateway().ended();
    std::fs::remove_file(world.path("traces/all")).unwrap();
    let mut second = world.stdio();
    assert_eq!(second.tools(), tools);
    assert_eq!(world.read("traces/all"), "", "nothing was started");
    assert_eq!(second.text("f_echo", json!({"text": "hello"})), "hello");
}

#[test]
fn share_says_who_meets_in_one_process() {
    let shares = ["user", "session", "project", "all"];
    let servers: String =
        shares.iter().map(|share| faulty(share, "counter", &format!("share: {share}"))).collect();
    let world = World::with(&servers);
    let daemon = world.serve();
    let preface = |folder: &str| format!("{{\"cwd\":{folder:?}}}");
    let mut clients = [
        daemon.raw_unix(&preface("/usr")).opened(),
        daemon.raw_unix(&preface("/usr")).opened(),
        daemon.raw_unix(&preface("/var")).opened(),
    ];
    let mut counted = |share: &str| -> Vec<String> {
        clients.iter_mut().map(|client| client.text(&format!("{share}_next"), json!({}))).collect()
    };
    assert_eq!(counted("user"), ["1", "2", "3"]);
    assert_eq!(counted("session"), ["1", "1", "1"]);
    assert_eq!(counted("project"), ["1", "2", "1"]);
    assert_eq!(counted("all"), ["1", "2", "3"]);
}

#[test]
fn share_session_hears_its_own_client() {
    let servers = faulty("own", "env", "share: session") + &faulty("all", "env", "");
    let world = World::with(&servers);
    let mut client = world.stdio();
    let own = look(&mut client, "own_env")["client"].clone();
    assert_eq!(own["clientInfo"]["name"], "it", "{own}");
    assert_eq!(own["capabilities"], json!({}));
    let all = look(&mut client, "all_env")["client"].clone();
    assert_eq!(all["clientInfo"]["name"], "mcp-gateway", "{all}");
}

#[test]
fn roots_are_what_the_backend_is_told_of() {
    let keys = "roots: [/srv, {uri: \"file:///opt\", name: opt}, ~/sub]";
    let servers = faulty("f", "roots", keys) + &faulty("p", "roots", "share: project");
    let world = World::with(&servers);
    let mut client = world.stdio();
    let reply: Value = serde_json::from_str(&client.text("f_ask", json!({}))).unwrap();
    let sub = format!("file://{}/sub", world.folder().display());
    assert_eq!(
        reply["result"]["roots"],
        json!([{"uri": "file:///srv"}, {"uri": "file:///opt", "name": "opt"}, {"uri": sub}])
    );
    let reply: Value = serde_json::from_str(&client.text("p_ask", json!({}))).unwrap();
    let own = format!("file://{}", world.folder().display());
    assert_eq!(reply["result"]["roots"], json!([{ "uri": own }]));
}

#[test]
fn limits_calls_bounds_what_is_in_flight_and_the_rest_waits() {
    let world = World::with(&faulty("f", "slow", "limits: {calls: 2}"));
    let mut client = world.stdio();
    client.text("f_echo", json!({}));
    let began = Instant::now();
    let ids: Vec<u64> =
        (0..6).map(|_| client.start_call("f_sleep", json!({"ms": 500, "every": 500}))).collect();
    for id in ids {
        client.response(id).result();
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1450), "three rounds of two: {took:?}");
}

#[test]
fn limits_line_bounds_an_answer() {
    let servers = faulty("f", "plain", "limits: {line: 100K}, timeouts: {stop: 500ms}")
        + &faulty("g", "plain", "");
    let world = World::with(&servers);
    let mut client = world.stdio();
    let small = "x".repeat(90_000);
    let large = "x".repeat(200_000);
    assert_eq!(client.text("f_echo", json!({"text": small})), small);
    let text = client.failure("f_echo", json!({"text": large}));
    assert!(text.contains("limits.line"), "{text}");
    assert_eq!(client.text("g_echo", json!({"text": large})), large);
}

#[test]
fn tools_allow_and_deny_say_what_exists() {
    let servers = [
        faulty("a", "counter,env", "tools: {allow: [\"e*\", next], deny: [env]}"),
        faulty("d", "counter", "tools: {deny: [\"*e*\"]}"),
    ];
    let world = World::with(&servers.concat());
    let mut client = world.stdio();
    assert_eq!(client.tools(), ["a_echo", "a_next", "d_pid", "gateway_status"]);
    for tool in ["a_env", "a_pid", "d_echo", "d_next", "env"] {
        assert_eq!(client.failure(tool, json!({})), format!("Unknown tool: {tool}"));
    }
    let mut own = world.stdio_with("a");
    assert_eq!(own.tools(), ["echo", "next"]);
    let answer = own.call("env", json!({}));
    assert!(answer["error"].is_object(), "on its own endpoint too: {answer}");
}

#[test]
fn roles_as_lists_and_as_maps() {
    let servers = faulty("f", "counter", "") + &faulty("g", "plain", "");
    let roles = "roles:
  all: null
  none: []
  list: [\"f_*\"]
  question: [\"?_echo\", \"[!g]_pid\"]
  map: {allow: [\"f_*\", \"g_*\"], deny: [\"*_pid\", \"*_cancelled\"]}
  but: {deny: [\"f_*\", \"gateway_*\"]}
";
    let world = World::new(&format!("servers:\n{servers}{roles}"));
    let daemon = world.serve();
    let all = [
        "f_echo",
        "f_pid",
        "f_cancelled",
        "f_next",
        "g_echo",
        "g_pid",
        "g_cancelled",
        "gateway_status",
    ];
    for (role, expected) in [
        ("all", &all[..]),
        ("none", &[]),
        ("list", &all[..4]),
        ("question", &["f_echo", "f_pid", "g_echo"]),
        ("map", &["f_echo", "f_next", "g_echo"]),
        ("but", &all[4..7]),
    ] {
        let mut client = daemon.raw_unix(&format!("{{\"role\":{role:?}}}")).opened();
        assert_eq!(client.tools(), expected, "{role}");
        for tool in all {
            let known = client.call(tool, json!({}))["error"].is_null();
            assert_eq!(
                known,
                expected.contains(&tool),
                "{role}: what is shown is what is callable: {tool}"
            );
        }
    }
}

#[test]
fn a_role_hides_resources_and_prompts_too() {
    let servers = faulty("r", "resources", "") + &faulty("p", "prompts", "");
    let world =
        World::new(&format!("servers:\n{servers}roles: {{tools: [\"r_touch\", \"p_grow\"]}}\n"));
    let daemon = world.serve();
    let mut client = daemon.raw_unix(r#"{"role":"tools"}"#).opened();
    assert_eq!(client.tools(), ["r_touch", "p_grow"]);
    assert_eq!(client.ask("resources/list", json!({}))["result"]["resources"], json!([]));
    assert_eq!(
        client.ask("resources/templates/list", json!({}))["result"]["resourceTemplates"],
        json!([])
    );
    assert_eq!(client.ask("prompts/list", json!({}))["result"]["prompts"], json!([]));
    for (method, params) in [
        ("resources/read", json!({"uri": "faulty://one"})),
        ("resources/subscribe", json!({"uri": "faulty://one"})),
        ("prompts/get", json!({"name": "p_greeting"})),
        (
            "completion/complete",
            json!({"ref": {"type": "ref/prompt", "name": "p_greeting"}, "argument": {"name": "who", "value": "a"}}),
        ),
    ] {
        let answer = client.ask(method, params);
        assert!(answer["error"].is_object(), "{method}: {answer}");
    }
}

#[test]
fn the_name_is_what_clients_see() {
    let servers = example("e", "echo", "", "");
    let world = World::new(&format!("name: team-gw\nservers:\n{servers}"));
    let answer = world.raw_stdio(&[]).initialize(json!({})).json();
    assert_eq!(answer["result"]["serverInfo"]["name"], "team-gw");
    let answer = World::new("").raw_stdio(&[]).initialize(json!({})).json();
    assert_eq!(answer["result"]["serverInfo"]["name"], "mcp-gateway");
}

#[test]
fn idle_timeout_0_is_never_and_a_servers_own_time_wins() {
    let servers =
        faulty("own", "plain", "timeouts: {idle: 300ms}") + &faulty("stays", "counter", "");
    let world = World::new(&format!("idle_timeout: 0\nservers:\n{servers}"));
    let mut client = world.stdio();
    client.text("own_echo", json!({}));
    client.text("stays_next", json!({}));
    eventually("one to stop", || (world.children().len() == 1).then_some(()));
    assert_eq!(client.text("stays_next", json!({})), "2");
}

#[test]
fn timeouts_stop_is_how_long_a_stubborn_backend_has() {
    for (stop, least, most) in [("500ms", 400, 1500), ("2s", 1800, 4000)] {
        let world =
            World::with(&faulty("f", "ignore-term", &format!("timeouts: {{stop: {stop}}}")));
        let mut client = world.stdio();
        client.text("f_echo", json!({}));
        let began = Instant::now();
        client.close();
        assert_eq!(client.gateway().ended().code(), Some(0));
        let took = began.elapsed();
        assert!((least..most).contains(&took.as_millis()), "{stop}: {took:?}");
    }
}

#[test]
fn a_config_in_json_and_one_with_a_bom_are_read() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/backends/faulty.py");
    let config = json!({"servers": {"f": {"command": python(), "args": [script, "plain"]}}});
    for text in [config.to_string(), format!("\u{feff}{config}")] {
        let world = World::new("");
        let path = world.write("given.json", &text);
        let mut client = world.raw_stdio(&["-c", path.to_str().unwrap()]).opened();
        assert_eq!(client.text("f_echo", json!({"text": "hello"})), "hello");
    }
}

#[test]
fn a_backend_whose_command_has_changed_is_met_anew() {
    let world = World::with(&faulty("f", "plain", ""));
    assert!(!world.stdio().tools().contains(&"f_next".to_owned()));
    world.write("gateway.yaml", &format!("servers:\n{}", faulty("f", "counter", "")));
    assert!(world.stdio().tools().contains(&"f_next".to_owned()));
}

#[test]
fn an_eager_backend_that_fails_does_not_keep_the_gateway_from_serving() {
    let servers = [
        faulty("bad", "exit-at-once", "lazy: false"),
        "  gone: {command: no-such-program, lazy: false}\n".to_owned(),
        faulty("good", "plain", "lazy: false"),
    ];
    let world = World::with(&servers.concat());
    let daemon = world.serve();
    daemon.running.logged("missing API key");
    daemon.running.logged("no program \"no-such-program\"");
    eventually("the good one", || (world.children().len() == 1).then_some(()));
    assert_eq!(daemon.unix().text("good_echo", json!({"text": "hello"})), "hello");
}
