//! The configuration: what `gateway.yaml` says, checked and with every default filled in.
//!
//! The only room that knows YAML. [`discover`] finds the file, [`load`] reads and checks it and
//! reports every problem at once, [`schema`] describes it to editors, [`write_yaml`] prints what is
//! in force. Nothing here starts, connects or watches anything, and nothing but `load` opens files.
//!
//! The way of a file: `tree` (values with their places) → `reader` (typed values, problems)
//! → `file`, `server` and `plugin` (which keys there are) → `load` (several files into one [`Config`]).

#![forbid(unsafe_code)]

mod access;
mod diff;
mod env;
mod file;
mod load;
mod locate;
mod padding;
mod plugin;
mod problem;
mod quantity;
mod reader;
mod sandbox;
mod scalar;
mod schema;
mod secret;
mod server;
mod suggest;
#[cfg(test)]
mod tests;
mod timestamp;
mod tree;
mod write;

use std::path::PathBuf;
use std::time::Duration;

pub use diff::Plan;
pub use load::{Loaded, Mode, load};
pub use locate::{Folders, discover};
pub use plugin::{Plugin, Source};
pub use problem::{Problem, Problems, Severity};
pub use sandbox::{Layer, Network, Profile, Sandbox, refused};
pub use schema::schema;
pub use secret::Secret;
pub use write::write_yaml;

/// A whole configuration. Two are equal if and only if a reload from one to the other does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What the gateway calls itself (`serverInfo.name`).
    pub name: String,
    /// In the order of the file, disabled ones included.
    pub servers: Vec<Server>,
    pub plugins: Vec<Plugin>,
    /// In the order of the file; `None` if there is no `roles` section.
    pub roles: Option<Vec<(String, RoleRule)>>,
    /// Who has which role, in the order of the files; `None` if there is no `access` section.
    pub access: Option<Vec<Access>>,
    /// How long an instance without a lease is kept; `None` is for ever.
    pub idle_timeout: Option<Duration>,
    /// How long a quiet HTTP session is remembered.
    pub session_timeout: Duration,
    /// How long the gateway may have nothing to do before it exits; `Some(None)` is never, and
    /// `None` that the file says nothing of it.
    pub exit_idle: Option<Option<Duration>>,
    /// The file it came from, without those of `conf.d`.
    pub path: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "mcp-gateway".to_owned(),
            servers: Vec::new(),
            plugins: Vec::new(),
            roles: None,
            access: None,
            idle_timeout: Some(Duration::from_secs(300)),
            session_timeout: Duration::from_secs(30 * 60),
            exit_idle: None,
            path: None,
        }
    }
}

/// A glob of this file. `*` and `?` cross everything, a backslash is a plain character.
pub fn glob(text: &str) -> Result<globset::Glob, globset::Error> {
    globset::GlobBuilder::new(text).literal_separator(false).backslash_escape(false).build()
}

/// One backend: how it is started, and what it may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    pub name: String,
    /// Not empty if the server is enabled.
    pub command: String,
    pub args: Vec<String>,
    /// In the order of the file, expanded.
    pub env: Vec<(String, Secret)>,
    /// Absolute.
    pub cwd: Option<PathBuf>,
    pub enabled: bool,
    /// `false` starts it with the daemon.
    pub lazy: bool,
    /// In front of its tools' names instead of `<server>_`; empty for bare names.
    pub prefix: Option<String>,
    pub discover: Discover,
    pub share: Share,
    pub roots: Vec<Root>,
    pub timeouts: Timeouts,
    pub limits: Limits,
    pub sandbox: Sandbox,
    pub tools: ToolFilter,
    /// Tells this entry from others that had its name before a reload. Not in the file.
    pub revision: u64,
    /// Of a host of plugins.
    pub code: Option<Code>,
}

impl Server {
    /// A server as `name: {}` would describe it.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            command: String::new(),
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            enabled: true,
            lazy: true,
            prefix: None,
            discover: Discover::Auto,
            share: Share::User,
            roots: Vec::new(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            sandbox: Sandbox::default(),
            tools: ToolFilter::default(),
            revision: 0,
            code: None,
        }
    }
}

/// The code of plugins, whose change changes the tools of their host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code {
    /// Files and folders.
    pub paths: Vec<PathBuf>,
    /// A change counts at once.
    pub watch: bool,
}

/// How the tools of a server that has not run yet are found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Discover {
    /// It is started once, and what it said is kept.
    #[default]
    Auto,
    /// A tool `_<name>_connect` stands in until a client calls it.
    Placeholder,
}

/// Which clients may share one instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Share {
    #[default]
    User,
    Session,
    Project,
    All,
}

impl Share {
    pub fn word(self) -> &'static str {
        let word = server::SHARE.iter().find(|(_, share)| *share == self);
        word.map_or("user", |(word, _)| word)
    }
}

/// A directory that the server is told of as an MCP root.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Root {
    /// Always `file:///…`.
    pub uri: String,
    pub name: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub start: Duration,
    pub call: Duration,
    /// The most that progress can extend a call to.
    pub max_call: Duration,
    /// `None` is never.
    pub idle: Option<Duration>,
    pub stop: Duration,
    /// What a package may take that is fetched before the first start.
    pub fetch: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(60),
            call: Duration::from_secs(60),
            max_call: Duration::from_secs(600),
            idle: Some(Duration::from_secs(300)),
            stop: Duration::from_secs(5),
            fetch: Duration::from_secs(300),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Calls in flight in one instance.
    pub calls: usize,
    /// Bytes in one line of its output.
    pub line: usize,
    /// Bytes of memory. `None`, here and below, is what the profile says.
    pub memory: Option<u64>,
    pub processes: Option<u64>,
    pub open_files: Option<u64>,
    /// Bytes of its private /tmp.
    pub tmp: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        let (memory, processes, open_files, tmp) = (None, None, None, None);
        Self { calls: 32, line: 8 << 20, memory, processes, open_files, tmp }
    }
}

/// Which of a server's tools exist at all, whoever asks. Globs; `deny` wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolFilter {
    /// `None` is every tool.
    pub allow: Option<Vec<String>>,
    pub deny: Vec<String>,
}

/// What a role may see and call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleRule {
    All,
    /// `allow: None` is everything but `deny`; `deny` wins.
    Globs {
        allow: Option<Vec<String>>,
        deny: Vec<String>,
    },
}

/// One rule of `access`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    pub who: Who,
    /// One of the roles.
    pub role: String,
}

/// Whom a rule is for: the name as it was written, and its number on this machine, if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    User { name: String, id: Option<u32> },
    Group { name: String, id: Option<u32> },
}

impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (kind, name) = match &self.who {
            Who::User { name, .. } => ("user", name),
            Who::Group { name, .. } => ("group", name),
        };
        write!(f, "{{{kind}: {name}, role: {}}}", self.role)
    }
}
