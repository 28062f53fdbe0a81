//! Reads the tree and checks the rules of the house: the floors, the rooms' "only"s, and that what
//! is shipped beside the code says the same as the code.
//!
//! The rules are told in docs/architecture.md. It does not check style; rustfmt and clippy do.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Top floor first. A room imports only from rooms below it. The last four stand apart: what
/// `mcp-gateway-exec` is made of, what it is told, and what `mcp-gateway-stdio` is made of.
const ROOMS: [&str; 14] = [
    "cli", "daemon", "frontend", "gateway", "backend", "spawner", "policy", "config", "protocol",
    "sys", "launcher", "probe", "brief", "bridge",
];

/// The rooms that act on the kernel.
const UNSAFE: [&str; 3] = ["sys", "launcher", "probe"];
/// Rooms that may make system calls of their own.
const CALLS: [&str; 4] = ["sys", "bridge", "launcher", "probe"];

/// The longest that a file may be.
const LONGEST: usize = 500;

/// Longer ones, each with the reason why it is not two files.
const LONG: [(&str, &str); 0] = [];

/// Words that stand in some rooms only: the words, the rooms, why.
const ONLY: [(&[&str], &[&str], &str); 7] = [
    (&["unsafe"], &UNSAFE, "only sys/, launcher/ and probe/ have unsafe code"),
    (
        &["nix", "libc"],
        &CALLS,
        "only sys/, bridge/, launcher/ and probe/ make system calls of their own",
    ),
    (&["seccompiler"], &["launcher"], "only launcher/ builds a sandbox"),
    (&["serde_yaml", "saphyr_parser"], &["config"], "only config/ knows YAML"),
    (&["hyper", "hyper_util", "http_body_util"], &["frontend"], "only frontend/ knows HTTP"),
    (&["clap_complete", "indicatif"], &["cli"], "only cli/ talks to a terminal"),
    (&["anyhow"], &["cli", "daemon"], "the other rooms have errors that say what they are"),
];

/// Words that a room must not have outside its tests: its absences.
const ABSENT: [(&str, &[&str], &str); 4] = [
    (
        "policy",
        &["tokio", "async", "await", "Instant", "SystemTime", "fs", "net", "env", "process"],
        "policy does no I/O and has no clock",
    ),
    ("protocol", &["tokio", "Instant", "SystemTime", "fs", "net", "env"], "protocol does no I/O"),
    ("config", &["tokio", "async", "net", "process"], "config starts and connects nothing"),
    (
        "gateway",
        &["UnixStream", "TcpStream", "UnixListener", "TcpListener"],
        "gateway has no socket",
    ),
];

struct Source {
    /// From the root, such as `src/policy/mod.rs`.
    path: String,
    text: String,
    /// The text with comments and literals blanked.
    code: String,
    /// The same up to its inline tests; empty for a file of tests.
    proper: String,
}

impl Source {
    fn room(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let room = inside.split('/').next()?;
        Some(room.strip_suffix(".rs").unwrap_or(room))
    }

    /// How many `super`s lead out of the file's room to the crate's root.
    fn depth(&self) -> usize {
        let parts = self.path.matches('/').count();
        if self.path.ends_with("/mod.rs") { parts - 1 } else { parts }
    }

    fn is_tests(&self) -> bool {
        self.path.ends_with("/tests.rs")
            || self.path.ends_with("_tests.rs")
            || self.path.contains("/tests/")
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn sources() -> Vec<Source> {
    let mut all = Vec::new();
    collect(&root().join("src"), &mut all);
    all.sort();
    let sources = all.into_iter().map(|path| {
        let text = fs::read_to_string(&path).unwrap();
        let path = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
        let code = blank(&text);
        let end = code.find("#[cfg(test)]\nmod tests").unwrap_or(code.len());
        let mut source = Source { proper: code[..end].to_owned(), path, text, code };
        if source.is_tests() {
            source.proper.clear();
        }
        source
    });
    sources.collect()
}

fn collect(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, all);
        } else if path.extension().is_some_and(|end| end == "rs") {
            all.push(path);
        }
    }
}

