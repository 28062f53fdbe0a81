//! Why a backend could not be started, in words that name the thing and the remedy.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    config::{Layer, Server},
    launcher::{Network, Policy, Received},
};

/// Why an instance could not be started. Each names the thing and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("no program \"{command}\" in {path}: install it, or write its full path")]
    NotInPath { command: String, path: String },
    #[error("no file {}", .0.display())]
    Missing(PathBuf),
    #[error("{} is not executable (chmod +x, or name its interpreter as the command)", .0.display())]
    NotExecutable(PathBuf),
    #[error("cwd {} is not a folder", .0.display())]
    NoFolder(PathBuf),
    #[error("{} cannot be run: its interpreter (the `#!` line, or its loader) is missing, or is in a folder that sandbox.read does not name", .0.display())]
    NoInterpreter(PathBuf),
    #[error("{} cannot be run: {error}", program.display())]
    Exec { program: PathBuf, error: io::Error },
    #[error("{}", hidden(program, home.as_deref()))]
    Hidden { program: PathBuf, home: Option<PathBuf> },
    #[error("{} cannot be given to it: {why}", path.display())]
    NoGrant { path: PathBuf, why: String },
    #[error("{} is missing, without which no server is started: install it beside mcp-gateway", .0.display())]
    NoLauncher(PathBuf),
    #[error("its package {package} cannot be fetched: {reason}")]
    Fetch { package: String, reason: String },
    #[error("the launcher cannot be started: {0}")]
    Launcher(io::Error),
    #[error("its arguments and variables are more than can be passed on")]
    TooMuch,
    #[error("there is no folder for its state: set HOME, XDG_STATE_HOME or MCP_GATEWAY_STATE")]
    NoState,
    #[error("its state folder {} cannot be made: {error}", path.display())]
    State { path: PathBuf, error: io::Error },
    #[error(
        "refused, since its sandbox would have no {layer}: {reason}. {fix}, or leave {layer} out of its sandbox.require, which weakens it"
    )]
    Box { layer: &'static str, reason: String, fix: &'static str },
    #[error("its sandbox failed at the step \"{step}\": {reason}")]
    Step { step: String, reason: String },
}

fn hidden(program: &Path, home: Option<&Path>) -> String {
    let shown = program.display();
    let place = program.parent().unwrap_or(program).display();
    if home.is_some_and(|home| program.starts_with(home)) {
        format!(
            "{shown} lives under HOME, which no server sees: add `sandbox: {{read: [{place}]}}`"
        )
    } else {
        format!("{shown} is outside of what it sees: add `sandbox: {{read: [{place}]}}`")
    }
}

/// The layer that the kernel would not give, if that is what failed.
pub(super) fn missing_layer(received: &Received) -> Option<Layer> {
    let (step, _, what) = received.failed.as_ref()?;
    match step.as_str() {
        "user namespace" | "namespaces" => Some(Layer::Namespaces),
        // Of the root, what the kernel refuses; not a grant that is missing.
        "root" if !what.starts_with('/') && !what.starts_with("a place") => Some(Layer::Namespaces),
        "landlock" => Some(Layer::Landlock),
        "scopes" => Some(Layer::Scopes),
        "seccomp" => Some(Layer::Seccomp),
        _ => None,
    }
}

/// The failure in words.
pub(super) fn reason(received: &Received) -> String {
    let Some((step, errno, what)) = &received.failed else {
        return "it ended before it said why".to_owned();
    };
    let error = io::Error::from_raw_os_error(*errno);
    match (*errno, what.as_str()) {
        (0, what) => format!("{step}: {what}"),
        (_, "") => format!("{step}: {error}"),
        (_, what) => format!("{step}: {what}: {error}"),
    }
}

const ENOENT: i32 = 2;
const E2BIG: i32 = 7;
const EACCES: i32 = 13;
const ENOSPC: i32 = 28;

pub(super) fn failed(received: &Received, policy: &Policy, home: Option<&Path>) -> StartError {
    let program = || policy.program.clone();
    let step = received.failed.as_ref().map(|(step, errno, _)| (step.as_str(), *errno));
    if let Some(("execve", errno)) = step {
        return match errno {
            ENOENT if !policy.program.exists() => StartError::Missing(program()),
            ENOENT => StartError::NoInterpreter(program()),
            EACCES => StartError::NotExecutable(program()),
            E2BIG => StartError::TooMuch,
            errno => {
                StartError::Exec { program: program(), error: io::Error::from_raw_os_error(errno) }
            }
        };
    }
    if let Some(("root", ENOENT)) = step
        && let Some((_, _, what)) = &received.failed
        && what.starts_with('/')
    {
        let path = PathBuf::from(what);
        return if path == policy.program {
            StartError::Hidden { program: path, home: home.map(Path::to_owned) }
        } else {
            StartError::NoGrant { path, why: "does not exist".to_owned() }
        };
    }
    let Some(layer) = missing_layer(received) else {
        let step = step.map_or("start", |(step, _)| step).to_owned();
        return StartError::Step { step, reason: reason(received) };
    };
    let fix = match (layer, step) {
        (Layer::Namespaces, Some(("root", _))) => {
            "Take away what lies over /proc: a container's masks, or ProtectKernelTunables, ProtectKernelLogs and ProtectProc of a unit"
        }
        (Layer::Namespaces, Some((_, ENOSPC))) => {
            "Raise the sysctl user.max_user_namespaces (and user.max_*_namespaces)"
        }
        (Layer::Namespaces, _) => {
            "Allow user namespaces: sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0 or a profile with `userns,`, or the container's seccomp profile"
        }
        (Layer::Landlock | Layer::Scopes, _) => {
            "Use Linux 6.12 or later with landlock in its list of security modules (boot with lsm=landlock,…)"
        }
        (Layer::Seccomp, _) => "Use a kernel with CONFIG_SECCOMP_FILTER",
    };
    StartError::Box { layer: layer.word(), reason: reason(received), fix }
}

/// What the sandbox has to do with a backend's last words, if it does.
pub(super) fn explain(server: &Server, network: &Network, words: &[String]) -> Option<String> {
    const OFFLINE: [&str; 6] = [
        "EAI_AGAIN",
        "ENETUNREACH",
        "Network is unreachable",
        "Temporary failure in name resolution",
        "ENOTCACHED",
        "Network connectivity is disabled",
    ];
    let said = |needles: &[&str]| {
        words.iter().any(|word| needles.iter().any(|needle| word.contains(needle)))
    };
    if *network != Network::Host && said(&OFFLINE) {
        let name = &server.name;
        let off = match network {
            Network::None => "network is off for it",
            _ => "only some of the network is on for it",
        };
        return Some(format!(
            "{off} (servers.{name}.sandbox.network; `mcp-gateway check` shows what it is given)"
        ));
    }
    if said(&[
        "Read-only file system",
        "EROFS",
        "EACCES",
        "Permission denied",
        "No such file",
        "ENOENT",
    ]) {
        return Some(
            "it sees only what `mcp-gateway check` lists; sandbox.read and sandbox.write give more"
                .to_owned(),
        );
    }
    None
}
