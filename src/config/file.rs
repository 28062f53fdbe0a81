//! One whole file: the keys at its top.
//!
//! Gives a [`Part`], which `load` puts together with those of other files; it keeps where each
//! server and role stands, since two files may both have one.

use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::problem::Severity;
use super::reader::{Reader, Spot};
use super::server::{self, Around, FILTER_KEYS};
use super::tree::{At, Entry, Kind, Node};
use super::{Access, Plugin, RoleRule, Server, access, locate, plugin};

pub(super) const KEYS: &[&str] =
    &["name", "servers", "plugins", "roles", "access", "idle_timeout", "timeouts", "registry"];
/// What a file in `conf.d` can add to.
const PART_KEYS: &[&str] = &["servers", "plugins", "roles", "access"];
pub(super) const TIMEOUT_KEYS: &[&str] = &["session", "exit"];

/// What one file says. `None` is what it leaves to the default.
#[derive(Default)]
pub(super) struct Part {
    pub(super) name: Option<String>,
    pub(super) servers: Vec<(At, Server)>,
    pub(super) plugins: Vec<Plugin>,
    pub(super) roles: Option<Vec<(At, String, RoleRule)>>,
    /// Where each role of a rule stands.
    pub(super) access: Option<Vec<(At, String, Access)>>,
    pub(super) idle_timeout: Option<Option<Duration>>,
    pub(super) session_timeout: Option<Duration>,
    pub(super) exit_idle: Option<Option<Duration>>,
}

/// Reads the tree of one file. `idle` is the default from the files before it; `first` is false
/// for a file in `conf.d`.
pub(super) fn read(
    reader: &mut Reader<'_>,
    root: &Rc<Node>,
    folder: &Path,
    idle: Option<Duration>,
    first: bool,
) -> Part {
    let mut part = Part::default();
    let top = Spot::top(root);
    if !matches!(root.kind, Kind::Map(_)) && !top.is_null() {
        reader.error(&top, "the file must be a map with keys such as `servers:`");
        return part;
    }
    let Some(fields) = reader.fields_or(top, KEYS, is_free) else { return part };
    if !first {
        for key in KEYS.iter().filter(|key| !PART_KEYS.contains(key)) {
            if let Some(spot) = fields.get(key) {
                reader.error(&spot, "belongs in the main file, not in conf.d");
            }
        }
    }

    part.name = fields.get("name").and_then(|spot| reader.text(&spot)).map(str::to_owned);
    part.idle_timeout = fields.get("idle_timeout").and_then(|spot| reader.idle(&spot));
    if let Some(fields) = fields.get("timeouts").and_then(|spot| reader.fields(spot, TIMEOUT_KEYS))
    {
        part.session_timeout = fields.get("session").and_then(|spot| reader.deadline(&spot));
        part.exit_idle = fields.get("exit").and_then(|spot| reader.idle(&spot));
    }
    if let Some(spot) = fields.get("registry").filter(|spot| !spot.is_null()) {
        reader.warning(&spot, "is ignored; the gateway keeps no registry, and this key can go");
    }
    let mut own = locate::Folders::find(reader.env).all();
    own.extend(std::path::absolute(reader.path));
    let around = Around { folder, idle_timeout: part.idle_timeout.unwrap_or(idle), own: &own };
    if let Some(spot) = fields.get("servers") {
        part.servers = servers(reader, &spot, &around);
    }
    if let Some(spot) = fields.get("plugins") {
        part.plugins = plugin::read_all(reader, &spot, &around);
    }
    part.roles = fields.get("roles").map(|spot| roles(reader, &spot));
    part.access = fields.get("access").map(|spot| access::read(reader, &spot));
    part
}

/// Keys at the top that are the user's own: to hold an anchor, or marked with `x-`.
fn is_free(entry: &Entry) -> bool {
    entry.anchored || entry.key.starts_with("x-")
}

fn servers(reader: &mut Reader<'_>, spot: &Spot<'_>, around: &Around<'_>) -> Vec<(At, Server)> {
    let entries = reader.entries(spot, "write a map of name: {command: …}");
    let mut servers = Vec::new();
    for entry in entries.unwrap_or_default() {
        let server = server::read(reader, entry, spot.of(entry), around);
        servers.extend(server.map(|server| (entry.at, server)));
    }
    servers
}

fn roles(reader: &mut Reader<'_>, spot: &Spot<'_>) -> Vec<(At, String, RoleRule)> {
    let entries = reader.entries(spot, "write a map of role: [globs]");
    let mut roles = Vec::new();
    for entry in entries.unwrap_or_default() {
        let spot = spot.of(entry);
        if entry.key.is_empty() {
            reader.note(Severity::Error, entry.at, &spot.place, "a role needs a name");
        }
        if let Some(rule) = rule(reader, spot) {
            roles.push((entry.at, entry.key.clone(), rule));
        }
    }
    roles
}

fn rule(reader: &mut Reader<'_>, spot: Spot<'_>) -> Option<RoleRule> {
    match &spot.node.kind {
        Kind::Scalar { .. } if spot.is_null() => Some(RoleRule::All),
        Kind::Map(entries) if entries.is_empty() => {
            reader.error(&spot, "is empty; write null for everything, or [] for nothing");
            None
        }
        Kind::Map(_) => {
            let fields = reader.fields(spot, FILTER_KEYS)?;
            let (allow, deny) = server::filter(reader, &fields);
            Some(RoleRule::Globs { allow, deny })
        }
        Kind::List(_) => {
            let allow = Some(reader.globs(&spot)?);
            Some(RoleRule::Globs { allow, deny: Vec::new() })
        }
        Kind::Scalar { .. } => {
            let what = "write a list of globs, such as [\"git_*\"], or null for everything";
            reader.error(&spot, what);
            None
        }
    }
}