/// Rust source with comments, strings and characters replaced by spaces; lines stay where they are.
fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let end = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_string(rest, at.checked_sub(1).map(|i| bytes[i])) {
            let close = format!("\"{}", "#".repeat(hashes));
            let open = rest.find('"').unwrap() + 1;
            rest[open..].find(&close).map_or(rest.len(), |end| open + end + close.len())
        } else if rest.starts_with('"') {
            let mut end = 1;
            while end < rest.len() && rest.as_bytes()[end] != b'"' {
                end += if rest.as_bytes()[end] == b'\\' { 2 } else { 1 };
            }
            end + 1
        } else if rest.starts_with('\'') {
            character(rest)
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        for byte in &mut out[at..(at + end).min(bytes.len())] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at += end;
    }
    String::from_utf8(out).unwrap()
}

/// The number of `#`s, if a raw string begins here.
fn raw_string(rest: &str, before: Option<u8>) -> Option<usize> {
    if before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return None;
    }
    let rest = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    rest[hashes..].starts_with('"').then_some(hashes)
}

/// The length of a character literal, or 1 for the quote of a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => rest[3..].find('\'').map_or(1, |end| end + 4),
        Some(_) => match chars.next() {
            Some((at, '\'')) => at + 1,
            _ => 1,
        },
        None => 1,
    }
}

/// Every whole word, with the number of its line.
fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().flat_map(|(number, line)| {
        let words = line.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        words.filter(|word| !word.is_empty()).map(move |word| (number + 1, word))
    })
}

/// The rooms that a file names in `crate::…`, in `crate::{…}`, or past its own room by `super`s.
fn rooms_named(source: &Source) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    let code: String = source.code.split_whitespace().collect::<Vec<_>>().join(" ");
    for start in ["crate::", "crate ::", "mcp_gateway::"] {
        for (at, _) in code.match_indices(start) {
            heads(&code[at + start.len()..], &mut named);
        }
    }
    let climb = "super::".repeat(source.depth());
    if source.path.matches('/').count() > 1 {
        for (at, _) in code.match_indices(&climb) {
            heads(code[at + climb.len()..].trim_start_matches("super::"), &mut named);
        }
    }
    named.retain(|name| ROOMS.contains(&name.as_str()));
    named
}

/// The first names of a path's end: one, or those of a group in braces.
fn heads(rest: &str, named: &mut BTreeSet<String>) {
    let name = |text: &str| {
        let text = text.trim_start();
        let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
        text[..end].to_owned()
    };
    let Some(group) = rest.trim_start().strip_prefix('{') else {
        named.insert(name(rest));
        return;
    };
    let mut depth = 0;
    let mut from = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                named.insert(name(&group[from..at]));
                return;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                named.insert(name(&group[from..at]));
                from = at + 1;
            }
            _ => {}
        }
    }
}

fn none(problems: &[String], rule: &str) {
    assert!(problems.is_empty(), "{rule}:\n  {}", problems.join("\n  "));
}

#[test]
fn a_room_imports_only_from_rooms_below_it() {
    let mut problems = Vec::new();
    for source in sources() {
        let room = source.room().unwrap();
        if matches!(room, "lib" | "main" | "bin") {
            continue;
        }
        let Some(floor) = ROOMS.iter().position(|known| *known == room) else {
            problems.push(format!("{}: no such room; give it a floor in ROOMS", source.path));
            continue;
        };
        for other in rooms_named(&source) {
            if ROOMS[..floor].contains(&other.as_str()) {
                problems.push(format!("{}: {room} names {other}, which is above it", source.path));
            }
        }
    }
    none(&problems, "a room imports only from rooms below it");
}

#[test]
fn the_map_names_the_rooms_from_the_top() {
    let map = read("src/lib.rs");
    let rooms: Vec<&str> =
        map.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(rooms, ROOMS);
}

