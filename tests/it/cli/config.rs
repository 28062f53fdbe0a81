//! Which config it is, what is wrong with it, what is in it.

use std::fs;

use serde_json::{Value, json};

use super::{run, run_with};
use crate::harness::{World, example, faulty};

/// A config with one server of this name.
fn named(name: &str) -> String {
    format!("servers: {{{name}: {{command: x}}}}\n")
}

fn first_server(listed: &str) -> &str {
    listed.lines().nth(1).unwrap_or_default().trim()
}

#[test]
fn the_seeds_ways_to_name_the_config_all_work() {
    let world = World::new("");
    world.write("o.yaml", &named("other"));
    let ways: [&[&str]; 7] = [
        &["-c", "o.yaml"],
        &["-co.yaml"],
        &["-c=o.yaml"],
        &["--config", "o.yaml"],
        &["--config=o.yaml"],
        &["--conf", "o.yaml"],
        &["--conf=o.yaml"],
    ];
    for way in ways {
        let did = run(&world, &[&["list"], way].concat());
        assert_eq!(did.code, 0, "{way:?}: {}", did.err);
        assert_eq!(first_server(&did.out), "other: x [enabled]", "{way:?}");
    }
}

#[test]
fn configs_are_looked_for_in_order() {
    let world = World::new(&named("first"));
    world.write("mcp-gateway.yaml", &named("second"));
    for folder in ["xdg/mcp-gateway", ".config/mcp-gateway"] {
        fs::create_dir_all(world.path(folder)).unwrap();
        world.write(&format!("{folder}/gateway.yaml"), &named("third"));
    }
    world.write(".config/mcp-gateway/gateway.yaml", &named("fourth"));
    let xdg = world.path("xdg");
    let env = [("XDG_CONFIG_HOME", xdg.to_str().unwrap())];
    let found = || {
        // An empty name is none.
        let [one, two, three] = [&[][..], &["-c", ""], &["--config="]]
            .map(|way| run_with(&world, &[&["list"], way].concat(), &env));
        assert_eq!((&one.out, &two.out, one.code, two.code), (&two.out, &three.out, 0, 0));
        first_server(&one.out).split(':').next().unwrap().to_owned()
    };
    assert_eq!(found(), "first");
    fs::remove_file(world.path("gateway.yaml")).unwrap();
    assert_eq!(found(), "second");
    fs::remove_file(world.path("mcp-gateway.yaml")).unwrap();
    assert_eq!(found(), "third");
    assert_eq!(first_server(&run(&world, &["list"]).out), "fourth: x [enabled]");
    fs::remove_file(world.path(".config/mcp-gateway/gateway.yaml")).unwrap();
    // None at all is an empty gateway, unless one was named.
    if !std::path::Path::new("/etc/mcp-gateway").exists() {
        let did = run(&world, &["list"]);
        assert_eq!((did.code, did.out.as_str()), (0, "Servers (0):\n\nTotal tools: 1\n"));
    }
    let did = run(&world, &["list", "-c", "gone.yaml"]);
    assert_eq!(did.code, 78);
    assert!(did.err.contains("gone.yaml") && did.err.contains("no such file"), "{}", did.err);
    assert_eq!(did.err.lines().count(), 1, "{}", did.err);
}

#[test]
fn check_says_ok_or_everything_that_is_wrong() {
    let world = World::new(&named("a"));
    let did = run(&world, &["check"]);
    assert_eq!((did.code, did.err.as_str()), (0, ""));
    assert!(did.out.contains("gateway.yaml: ok, 1 of 1 servers enabled\n"), "{}", did.out);
    world.write(
        "bad.yaml",
        "servers:
  a: {command: sh, arg: [x], enabled: maybe}
  b: {args: [1]}
plugins: 3
rolez: {}
",
    );
    let did = run(&world, &["check", "-c", "bad.yaml"]);
    assert_eq!((did.code, did.out.as_str()), (78, ""));
    let expected = [
        ("2:20", "servers.a.arg", "unknown key (did you mean `args`?)"),
        ("2:39", "servers.a.enabled", "write true or false"),
        ("3:3", "servers.b", "has no command; name the program to start"),
        ("4:10", "plugins", "write a list, such as [my_tools.text]"),
        ("5:1", "rolez", "unknown key (did you mean `roles`?)"),
    ];
    let lines: String = expected
        .iter()
        .map(|(place, at, what)| format!("bad.yaml:{place}: {at}: {what}\n"))
        .collect();
    assert_eq!(did.err, lines);
    let did = run(&world, &["check", "--json", "-c", "bad.yaml"]);
    assert_eq!((did.code, did.err.as_str()), (78, ""));
    let told: Value = serde_json::from_str(&did.out).unwrap();
    for (problem, (place, at, what)) in told.as_array().unwrap().iter().zip(expected) {
        let told_place = format!("{}:{}", problem["line"], problem["column"]);
        assert_eq!(told_place, place);
        let rest = [&problem["path"], &problem["where"], &problem["what"], &problem["severity"]];
        assert_eq!(rest, ["bad.yaml", at, what, "error"]);
    }
    assert_eq!(told.as_array().unwrap().len(), expected.len());
    let did = run(&world, &["check", "--json"]);
    assert_eq!((did.code, did.out.as_str()), (0, "[]\n"));
}

