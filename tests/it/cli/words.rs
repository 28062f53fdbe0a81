//! Help, verbs, flags, and what scripts and editors get.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::{finish, run};
use crate::harness::World;

const VERBS: [&str; 7] = ["serve", "stdio", "list", "check", "call", "schema", "completions"];

fn nowhere() -> World {
    let world = World::new("");
    std::fs::remove_file(world.path("gateway.yaml")).unwrap();
    world
}

#[test]
fn no_verb_is_help() {
    let world = nowhere();
    let bare = run(&world, &[]);
    assert_eq!((bare.code, bare.err.as_str()), (0, ""));
    assert!(bare.out.contains("Usage: mcp-gateway [OPTIONS] [COMMAND]"), "{}", bare.out);
    for verb in VERBS {
        let listed = bare.out.lines().any(|line| line.trim_start().starts_with(verb));
        assert!(listed, "{verb} in\n{}", bare.out);
    }
    for part in ["Exit status:", "MCP_GATEWAY_ROLE", "./gateway.yaml", "claude mcp add"] {
        assert!(bare.out.contains(part), "{part} in\n{}", bare.out);
    }
    for word in ["--help", "-h", "help"] {
        let help = run(&world, &[word]);
        assert_eq!((help.code, help.err.as_str()), (0, ""), "{word}");
        assert!(help.out.contains("Usage: mcp-gateway"), "{word}: {}", help.out);
    }
}

#[test]
fn every_verb_has_help() {
    let world = nowhere();
    for verb in VERBS {
        for args in [[verb, "--help"], [verb, "-h"], ["help", verb]] {
            let help = run(&world, &args);
            assert_eq!((help.code, help.err.as_str()), (0, ""), "{args:?}");
            assert!(help.out.contains(&format!("Usage: mcp-gateway {verb}")), "{}", help.out);
            // Every option says what it does, and nothing is wider than the terminal of a book.
            assert!(help.out.lines().all(|line| line.chars().count() <= 100), "{}", help.out);
        }
    }
    for verb in ["serve", "stdio", "list", "check", "call"] {
        let help = run(&world, &[verb, "--help"]);
        assert!(help.out.contains("-c, --config <FILE>"), "{verb}: {}", help.out);
    }
}

#[test]
fn what_nobody_knows_is_a_usage_error() {
    let world = nowhere();
    let wrong: [&[&str]; 10] = [
        &["frobnicate"],
        &["--frobnicate"],
        &["list", "--frobnicate"],
        &["list", "extra"],
        &["serve", "--port", "99999"],
        &["serve", "--port", "http"],
        &["serve", "--host", "not an address"],
        &["serve", "--no-tcp"],
        &["call"],
        &["completions", "dos"],
    ];
    for args in wrong {
        let did = run(&world, args);
        assert_eq!(did.code, 64, "{args:?}: {}", did.err);
        assert_eq!(did.out, "", "{args:?}");
        assert!(!did.err.is_empty() && did.err.lines().count() < 12, "{args:?}: {}", did.err);
        assert!(!did.err.contains("panicked"), "{args:?}: {}", did.err);
    }
    assert!(run(&world, &["serv"]).err.contains("'serve'"), "a typo is recognized");
}

#[test]
fn the_version_is_the_packages() {
    let did = run(&nowhere(), &["--version"]);
    assert_eq!(did.out, concat!("mcp-gateway ", env!("CARGO_PKG_VERSION"), "\n"));
    assert_eq!(did.code, 0);
}

#[test]
fn the_schema_is_json() {
    let did = run(&nowhere(), &["schema"]);
    assert_eq!((did.code, did.err.as_str()), (0, ""));
    let schema: Value = serde_json::from_str(&did.out).unwrap();
    for key in ["servers", "roles", "plugins", "idle_timeout"] {
        assert!(schema["properties"][key].is_object(), "{key} in {schema}");
    }
}

#[test]
fn completions_are_scripts() {
    let world = nowhere();
    for shell in ["bash", "zsh", "fish"] {
        let did = run(&world, &["completions", shell]);
        assert_eq!((did.code, did.err.as_str()), (0, ""), "{shell}");
        for verb in VERBS {
            assert!(did.out.contains(verb), "{shell}: no {verb}");
        }
    }
    let script = run(&world, &["completions", "bash"]).out;
    let mut bash = Command::new("bash");
    bash.arg("-n").stdout(Stdio::piped()).stderr(Stdio::piped());
    let checked = finish(bash, Some(&script));
    assert_eq!((checked.code, checked.err.as_str()), (0, ""));
}