#[test]
fn words_stay_in_their_rooms() {
    let mut problems = Vec::new();
    for source in sources() {
        let room = source.room().unwrap();
        for (forbidden, rooms, why) in ONLY {
            if rooms.contains(&room) {
                continue;
            }
            for (line, word) in words(&source.code).filter(|(_, word)| forbidden.contains(word)) {
                problems.push(format!("{}:{line}: `{word}`: {why}", source.path));
            }
        }
        for (of, forbidden, why) in ABSENT {
            if room != of {
                continue;
            }
            for (line, word) in words(&source.proper).filter(|(_, word)| forbidden.contains(word)) {
                problems.push(format!("{}:{line}: `{word}`: {why}", source.path));
            }
        }
        if source.path != "src/sys/spawn.rs" && source.code.contains("Command::new") {
            problems.push(format!("{}: `Command::new`: sys/spawn.rs starts children", source.path));
        }
    }
    none(&problems, "words stay in their rooms");
}

#[test]
fn every_room_above_the_kernel_forbids_unsafe_code() {
    let mut problems = Vec::new();
    for room in ROOMS.iter().filter(|room| !UNSAFE.contains(room)) {
        let path = format!("src/{room}/mod.rs");
        if !blank(&read(&path)).contains("#![forbid(unsafe_code)]") {
            problems.push(path);
        }
    }
    none(&problems, "`#![forbid(unsafe_code)]` is missing");
}

#[test]
fn every_file_opens_with_its_job_and_is_not_too_long() {
    let mut problems = Vec::new();
    for source in sources() {
        if !source.text.starts_with("//! ") {
            problems.push(format!("{}: does not open with `//! `", source.path));
        }
        let allowed = LONG.iter().any(|(path, _)| *path == source.path);
        let lines = source.text.lines().count();
        if lines > LONGEST && !allowed && !source.is_tests() {
            problems.push(format!("{}: {lines} lines; look for the second subject", source.path));
        }
        if lines <= LONGEST && allowed {
            problems.push(format!("{}: short enough now; take it out of LONG", source.path));
        }
    }
    none(&problems, "a good file");
}

/// The most lines that `launcher/` may have: what runs before there is a sandbox.
const LAUNCHER: usize = 1200;

#[test]
fn the_launcher_is_small() {
    let all = sources();
    let counted = all.iter().filter(|source| {
        source.room() == Some("launcher") && source.path != "src/launcher/macos.rs"
    });
    let lines: usize = counted
        .map(|source| source.text.lines().zip(source.proper.lines()))
        .map(|lines| {
            // What is blank only since its literals have been blanked is counted.
            let is_code = |(text, code): &(&str, &str)| {
                let text = text.trim_start();
                !code.trim().is_empty() || !(text.is_empty() || text.starts_with("//"))
            };
            lines.filter(is_code).count()
        })
        .sum();
    println!("launcher: {lines} lines");
    assert!(lines > 500, "{lines} lines: this counts nothing");
    assert!(lines <= LAUNCHER, "launcher: {lines} lines of code, {LAUNCHER} at most");
}

#[test]
fn the_reader_of_these_rules_reads_rust() {
    let source = |path: &str, text: &str| Source {
        path: path.to_owned(),
        code: blank(text),
        proper: blank(text),
        text: text.to_owned(),
    };
    let names = |path: &str, text: &str| -> Vec<String> {
        rooms_named(&source(path, text)).into_iter().collect()
    };
    assert_eq!(
        names("src/sys/a.rs", "use crate::{cli::{x, daemon::y}, policy};"),
        ["cli", "policy"]
    );
    assert_eq!(names("src/sys/a.rs", "fn f() { crate::gateway::f() }"), ["gateway"]);
    assert_eq!(names("src/sys/mod.rs", "use super::config;"), ["config"]);
    assert_eq!(names("src/sys/a.rs", "use super::config; // crate::cli"), [""; 0]);
    assert_eq!(names("src/sys/a.rs", "use super::super::{config, cli::x};"), ["cli", "config"]);
    assert_eq!(names("src/sys/a.rs", "let x = \"crate::cli\"; /* crate::cli */"), [""; 0]);
    assert_eq!(
        blank("a '\"' 'b r#\"\"unsafe\"\"# '\\'' b\"\\\"\" // unsafe\n'\u{e9}'c")
            .split_whitespace()
            .collect::<Vec<_>>(),
        ["a", "b", "b", "c"]
    );
    assert_eq!(words("un_safe unsafe;").collect::<Vec<_>>(), [(1, "un_safe"), (1, "unsafe")]);
}

