//! The examples and the schema, which users get with the program.

use std::collections::BTreeSet;

use super::*;

#[test]
fn the_examples_load() {
    let here = PathBuf::from_iter([env!("CARGO_MANIFEST_DIR"), file!()]);
    let examples = here.ancestors().nth(4).unwrap().join("examples");
    let table: [(&str, &[&str]); 5] = [
        ("seed-1-quickstart", &[]),
        ("seed-2-roles", &[]),
        ("seed-3-undocumented", &["3:11: registry: warning: is ignored"]),
        (
            "seed-4-yaml11",
            &[
                "6:20: servers.m.env.B: warning: the program gets \"true\"",
                "6:29: servers.m.env.Z: warning: has no value",
                "6:38: servers.m.env.P: warning: the program gets \"010\"",
                "6:46: servers.m.env.U: warning: `UNSET` is not set",
            ],
        ),
        ("gateway", &["32:13: servers.git.env.MODE: warning: the program gets \"0640\""]),
    ];
    let env = |name: &str| if name == "USER" { Some("u".to_owned()) } else { env(name) };
    for (name, expected) in table {
        let path = examples.join(format!("{name}.yaml"));
        let loaded = load(Some(&path), &env, Mode::Foreground)
            .unwrap_or_else(|problems| panic!("{problems}"));
        let lines: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(lines.len(), expected.len(), "{lines:#?}");
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.contains(&format!(".yaml:{expected}")), "{line}");
        }
        if name == "seed-4-yaml11" {
            let [m, x, y] = loaded.config.servers.as_slice() else { panic!() };
            assert_eq!(
                (m.command.as_str(), m.enabled, x.enabled, y.enabled),
                ("python3", true, false, false)
            );
            let texts = [
                ("N", "5"),
                ("B", "true"),
                ("Z", "None"),
                ("P", "010"),
                ("U", "${UNSET}"),
                ("H", "/home/u/x"),
            ];
            assert_eq!(values(m), texts);
        }
    }
}

/// The keys that the schema has, by the pointer to the map that holds them.
fn schema_keys(pointer: &str) -> BTreeSet<String> {
    let schema = schema();
    let keys = schema.pointer(pointer).and_then(|map| map.as_object());
    keys.unwrap_or_else(|| panic!("no {pointer} in {schema:#}")).keys().cloned().collect()
}

#[test]
fn the_schema_has_the_keys_that_are_read() {
    let table = [
        ("/properties", file::KEYS, ""),
        ("/$defs/GatewayTimeouts/properties", file::TIMEOUT_KEYS, "timeouts: {KEY}"),
        ("/$defs/ServerEntry/properties", server::KEYS, "servers: {a: {command: x, KEY}}"),
        (
            "/$defs/ServerTimeouts/properties",
            server::TIMEOUT_KEYS,
            "servers: {a: {command: x, timeouts: {KEY}}}",
        ),
        (
            "/$defs/ServerLimits/properties",
            server::LIMIT_KEYS,
            "servers: {a: {command: x, limits: {KEY}}}",
        ),
        (
            "/$defs/SandboxEntry/properties",
            sandbox::KEYS,
            "servers: {a: {command: x, sandbox: {KEY}}}",
        ),
        (
            "/$defs/NamedRoot/properties",
            server::ROOT_KEYS,
            "servers: {a: {command: x, roots: [{KEY}]}}",
        ),
        (
            "/$defs/Globs/properties",
            server::FILTER_KEYS,
            "servers: {a: {command: x, tools: {KEY}}}",
        ),
        ("/$defs/PluginMap/properties", plugin::KEYS, "plugins: [{KEY}]"),
        ("/$defs/AccessEntry/properties", access::KEYS, "access: [{KEY}]"),
    ];
    for (pointer, keys, text) in table {
        let known: BTreeSet<String> = keys.iter().map(|&key| key.to_owned()).collect();
        assert_eq!(schema_keys(pointer), known, "{pointer}");
        // Every key is not only known but read: each of them has values that it does not take.
        for key in keys.iter().filter(|_| !text.is_empty()) {
            let entry = format!("{key}: {{\"\": [{{}}]}}");
            let text = text.replace("command: x, KEY", &entry).replace("KEY", &entry);
            let (_folder, result) = load_bytes("schema", &text, Mode::Foreground);
            let problems = result.expect_err(&text).to_string();
            assert!(
                problems.contains(&format!("{key}:")) || problems.contains(&format!("{key}.")),
                "{problems}"
            );
            assert!(!problems.contains(&format!("{key}: unknown key")), "{problems}");
        }
    }
    assert_eq!(schema()["$schema"], "https://json-schema.org/draft/2020-12/schema");
}

#[test]
fn the_schema_requires_little() {
    let schema = schema();
    let required = |shape: &str| schema["$defs"][shape]["required"].clone();
    assert_eq!(required("NamedRoot"), serde_json::json!(["uri"]));
    assert_eq!(required("AccessEntry"), serde_json::json!(["role"]));
    assert_eq!(schema.to_string().matches("\"required\"").count(), 2);
}

#[test]
fn the_schema_describes_every_key() {
    fn walk(value: &serde_json::Value, path: &str) {
        if let Some(properties) = value.get("properties").and_then(|map| map.as_object()) {
            for (key, value) in properties {
                assert!(value.get("description").is_some(), "{path}.{key} has no description");
            }
        }
        for (key, value) in value.as_object().into_iter().flatten() {
            walk(value, &format!("{path}/{key}"));
        }
    }
    walk(&schema(), "");
}
