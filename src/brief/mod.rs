//! What the launcher is told of a backend, and what it tells: a [`Policy`] in, a report out.
//!
//! Stands apart, below the launcher and whoever starts it, so that both mean the same. Knows the
//! form of both messages, and what of the machine every backend sees; does nothing with either.
#![forbid(unsafe_code)]

mod form;
mod report;
mod system;

use std::{ffi::OsString, path::PathBuf};

pub use report::{Layer, Received};
pub use system::SYSTEM;

/// The text of the message that brings the launcher its descriptors.
pub const HELLO: &[u8] = b"mcp-gateway-exec 1";

/// The most that a blob may hold.
pub const MAX: usize = 8 << 20;

/// What the launcher puts around a program, and the program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Absolute, as it is seen inside.
    pub program: PathBuf,
    /// From argv[0] on.
    pub args: Vec<OsString>,
    pub env: Vec<(OsString, OsString)>,
    /// Where it starts, if that can be seen inside; else its home.
    pub cwd: Option<PathBuf>,
    /// Its own directory, writable; `None` is the private /tmp.
    pub home: Option<PathBuf>,
    /// Who it becomes. `None` stays who we are.
    pub ids: Option<Ids>,
    pub layers: Layers,
    pub shape: Shape,
    pub network: Network,
    pub read: Vec<PathBuf>,
    pub write: Vec<PathBuf>,
    pub limits: Limits,
    /// The folder of a cgroup of its own, which holds it to its limits. `None`: a watchdog does,
    /// as well as it can.
    pub cgroup: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// Which layers are put on. Each that is asked for and cannot be had is fatal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// User, mount, pid, IPC, UTS and cgroup namespaces, and with them the private root; a network
    /// one if the network is `None`.
    pub namespaces: bool,
    /// Landlock's rules for files, and for ports where the network is a list of them.
    pub landlock: bool,
    /// Landlock's scopes: no signal and no abstract socket leads out.
    pub scopes: bool,
    pub seccomp: bool,
}

impl Layers {
    pub const ALL: Layers =
        Layers { namespaces: true, landlock: true, scopes: true, seccomp: true };
    pub const NONE: Layers =
        Layers { namespaces: false, landlock: false, scopes: false, seccomp: false };
}

/// What the system call filter lets pass besides the usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// User namespaces of its own, and chroot: a browser's own sandbox.
    pub nested: bool,
    /// ptrace, among its own processes.
    pub trace: bool,
    /// Fonts and their configuration can be read.
    pub fonts: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Network {
    /// Loopback of its own.
    #[default]
    None,
    /// TCP to these ports; UDP to anywhere if `udp`, for names.
    Ports {
        tcp: Vec<u16>,
        udp: bool,
    },
    Host,
}

/// Zero is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes: of all processes together by a cgroup or the watchdog, twice as much of each one's
    /// data by the kernel.
    pub memory: u64,
    pub processes: u64,
    pub open_files: u64,
    /// Bytes of one file.
    pub file: u64,
    /// Bytes of the private /tmp and /dev/shm.
    pub tmp: u64,
    pub shm: u64,
}

/// Why a blob is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Of another version, or none at all.
    Version,
    /// Longer than [`MAX`], cut short, or with something left over.
    Length,
    /// A text with a NUL, or a number out of its range.
    Value,
}