// What is shipped beside the code.

#[expect(clippy::disallowed_methods, reason = "the finished command is asked as a user would")]
fn run(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).current_dir(root()).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

fn gateway(args: &[&str]) -> String {
    run(env!("CARGO_BIN_EXE_mcp-gateway"), args).unwrap_or_else(|| panic!("{args:?} fails"))
}

#[test]
fn the_shipped_schema_is_the_commands() {
    let shipped = read("packaging/gateway.schema.json");
    assert!(shipped == gateway(&["schema"]), "out of date: renew it with `make schema`");
}

/// The keys below `schema` as README writes them: relative to the file, and of a server relative
/// to its entry.
fn keys(schema: &Value, whole: &Value, at: &str, found: &mut BTreeSet<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap();
        let at = match name {
            "ServerEntry" => "",
            // A plugin has them too, with the same keys in them.
            "ServerTimeouts" | "ServerLimits" | "SandboxEntry" | "Globs" => {
                at.strip_prefix("plugins[].").unwrap_or(at)
            }
            _ => at,
        };
        return keys(&whole["$defs"][name], whole, at, found);
    }
    for (key, value) in schema["properties"].as_object().into_iter().flatten() {
        let path = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
        found.insert(path.clone());
        keys(value, whole, &path, found);
    }
    for choice in ["anyOf", "oneOf"] {
        for one in schema[choice].as_array().into_iter().flatten() {
            keys(one, whole, at, found);
        }
    }
    if schema["items"].is_object() {
        keys(&schema["items"], whole, &format!("{at}[]"), found);
    }
    if schema["additionalProperties"].is_object() && !at.is_empty() {
        keys(&schema["additionalProperties"], whole, &format!("{at}.<name>"), found);
    }
}

#[test]
fn readme_explains_every_key_of_the_config() {
    let schema: Value = serde_json::from_str(&gateway(&["schema"])).unwrap();
    let mut found = BTreeSet::new();
    keys(&schema, &schema, "", &mut found);
    assert!(found.contains("timeouts.session") && found.contains("timeouts.max_call"), "{found:?}");
    let readme = read("README.md");
    let rows: BTreeSet<&str> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` |").map(|(key, _)| key))
        .collect();
    let missing: Vec<String> =
        found.into_iter().filter(|key| !rows.contains(key.as_str())).collect();
    none(&missing, "README.md has no row for these keys");
}

#[test]
fn readme_names_every_verb_and_flag() {
    let readme = read("README.md");
    let has = |word: &str| has_word(&readme, word);
    let (verbs, flags) = words_of_the_command();
    let mut missing: Vec<String> =
        verbs.into_iter().filter(|verb| !has(&format!("`{verb}"))).collect();
    missing.extend(flags.into_iter().filter(|flag| !has(flag)));
    none(&missing, "README.md does not name");
}

fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let after = text[at + word.len()..].chars().next();
        !after.is_some_and(|c| c.is_alphanumeric() || c == '-')
    })
}

/// Every verb of the command, and every long flag of it and of them.
fn words_of_the_command() -> (Vec<String>, BTreeSet<String>) {
    let help = gateway(&["--help"]);
    let (_, commands) = help.split_once("Commands:\n").unwrap();
    let verbs: Vec<String> = commands
        .lines()
        .map_while(|line| line.strip_prefix("  "))
        // A description that goes on in the next line is no verb.
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| *verb != "help")
        .map(str::to_owned)
        .collect();
    assert!(verbs.len() >= 7, "{verbs:?}");
    let mut flags = flags_in(&help);
    for verb in &verbs {
        flags.extend(flags_in(&gateway(&[verb, "--help"])));
    }
    assert!(flags.contains("--config") && flags.contains("--insecure-no-auth"), "{flags:?}");
    (verbs, flags)
}