#[test]
fn warnings_are_told_and_are_no_failure() {
    let world = World::new("servers: {a: {command: x, env: {T: \"${NO_SUCH_VARIABLE}\"}}}\n");
    let did = run(&world, &["check"]);
    assert_eq!(did.code, 0, "{}", did.err);
    assert!(did.err.contains("gateway.yaml:1:") && did.err.contains("NO_SUCH_VARIABLE"));
    let did = run(&world, &["check", "--json"]);
    let told: Value = serde_json::from_str(&did.out).unwrap();
    assert_eq!((did.code, &told[0]["severity"]), (0, &json!("warning")));
}

#[test]
fn check_prints_what_is_in_force_without_secrets() {
    let world =
        World::new("servers: {a: {command: x, env: {TOKEN: hush-1, OTHER: \"${SECRET}\"}}}\n");
    let did = run_with(&world, &["check", "--print"], &[("SECRET", "hush-2")]);
    assert_eq!((did.code, did.err.as_str()), (0, ""));
    assert!(did.out.contains("TOKEN") && did.out.contains("idle"), "{}", did.out);
    assert!(!did.out.contains("hush"), "{}", did.out);
}

#[test]
fn the_role_of_the_environment_must_exist() {
    let world = World::new(&(named("a") + "roles: {reader: [\"a_*\"], writer: null}\n"));
    let wrong = [("MCP_GATEWAY_ROLE", "raeder")];
    let verbs: [&[&str]; 6] = [
        &["check"],
        &["check", "--json"],
        &["call", "gateway_status"],
        &["list", "--tools"],
        &["stdio"],
        &["serve", "--port", "0"],
    ];
    for verb in verbs {
        let did = run_with(&world, verb, &wrong);
        assert_eq!(did.code, 77, "{verb:?}: {}", did.err);
        for word in ["raeder", "reader", "writer"] {
            assert!(did.err.contains(word), "{verb:?}: {word} in {}", did.err);
        }
    }
    for role in ["reader", ""] {
        let did = run_with(&world, &["check"], &[("MCP_GATEWAY_ROLE", role)]);
        assert_eq!(did.code, 0, "{role:?}: {}", did.err);
    }
}

#[test]
fn list_is_the_seeds_text() {
    let world = World::new(
        "servers:
  files: {command: npx, args: [\"-y\", \"@x/files\", \"/tmp\"]}
  off: {command: y, enabled: false}
  bare: {command: z}
",
    );
    let did = run(&world, &["list"]);
    assert_eq!((did.code, did.err.as_str()), (0, ""));
    let expected = "Servers (2):
  files: npx -y @x/files /tmp [enabled]
  bare: z [enabled]

Total tools: 3
";
    assert_eq!(did.out, expected);
    let did = run(&world, &["list", "--json"]);
    let list: Value = serde_json::from_str(&did.out).unwrap();
    let server = |name, command, args: &[&str], enabled| json!({"name": name, "command": command, "args": args, "enabled": enabled, "sandbox": "strict"});
    let servers = [
        server("files", "npx", &["-y", "@x/files", "/tmp"], true),
        server("off", "y", &[], false),
        server("bare", "z", &[], true),
    ];
    assert_eq!(list["servers"], json!(servers));
    assert_eq!(list["roles"], json!([]));
    assert!(list.get("tools").is_none(), "{list}");
    // Nothing was started for it.
    world.assert_empty_now();
}

#[test]
fn list_shows_tools_even_if_a_backend_does_not_start() {
    let servers = [example("e", "echo", "", ""), faulty("f", "exit-at-once", "")];
    let world = World::with(&servers.concat());
    let did = run(&world, &["list", "--tools"]);
    assert_eq!((did.code, did.err.as_str()), (0, ""));
    let (_, tools) = did.out.split_once("\nTools (4):\n").unwrap_or_else(|| panic!("{}", did.out));
    let names: Vec<&str> = tools.lines().filter_map(|line| line.trim().split(':').next()).collect();
    assert_eq!(names, ["e_echo", "e_add", "_f_connect", "gateway_status"], "{}", did.out);
    assert!(tools.lines().all(|line| line.chars().count() <= 100), "{tools}");
    world.assert_empty_now();
}
