//! Tries to break out of the sandbox that it runs in, and says what worked.
//!
//! Stands apart: `mcp-gateway-exec --probe` runs it as if it were a backend, for `doctor` and for the
//! tests. It is told of things outside by `NAME=VALUE` arguments; an attack that would need one that
//! is missing is left out. It harms nothing: what it reaches it only touches.
#![allow(unsafe_code)]

mod attacks;

use std::{collections::BTreeMap, io::Write, process::ExitCode};

use nix::errno::Errno;

/// What the probe may be told of, each outside of the sandbox and reachable without one.
pub const TARGETS: [(&str, &str); 11] = [
    ("secret", "a file that this user may read"),
    ("other", "a file of somebody else"),
    ("shared", "a directory that everybody may write to"),
    ("allowed", "a directory that is granted for writing"),
    ("victim", "the pid of another process of this user"),
    ("tcp", "a port of 127.0.0.1 where somebody listens"),
    ("udp", "a port of 127.0.0.1 where datagrams are sent back"),
    ("abstract", "the name of an abstract Unix socket"),
    ("socket", "the path of a Unix socket that anybody may connect to"),
    ("shm", "the id of a shared memory segment that anybody may read"),
    ("canary", "the value of a variable that must not get in"),
];

/// What is known of the outside.
pub(crate) struct Outside(BTreeMap<String, String>);

impl Outside {
    fn get(&self, name: &str) -> Tried<&str> {
        self.0.get(name).map(String::as_str).ok_or(Failed::Untold)
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Tried<T> {
        self.get(name)?.parse().map_err(|_| Failed::Untold)
    }
}

/// Why an attack did not work.
#[derive(Debug)]
enum Failed {
    Errno(Errno),
    /// It went through and had no effect outside.
    NoEffect,
    /// It needs a target that was not given.
    Untold,
}

impl From<Errno> for Failed {
    fn from(errno: Errno) -> Self {
        Failed::Errno(errno)
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Failed::Errno(Errno::from_raw(errno)),
            None => Failed::NoEffect,
        }
    }
}

type Tried<T = ()> = Result<T, Failed>;

/// One line an attack: its name, and `REACHED` or why not.
pub fn main(args: impl IntoIterator<Item = String>) -> ExitCode {
    let told = args.into_iter().filter_map(|arg| {
        let (name, value) = arg.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    let outside = Outside(told.collect());
    let mut out = std::io::stdout().lock();
    for (name, attack) in attacks::ALL {
        let said = match attack(&outside) {
            Ok(()) => "REACHED".to_owned(),
            Err(Failed::Errno(errno)) => format!("{errno:?}"),
            Err(Failed::NoEffect) => "no effect".to_owned(),
            Err(Failed::Untold) => continue,
        };
        if writeln!(out, "{name}\t{said}").is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