fn flags_in(help: &str) -> BTreeSet<String> {
    let flags = help.lines().filter_map(|line| {
        let line = line.trim_start();
        let long = if line.starts_with("--") { line } else { line.get(4..)? };
        let shaped = line.starts_with("--") || line.starts_with('-') && long.starts_with("--");
        shaped.then(|| long.split([' ', '=']).next()).flatten().map(str::to_owned)
    });
    flags.collect()
}

/// The words of a manual page's `.It` and `.Op` lines that are flags, as one types them, and the
/// keys or commands that its items are about.
fn items(page: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut flags = BTreeSet::new();
    let mut items = BTreeSet::new();
    for line in page.lines() {
        for (at, _) in line.match_indices("Fl -") {
            let flag = line[at + 4..].split(' ').next().unwrap();
            flags.insert(format!("--{flag}"));
        }
        let item = line.strip_prefix(".It Ic ").or_else(|| line.strip_prefix(".It Cm "));
        items.extend(item.and_then(|item| item.split(' ').next()).map(str::to_owned));
    }
    (flags, items)
}

#[test]
fn the_manuals_say_what_the_commands_and_the_schema_say() {
    let differ = |what: &str, page: &BTreeSet<String>, truth: &BTreeSet<String>| {
        let difference: Vec<&String> = page.symmetric_difference(truth).collect();
        assert!(difference.is_empty(), "{what}: the manual or the program lacks {difference:?}");
    };
    let (flags, commands) = items(&read("man/mcp-gateway.1"));
    let (mut verbs, truth) = words_of_the_command();
    verbs.push("help".to_owned());
    differ("mcp-gateway(1)", &flags, &truth);
    differ("mcp-gateway(1)", &commands, &verbs.into_iter().collect());

    let help = run(env!("CARGO_BIN_EXE_mcp-gateway-stdio"), &["--help"]).unwrap();
    let (flags, _) = items(&read("man/mcp-gateway-stdio.1"));
    differ("mcp-gateway-stdio(1)", &flags, &flags_in(&help));

    let schema: Value = serde_json::from_str(&gateway(&["schema"])).unwrap();
    let mut truth = BTreeSet::new();
    keys(&schema, &schema, "", &mut truth);
    // What the page says of it by itself.
    truth.remove("servers");
    let (_, mut described) = items(&read("man/mcp-gateway.yaml.5"));
    described.remove("servers");
    differ("mcp-gateway.yaml(5)", &described, &truth);
}

/// Registries are used through their clients; where those go is the machine's business. The names
/// are put together here so that this file holds none of them.
#[test]
fn no_file_names_a_package_registry() {
    let hosts: Vec<String> = [
        ["crates", "io"],
        ["npmjs", "org"],
        ["npmjs", "com"],
        ["pypi", "org"],
        ["pythonhosted", "org"],
        ["yarnpkg", "com"],
        ["proxy.golang", "org"],
        ["rubygems", "org"],
    ]
    .iter()
    .map(|pieces| pieces.join("."))
    .collect();
    // cargo's own name for its default source, which it writes into every Cargo.lock.
    let source = format!("github.com/rust-lang/{}-index", hosts[0]);
    let mut problems = Vec::new();
    for path in tracked() {
        let Ok(text) = fs::read_to_string(root().join(&path)) else { continue };
        let text = if path == "Cargo.lock" { text.replace(&source, "") } else { text };
        let text = text.to_ascii_lowercase();
        for host in hosts.iter().filter(|host| text.contains(host.as_str())) {
            problems.push(format!("{path}: {host}"));
        }
    }
    none(&problems, "no file names a package registry's host");
}

/// What git tracks; without git, what lies in the tree.
fn tracked() -> Vec<String> {
    if let Some(list) = run("git", &["ls-files", "-z"]) {
        return list.split_terminator('\0').map(str::to_owned).collect();
    }
    let mut all = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap_or_default().to_owned();
            if !path.is_dir() {
                all.push(path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned());
            } else if !matches!(name.as_str(), ".git" | "target" | "node_modules" | "__pycache__") {
                folders.push(path);
            }
        }
    }
    all
}
