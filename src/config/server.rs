//! One entry of `servers`: its keys, their rules and their defaults.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::env::{self, Missing};
use super::problem::Severity;
use super::quantity::duration_text;
use super::reader::{Fields, Reader, Spot};
use super::scalar::python_text;
use super::tree::{Entry, Kind};
use super::{Discover, Limits, Root, Secret, Server, Share, Timeouts, sandbox};

pub(super) const KEYS: &[&str] = &[
    "command", "args", "env", "cwd", "enabled", "lazy", "prefix", "discover", "share", "roots",
    "timeouts", "limits", "sandbox", "tools",
];
pub(super) const TIMEOUT_KEYS: &[&str] = &["start", "call", "max_call", "idle", "stop", "fetch"];
pub(super) const LIMIT_KEYS: &[&str] =
    &["calls", "line", "memory", "processes", "open_files", "tmp"];
pub(super) const FILTER_KEYS: &[&str] = &["allow", "deny"];
pub(super) const ROOT_KEYS: &[&str] = &["uri", "name"];

pub(super) const DISCOVER: &[(&str, Discover)] =
    &[("auto", Discover::Auto), ("placeholder", Discover::Placeholder)];
pub(super) const SHARE: &[(&str, Share)] = &[
    ("user", Share::User),
    ("session", Share::Session),
    ("project", Share::Project),
    ("all", Share::All),
];

/// What a server takes from outside its entry.
pub(super) struct Around<'a> {
    /// Where a relative `cwd` starts.
    pub(super) folder: &'a Path,
    pub(super) idle_timeout: Option<Duration>,
    /// The gateway's own files and folders, which no server is given.
    pub(super) own: &'a [PathBuf],
}

/// Reads `servers.<name>`. `None` only if there is nothing to go on with; problems are noted.
pub(super) fn read(
    reader: &mut Reader<'_>,
    entry: &Entry,
    spot: Spot<'_>,
    around: &Around<'_>,
) -> Option<Server> {
    if !is_name(&entry.key) {
        let what = "a server's name is 1 to 64 of A-Z a-z 0-9 _ . -";
        reader.note(Severity::Error, entry.at, &spot.place, what);
    }
    if spot.is_null() {
        reader.error(&spot, "has no value; write a map with a command");
        return None;
    }
    let whole = Spot { node: spot.node, place: spot.place.clone() };
    let fields = reader.fields(spot, KEYS)?;
    let mut server = Server::named(&entry.key);
    server.timeouts.idle = around.idle_timeout;
    let enabled = fields.get("enabled").map(|spot| reader.switch(&spot));
    // A switch that cannot be read is already a problem; its server is not blamed for more.
    server.enabled = enabled.unwrap_or(Some(true)).unwrap_or(false);

    match fields.get("command") {
        Some(spot) if server.enabled || !spot.is_null() => {
            let command = reader.text(&spot).unwrap_or_default();
            if command.is_empty() && server.enabled && !spot.is_null() {
                reader.error(&spot, "is empty; name the program to start");
            }
            warn_unexpanded(reader, &spot, command);
            command.clone_into(&mut server.command);
        }
        Some(_) => {}
        None if server.enabled => {
            reader.note(
                Severity::Error,
                entry.at,
                &whole.place,
                "has no command; name the program to start",
            );
        }
        None => {}
    }
    if let Some(spot) = fields.get("args") {
        server.args = args(reader, &spot);
    }
    if let Some(spot) = fields.get("env") {
        server.env = environment(reader, &spot, server.enabled);
    }
    if let Some(spot) = fields.get("cwd").filter(|spot| !spot.is_null()) {
        server.cwd = reader.absolute(&spot, Some(around.folder));
    }
    if let Some(lazy) = fields.get("lazy").and_then(|spot| reader.switch(&spot)) {
        server.lazy = lazy;
    }
    if let Some(spot) = fields.get("prefix").filter(|spot| !spot.is_null()) {
        server.prefix = prefix(reader, &spot);
    }
    if let Some(value) = fields.get("discover").and_then(|spot| reader.choice(&spot, DISCOVER)) {
        server.discover = value;
    }
    if let Some(value) = fields.get("share").and_then(|spot| reader.choice(&spot, SHARE)) {
        server.share = value;
    }
    if let Some(spot) = fields.get("roots") {
        server.roots = roots(reader, &spot);
    }
    if let Some(fields) = fields.get("timeouts").and_then(|spot| reader.fields(spot, TIMEOUT_KEYS))
    {
        timeouts(reader, &fields, &mut server.timeouts);
    }
    if let Some(fields) = fields.get("limits").and_then(|spot| reader.fields(spot, LIMIT_KEYS)) {
        limits(reader, &fields, &mut server.limits);
    }
    if let Some(fields) = fields.get("sandbox").and_then(|spot| reader.fields(spot, sandbox::KEYS))
    {
        sandbox::read(reader, &fields, around, &mut server.sandbox);
    }
    if let Some(fields) = fields.get("tools").and_then(|spot| reader.fields(spot, FILTER_KEYS)) {
        (server.tools.allow, server.tools.deny) = filter(reader, &fields);
    }
    Some(server)
}

