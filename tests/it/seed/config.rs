//! 51–53: the config and the command line.

use serde_json::{Value, json};

use crate::harness::{Client, World, eventually, example, faulty};

#[test]
fn every_problem_is_told_at_once_with_its_place() {
    let world = World::new(
        "servers:
  good: {command: \"true\"}
  typo: {comand: npx}
  remote: {command: x, url: \"http://example.com\"}
  bare: {}
  text: {command: x, args: \"-y\"}
  seven: 7
  null:
  1: {command: x}
  env: {command: x, env: [A=1]}
  unset: {command: x, env: {T: \"${NO_SUCH_VARIABLE}\"}}
idle_timout: 5
",
    );
    let output = world.run(&["check"]);
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8(output.stderr).unwrap();
    for (line, words) in [
        (3, "did you mean `command`"),
        (4, "url"),
        (5, "has no command"),
        (6, "args"),
        (7, "servers.seven"),
        (8, "servers"),
        (10, "env"),
        (11, "NO_SUCH_VARIABLE"),
        (12, "did you mean `idle_timeout`"),
    ] {
        let place = format!("gateway.yaml:{line}:");
        let told = text.lines().any(|told| told.contains(&place) && told.contains(words));
        assert!(told, "line {line}: {words} in\n{text}");
    }
    assert!(!text.contains("panicked") && !text.contains("Traceback"), "{text}");
    // The other verbs say the same and start nothing.
    for verb in ["stdio", "serve", "list", "call"] {
        let args: &[&str] = if verb == "call" { &["call", "x"] } else { &[verb] };
        let output = world.run(args);
        assert_eq!(output.status.code(), Some(78), "{verb}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains("did you mean `command`"), "{verb}: {said}");
    }
    let output = World::new("").run(&["check", "--config", "/no/such/file.yaml"]);
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("/no/such/file.yaml") && text.lines().count() == 1, "{text}");
}

#[test]
fn a_problem_list_for_programs_is_json() {
    let world = World::new("servers:\n  x: {comand: y}\n");
    let output = world.run(&["check", "--json"]);
    assert_eq!(output.status.code(), Some(78));
    let problems: Value = serde_json::from_slice(&output.stdout).unwrap();
    let first = &problems[0];
    assert_eq!(first["line"], 2, "{problems}");
    assert!(first["column"].is_u64() && first["severity"] == "error", "{problems}");
    assert!(first["where"].as_str().unwrap().starts_with("servers.x"), "{problems}");
}

#[test]
fn enabled_and_lazy_mean_what_they_say() {
    for quoted in ["\"false\"", "\"no\"", "\"off\"", "maybe", "[]"] {
        let world = World::new(&format!("servers:\n  f: {{command: x, enabled: {quoted}}}\n"));
        let output = world.run(&["list"]);
        assert_eq!(output.status.code(), Some(78), "{quoted} is neither on nor off");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("gateway.yaml:2:") && text.contains("servers.f.enabled"), "{text}");
    }
    let words = ["no", "off", "false", "No", "OFF", "n0t"];
    let servers: String = words[..5]
        .iter()
        .enumerate()
        .map(|(n, word)| {
            faulty(&format!("f{n}"), "plain", &format!("enabled: {word}, lazy: false"))
        })
        .collect();
    let servers = servers + &faulty("on", "plain", "enabled: yes, lazy: false");
    let world = World::with(&servers);
    let mut client = world.stdio();
    // `lazy: false` starts with the gateway, without a call.
    eventually("the eager backend", || (world.children().len() == 1).then_some(()));
    let tools = client.tools();
    assert!(
        tools.iter().all(|tool| tool.starts_with("on_") || tool == "gateway_status"),
        "{tools:?}"
    );
}

#[test]
fn list_shows_tools_roles_and_disabled_servers() {
    let servers = [example("e", "echo", "", ""), faulty("f", "plain", "enabled: false")];
    let world =
        World::new(&format!("servers:\n{}roles: {{reader: [\"e_*\"]}}\n", servers.concat()));
    let output = world.run(&["list", "--tools"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("  e_echo: Return the text that was given\n"), "{text}");
    let output = world.run(&["list", "--tools", "--json"]);
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(list["roles"], json!(["reader"]));
    assert_eq!(list["servers"][1]["enabled"], false);
    let names: Vec<&str> = list["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["e_echo", "e_add", "gateway_status"]);
    world.assert_empty_now();
}

#[test]
fn list_is_the_seeds_text() {
    let world = World::new(
        "servers:
  filesystem: {command: npx, args: [\"-y\", \"@modelcontextprotocol/server-filesystem\", \"/tmp\"]}
  off: {command: x, enabled: false}
",
    );
    let output = world.run(&["list"]);
    let expected = "Servers (1):
  filesystem: npx -y @modelcontextprotocol/server-filesystem /tmp [enabled]

Total tools: 2
";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

#[test]
fn the_seeds_samples_load_and_its_habits_of_the_command_line_hold() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    for sample in ["1-quickstart", "2-roles", "3-undocumented", "4-yaml11"] {
        let path = format!("{folder}/seed-{sample}.yaml");
        let world = World::new("");
        for args in [
            vec!["check".to_owned(), "--config".to_owned(), path.clone()],
            vec!["check".to_owned(), format!("--config={path}")],
            vec!["check".to_owned(), format!("-c{path}")],
            vec!["check".to_owned(), "--conf".to_owned(), path.clone()],
        ] {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let output = world.run(&args);
            assert_eq!(output.status.code(), Some(0), "{args:?}: {output:?}");
        }
    }
    let world = World::new("");
    std::fs::rename(world.path("gateway.yaml"), world.path("mcp-gateway.yaml")).unwrap();
    world.write("mcp-gateway.yaml", "servers: {m: {command: x}}\n");
    let text = String::from_utf8(world.run(&["list"]).stdout).unwrap();
    assert!(text.starts_with("Servers (1):\n  m: x"), "{text}");
    assert_eq!(world.run(&["frobnicate"]).status.code(), Some(64));
}

#[test]
fn a_first_call_of_an_npx_config_without_npx_says_so() {
    let world = World::with("  files: {command: npx-that-is-not-there, args: [-y, x]}\n");
    let output = world.run(&["call", "files_read"]);
    assert_ne!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!text.is_empty() && text.lines().count() <= 3, "{text}");
    let output = world.run(&["call", "_files_connect"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("npx-that-is-not-there"), "{text}");
}
