//! Finds the gateway's socket, connects, and sees who listens there.
//!
//! The first of `--socket`, `$MCP_GATEWAY_SOCKET`, the user's and the system's that exists. What
//! listens must be root (which the init system is), or ourselves: nobody else's process is told
//! what a client has to say.

use std::{
    env, fmt, fs,
    io::{self, ErrorKind},
    os::unix::{fs::MetadataExt, net::UnixStream},
    path::{Path, PathBuf},
};

use super::os;

#[cfg(not(target_os = "macos"))]
const SYSTEM: &str = "/run/mcp-gateway/mcp-gateway.sock";
#[cfg(target_os = "macos")]
const SYSTEM: &str = "/var/run/mcp-gateway.sock";

/// Who may use the system's gateway, as its package makes it.
const GROUP: &str = "mcp-gateway-users";

pub enum Failure {
    /// No path to try is there.
    NoSocket(Vec<PathBuf>),
    /// Nobody listens any more.
    Dead(PathBuf, io::Error),
    Forbidden(PathBuf),
    /// Somebody else listens.
    Stranger(PathBuf, u32),
}

/// Where sockets are looked for, in order.
pub fn places(given: Option<&Path>) -> Vec<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(one) = given.map(Path::to_owned).or_else(|| set("MCP_GATEWAY_SOCKET")) {
        return vec![one];
    }
    let runtime = set("XDG_RUNTIME_DIR").filter(|dir| dir.is_absolute());
    let runtime = runtime.unwrap_or_else(|| format!("/run/user/{}", os::uid()).into());
    vec![runtime.join("mcp-gateway/mcp-gateway.sock"), SYSTEM.into()]
}

pub fn connect(places: &[PathBuf]) -> Result<UnixStream, Failure> {
    let there = |path: &&PathBuf| match fs::symlink_metadata(path) {
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
        Ok(_) => true,
    };
    let Some(path) = places.iter().find(there) else {
        return Err(Failure::NoSocket(places.to_vec()));
    };
    let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => Failure::Forbidden(path.clone()),
        _ => Failure::Dead(path.clone(), error),
    })?;
    match os::listener_uid(&stream) {
        Ok(uid) if uid == 0 || uid == os::uid() => Ok(stream),
        Ok(uid) => Err(Failure::Stranger(path.clone(), uid)),
        Err(error) => Err(Failure::Dead(path.clone(), error)),
    }
}

impl Failure {
    /// Whether it may be better in a moment: a daemon is being replaced.
    pub fn passes(&self) -> bool {
        matches!(self, Failure::NoSocket(_) | Failure::Dead(..))
    }

    /// sysexits(3).
    pub fn status(&self) -> u8 {
        match self {
            Failure::NoSocket(_) | Failure::Dead(..) => 69,
            Failure::Forbidden(_) | Failure::Stranger(..) => 77,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NoSocket(tried) => {
                let tried: Vec<_> = tried.iter().map(|path| path.to_string_lossy()).collect();
                write!(out, "no gateway listens at {}", tried.join(" or "))?;
                out.write_str(HELP)
            }
            Failure::Dead(path, error) => {
                write!(out, "{}: nobody answers here: {error}", path.display())?;
                out.write_str(HELP)
            }
            Failure::Forbidden(path) => {
                let name = os::user_name(os::uid()).unwrap_or_else(|| os::uid().to_string());
                let group = fs::metadata(path).ok().map(|there| there.gid());
                let group = group.filter(|gid| *gid != 0).and_then(os::group_name);
                let group = group.unwrap_or_else(|| GROUP.to_owned());
                write!(
                    out,
                    "{}: you may not use this gateway; an administrator has to run\n  \
                     usermod -aG {group} {name}\nand you have to log in again",
                    path.display()
                )
            }
            Failure::Stranger(path, uid) => {
                let name = os::user_name(*uid).unwrap_or_else(|| "unknown".to_owned());
                write!(
                    out,
                    "{}: the one who listens here is neither root nor you but uid {uid} ({name}); \
                     nothing was sent",
                    path.display()
                )
            }
        }
    }
}

#[cfg(not(target_os = "macos"))]
const HELP: &str = "\none of these starts one:\n  \
    sudo systemctl enable --now mcp-gateway.socket    for the whole machine\n  \
    systemctl --user enable --now mcp-gateway.socket  for you alone\n  \
    mcp-gateway-stdio --standalone                    for this client alone, with no service";
#[cfg(target_os = "macos")]
const HELP: &str = "\none of these starts one:\n  \
    sudo launchctl bootstrap system /Library/LaunchDaemons/io.github.mcp-gateway.plist\n  \
    brew services start mcp-gateway   for you alone\n  \
    mcp-gateway-stdio --standalone    for this client alone, with no service";
