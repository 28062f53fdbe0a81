//! `sandbox` of a server: its profile, what it may see, and which paths nobody may be given.
//!
//! Only what the file says. What follows from it on this machine is found out where servers are
//! started.

use std::path::{Component, Path, PathBuf};

use super::reader::{Fields, Reader, Spot};
use super::server::Around;

pub(super) const KEYS: &[&str] = &["profile", "uncontained", "read", "write", "network", "require"];

pub(super) const PROFILES: &[(&str, Profile)] = &[
    ("strict", Profile::Strict),
    ("browser", Profile::Browser),
    ("dev", Profile::Dev),
    ("off", Profile::Off),
];
pub(super) const LAYERS: &[(&str, Layer)] = &[
    ("namespaces", Layer::Namespaces),
    ("landlock", Layer::Landlock),
    ("scopes", Layer::Scopes),
    ("seccomp", Layer::Seccomp),
];

/// What of the machine a server gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    pub profile: Profile,
    /// Absolute. `None` if the file says nothing of it.
    pub read: Option<Vec<PathBuf>>,
    pub write: Option<Vec<PathBuf>>,
    /// `None` if the file says nothing of it.
    pub network: Option<Network>,
    /// A layer that is in here and cannot be had keeps the server from starting.
    pub require: Vec<Layer>,
}