fn is_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

fn args(reader: &mut Reader<'_>, spot: &Spot<'_>) -> Vec<String> {
    let items = reader.items(spot, "write a list, such as [\"-y\", \"some-package\"]");
    let mut args = Vec::new();
    for item in items.iter().flatten() {
        if let Some(text) = reader.text(item) {
            warn_unexpanded(reader, item, text);
            args.push(text.to_owned());
        }
    }
    args
}

fn warn_unexpanded(reader: &mut Reader<'_>, spot: &Spot<'_>, text: &str) {
    if text.contains("${") {
        reader.warning(spot, "`${…}` is expanded in env values only; it is passed on as written");
    }
}

pub(super) fn environment(
    reader: &mut Reader<'_>,
    spot: &Spot<'_>,
    enabled: bool,
) -> Vec<(String, Secret)> {
    let entries = reader.entries(spot, "write a map of NAME: value").unwrap_or_default();
    let mut vars = Vec::new();
    for entry in entries {
        let spot = spot.of(entry);
        if entry.key.is_empty() || entry.key.contains(['=', '\0']) {
            reader.note(Severity::Error, entry.at, &spot.place, "is no name of a variable");
        }
        let Kind::Scalar { text, plain } = &spot.node.kind else {
            reader.error(&spot, "write one value, not a list or a map");
            continue;
        };
        let Some(text) = reader.checked(&spot, text) else { continue };
        let value = if spot.is_null() {
            if enabled {
                let what = "has no value, and the program gets the text \"None\"; write \"\" for an empty one";
                reader.lax(&spot, what);
            }
            "None".to_owned()
        } else {
            if enabled && let Some(python) = plain.then(|| python_text(text)).flatten() {
                let what = if Secret::is_likely(&entry.key) {
                    "the program gets the text as written, where mcp-unify gave another one; put the one you want in quotes".to_owned()
                } else {
                    format!(
                        "the program gets \"{text}\" as written, where mcp-unify gave \"{python}\"; put the one you want in quotes"
                    )
                };
                reader.warning(&spot, what);
            }
            expand(reader, &spot, text, enabled)
        };
        vars.push((entry.key.clone(), Secret::new(value)));
    }
    vars
}

fn expand(reader: &mut Reader<'_>, spot: &Spot<'_>, text: &str, enabled: bool) -> String {
    let expanded = env::expand(text, reader.env);
    // A disabled server may well lack its token.
    for missing in expanded.missing.iter().filter(|_| enabled) {
        let what = match missing {
            Missing::Unset(name) => format!(
                "`{name}` is not set, and the reference stays as written; set it, or write ${{{name}:-default}}"
            ),
            Missing::NoName => "`${…}` holds no variable's name, and stays as written".to_owned(),
        };
        reader.lax(spot, what);
    }
    // What was expanded may hold what the file may not.
    let text = reader.checked(spot, &expanded.text);
    text.map(str::to_owned).unwrap_or_default()
}

