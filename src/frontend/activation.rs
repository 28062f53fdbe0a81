//! The sockets that the gateway is handed: by systemd with the name of their unit, by launchd
//! under the keys of the job's `Sockets`.
//!
//! What is not known by its name, is of another kind than its name says, or does not listen is
//! refused: somebody meant something else by it. Knows no paths and no addresses; what is not
//! handed over is bound elsewhere.

use std::{
    env, io,
    net::TcpListener,
    os::{fd::AsFd, unix::net::UnixListener},
};

use listenfd::ListenFd;

use crate::sys::fds;
#[cfg(target_os = "macos")]
use crate::sys::launchd;

/// The Unix socket, and the TCP one, as their units and the job's keys are called.
pub const UNIX: &str = "mcp-gateway.socket";
pub const HTTP: &str = "mcp-gateway-http.socket";

/// More is no mistake of ours to serve.
const MOST: usize = 16;

/// Sockets that somebody else has bound, and listens on when we have gone.
#[derive(Debug, Default)]
pub struct Handed {
    pub unix: Vec<UnixListener>,
    pub tcp: Vec<TcpListener>,
}

impl Handed {
    pub fn is_empty(&self) -> bool {
        self.unix.is_empty() && self.tcp.is_empty()
    }
}

/// Why what was handed over is not served.
#[derive(Debug, thiserror::Error)]
pub enum Foreign {
    #[error("{MOST} sockets may be passed, and there are {0} (LISTEN_FDS)")]
    TooMany(String),
    #[error(
        "socket {number} was passed without a name; its unit needs FileDescriptorName={UNIX} or {HTTP}"
    )]
    Nameless { number: usize },
    #[error(
        "socket {number} was passed as \"{name}\", which is not known here: a unix socket is \"{UNIX}\" and a tcp one \"{HTTP}\" (FileDescriptorName=)"
    )]
    Unknown { number: usize, name: String },
    #[error("{names} names were passed for {sockets} sockets (LISTEN_FDNAMES)")]
    Surplus { names: usize, sockets: usize },
    #[error("socket {number}, \"{name}\": {error}")]
    Kind { number: usize, name: String, error: io::Error },
}

/// Takes what was handed to this process. Empty where nothing was; the variables are used up.
pub fn take() -> Result<Handed, Foreign> {
    #[cfg(target_os = "macos")]
    {
        let handed = from_launchd()?;
        if !handed.is_empty() {
            return Ok(handed);
        }
    }
    from_systemd()
}

fn from_systemd() -> Result<Handed, Foreign> {
    let count = env::var("LISTEN_FDS").unwrap_or_default();
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    // A parent's, which we have only inherited, are not ours.
    let ours = env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
    if !ours || count.is_empty() || count == "0" {
        return Ok(Handed::default());
    }
    if count.parse::<usize>().is_ok_and(|count| count > MOST) {
        return Err(Foreign::TooMany(count));
    }
    let mut listed = ListenFd::from_env();
    let names: Vec<&str> = if names.is_empty() { Vec::new() } else { names.split(':').collect() };
    sort(&mut listed, &names)
}

fn sort(listed: &mut ListenFd, names: &[&str]) -> Result<Handed, Foreign> {
    if names.len() > listed.len() {
        return Err(Foreign::Surplus { names: names.len(), sockets: listed.len() });
    }
    let mut handed = Handed::default();
    for at in 0..listed.len() {
        let number = at + 1;
        let name = names.get(at).copied().unwrap_or_default();
        let wrong = |error| Foreign::Kind { number, name: name.to_owned(), error };
        match name {
            UNIX => {
                if let Some(listener) = listed.take_unix_listener(at).map_err(wrong)? {
                    listens(&listener).map_err(wrong)?;
                    listener.set_nonblocking(true).map_err(wrong)?;
                    handed.unix.push(listener);
                }
            }
            HTTP => {
                if let Some(listener) = listed.take_tcp_listener(at).map_err(wrong)? {
                    listens(&listener).map_err(wrong)?;
                    listener.set_nonblocking(true).map_err(wrong)?;
                    handed.tcp.push(listener);
                }
            }
            "" => return Err(Foreign::Nameless { number }),
            _ => return Err(Foreign::Unknown { number, name: name.to_owned() }),
        }
    }
    Ok(handed)
}

fn listens(socket: &impl AsFd) -> io::Result<()> {
    if fds::listens(socket)? { Ok(()) } else { Err(io::Error::other("it does not listen")) }
}

#[cfg(target_os = "macos")]
fn from_launchd() -> Result<Handed, Foreign> {
    let mut handed = Handed::default();
    for name in [UNIX, HTTP] {
        let wrong = |error| Foreign::Kind { number: 0, name: name.to_owned(), error };
        for socket in launchd::activate(name).map_err(wrong)? {
            listens(&socket).map_err(wrong)?;
            if name == UNIX {
                let listener = UnixListener::from(socket);
                listener.local_addr().map_err(wrong)?;
                listener.set_nonblocking(true).map_err(wrong)?;
                handed.unix.push(listener);
            } else {
                let listener = TcpListener::from(socket);
                listener.local_addr().map_err(wrong)?;
                listener.set_nonblocking(true).map_err(wrong)?;
                handed.tcp.push(listener);
            }
        }
    }
    Ok(handed)
}