impl Default for Sandbox {
    fn default() -> Self {
        let require = LAYERS.iter().map(|(_, layer)| *layer).collect();
        Self { profile: Profile::Strict, read: None, write: None, network: None, require }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Profile {
    #[default]
    Strict,
    /// With a browser's own sandbox inside.
    Browser,
    /// For a server that is being written.
    Dev,
    /// No sandbox.
    Off,
}

impl Profile {
    pub fn word(self) -> &'static str {
        PROFILES.iter().find(|(_, profile)| *profile == self).map_or("", |(word, _)| word)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    None,
    /// TCP to 80 and 443, and names.
    Web,
    Host,
    /// TCP to these ports.
    Ports(Vec<u16>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layer {
    Namespaces,
    Landlock,
    Scopes,
    Seccomp,
}

impl Layer {
    pub fn word(self) -> &'static str {
        LAYERS.iter().find(|(_, layer)| *layer == self).map_or("", |(word, _)| word)
    }
}

pub(super) fn read(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    around: &Around<'_>,
    out: &mut Sandbox,
) {
    if let Some(spot) = fields.get("profile") {
        out.profile = reader.choice(&spot, PROFILES).unwrap_or_default();
        let sure = fields.get("uncontained").and_then(|spot| reader.switch(&spot));
        if out.profile == Profile::Off && sure != Some(true) {
            let what =
                "lets the server do whatever you may do; if that is meant, add `uncontained: true`";
            reader.error(&spot, what);
        }
    }
    if let Some(spot) = fields.get("uncontained")
        && reader.switch(&spot) == Some(true)
        && out.profile != Profile::Off
    {
        reader.error(&spot, "goes with `profile: off` only");
    }
    out.read = fields.get("read").map(|spot| paths(reader, &spot, around, false));
    out.write = fields.get("write").map(|spot| paths(reader, &spot, around, true));
    if let Some(spot) = fields.get("network") {
        out.network = network(reader, &spot);
    }
    if let Some(spot) = fields.get("require") {
        let items = reader.items(&spot, "write a list of layers, such as [landlock, seccomp]");
        let items = items.unwrap_or_default();
        out.require = items.iter().filter_map(|item| reader.choice(item, LAYERS)).collect();
    }
}

fn network(reader: &mut Reader<'_>, spot: &Spot<'_>) -> Option<Network> {
    const WHAT: &str = "write none, web, host, or a list of ports, such as [443]";
    if let Some(word) = spot.word() {
        return match word {
            "none" => Some(Network::None),
            "web" => Some(Network::Web),
            "host" => Some(Network::Host),
            _ => {
                reader.error(spot, WHAT);
                None
            }
        };
    }
    let items = reader.items(spot, WHAT)?;
    let ports = items.iter().filter_map(|item| reader.count(item, 1, 65535));
    Some(Network::Ports(ports.filter_map(|port| u16::try_from(port).ok()).collect()))
}

fn paths(
    reader: &mut Reader<'_>,
    spot: &Spot<'_>,
    around: &Around<'_>,
    write: bool,
) -> Vec<PathBuf> {
    let items = reader.items(spot, "write a list of paths").unwrap_or_default();
    let mut paths = Vec::new();
    for item in &items {
        let Some(path) = reader.absolute(item, Some(around.folder)) else { continue };
        let path: PathBuf = path.components().collect();
        let home = (reader.env)("HOME").map(PathBuf::from);
        if let Some(why) = refused(&path, write, home.as_deref(), around.own) {
            reader.error(item, why);
        } else {
            paths.push(path);
        }
    }
    paths
}

/// Nobody is given one of these, what is in it, or what it is in.
const SECRET: [&str; 2] = [".ssh", ".gnupg"];
/// The kernel's, and where other programs' sockets are.
const LIVE: [&str; 5] = ["/proc", "/sys", "/dev", "/run", "/var/run"];
/// The system's, which nobody may be given to write.
const SYSTEM: [&str; 9] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/boot"];

/// Why `path` may not be given to a server, whether it exists or not. `own` are the gateway's own
/// files and folders.
pub fn refused(path: &Path, write: bool, home: Option<&Path>, own: &[PathBuf]) -> Option<String> {
    if path.components().any(|part| part == Component::ParentDir) {
        return Some("has `..` in it; write the path without".to_owned());
    }
    let shown = path.display();
    if path.parent().is_none() {
        return Some("is everything; name the folders that are needed".to_owned());
    }
    if path == Path::new("/etc") {
        return Some("is the whole of /etc; name the files that are needed".to_owned());
    }
    if let Some(live) = LIVE.iter().find(|live| path.starts_with(live)) {
        return Some(format!("is in {live}, which leads out of every sandbox"));
    }
    if let Some(system) = SYSTEM.iter().find(|system| write && path.starts_with(system)) {
        return Some(format!("is in {system}, which is the system's to write"));
    }
    for secret in SECRET.iter().filter_map(|name| Some(home?.join(name))) {
        if path.starts_with(&secret) {
            return Some(format!("is in {}, where keys are", secret.display()));
        }
        if secret.starts_with(path) {
            let secret = secret.display();
            return Some(format!("holds {secret}, where keys are; name the folders in {shown}"));
        }
    }
    for own in own {
        if path.starts_with(own) || own.starts_with(path) {
            let own = own.display();
            return Some(format!("would give it the gateway's own {own}; name something else"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_is_given() {
        let own = [PathBuf::from("/home/u/.config/mcp-gateway"), "/srv/gateway.yaml".into()];
        let refused = |path: &str, write| {
            super::refused(Path::new(path), write, Some(Path::new("/home/u")), &own).is_some()
        };
        for path in [
            "/",
            "/etc",
            "/proc",
            "/proc/self",
            "/run",
            "/run/docker.sock",
            "/var/run/x",
            "/dev",
            "/sys/fs/cgroup",
            "/home",
            "/home/u",
            "/home/u/.ssh",
            "/home/u/.ssh/id",
            "/home/u/.gnupg",
            "/home/u/.config",
            "/home/u/.config/mcp-gateway",
            "/home/u/.config/mcp-gateway/x",
            "/srv",
            "/srv/gateway.yaml",
            "/srv/../etc",
        ] {
            assert!(refused(path, false) && refused(path, true), "{path}");
        }
        for path in ["/usr", "/usr/local/share/x", "/etc/thing", "/bin/sh", "/lib/x"] {
            assert!(!refused(path, false) && refused(path, true), "{path}");
        }
        for path in ["/srv/docs", "/home/u/src", "/home/u/.sshx", "/tmp", "/opt/x", "/etcetera"] {
            assert!(!refused(path, false) && !refused(path, true), "{path}");
        }
    }
}