pub(super) fn prefix(reader: &mut Reader<'_>, spot: &Spot<'_>) -> Option<String> {
    let text = reader.text(spot)?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    if text.len() > 32 || !text.bytes().all(allowed) {
        reader.error(spot, "a prefix is up to 32 of A-Z a-z 0-9 _ -");
        return None;
    }
    Some(text.to_owned())
}

fn roots(reader: &mut Reader<'_>, spot: &Spot<'_>) -> Vec<Root> {
    let items = reader.items(spot, "write a list of directories");
    let mut roots = Vec::new();
    for item in items.into_iter().flatten() {
        let root = if matches!(item.node.kind, Kind::Map(_)) {
            let Some(fields) =
                reader.fields(Spot { node: item.node, place: item.place.clone() }, ROOT_KEYS)
            else {
                continue;
            };
            let name = fields.get("name").filter(|spot| !spot.is_null());
            let name = name.and_then(|spot| reader.text(&spot)).map(str::to_owned);
            match fields.get("uri") {
                Some(spot) => root_uri(reader, &spot).map(|uri| Root { uri, name }),
                None => {
                    reader.error(&item, "has no uri");
                    None
                }
            }
        } else {
            root_uri(reader, &item).map(|uri| Root { uri, name: None })
        };
        roots.extend(root);
    }
    roots
}

fn root_uri(reader: &mut Reader<'_>, spot: &Spot<'_>) -> Option<String> {
    let text = reader.text(spot)?;
    if text.starts_with("file:///") {
        return Some(text.to_owned());
    }
    if text.contains("://") {
        reader.error(spot, "a root is a path or starts with `file:///`");
        return None;
    }
    let path = reader.absolute(spot, None)?;
    let mut uri = "file://".to_owned();
    for byte in path.to_string_lossy().bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    Some(uri)
}

pub(super) fn timeouts(reader: &mut Reader<'_>, fields: &Fields<'_>, out: &mut Timeouts) {
    let mut read = |key: &str, slot: &mut Duration| {
        if let Some(value) = fields.get(key).and_then(|spot| reader.deadline(&spot)) {
            *slot = value;
        }
    };
    read("start", &mut out.start);
    read("call", &mut out.call);
    read("max_call", &mut out.max_call);
    read("stop", &mut out.stop);
    read("fetch", &mut out.fetch);
    if let Some(idle) = fields.get("idle").and_then(|spot| reader.idle(&spot)) {
        out.idle = idle;
    }
    if out.call > out.max_call
        && let Some(spot) = fields.get("call").or_else(|| fields.get("max_call"))
    {
        let (call, most) = (duration_text(out.call), duration_text(out.max_call));
        reader.error(&spot, format!("call ({call}) is longer than max_call ({most}); set both"));
    }
}

pub(super) fn limits(reader: &mut Reader<'_>, fields: &Fields<'_>, out: &mut Limits) {
    if let Some(calls) = fields.get("calls").and_then(|spot| reader.count(&spot, 1, 10_000)) {
        out.calls = calls;
    }
    if let Some(line) = fields.get("line").and_then(|spot| reader.size(&spot, 64 << 10, 1 << 30)) {
        out.line = line;
    }
    let mut size = |key: &str, least: u64| {
        let spot = fields.get(key)?;
        reader.size(&spot, least, 1 << 42).map(|size| size as u64)
    };
    out.memory = size("memory", 16 << 20);
    out.tmp = size("tmp", 1 << 20);
    let mut count = |key: &str, least, most| {
        let spot = fields.get(key)?;
        reader.count(&spot, least, most).map(|count| count as u64)
    };
    out.processes = count("processes", 1, 100_000);
    out.open_files = count("open_files", 64, 1 << 20);
}

/// `{allow: […], deny: […]}`, of a server's tools or of a role.
pub(super) fn filter(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
) -> (Option<Vec<String>>, Vec<String>) {
    let allow = fields.get("allow").and_then(|spot| {
        if spot.is_null() {
            // Nothing could mean all or none.
            reader
                .error(&spot, "has no value; write [] for nothing, or leave it out for everything");
        }
        reader.globs(&spot)
    });
    let deny = fields.get("deny").and_then(|spot| reader.globs(&spot));
    (allow, deny.unwrap_or_default())
}
