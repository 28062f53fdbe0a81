//! What a backend gets, as the launcher is told it: one bounded, versioned blob.
//!
//! It comes over a descriptor, never in argv or the environment, which others can read. No serde:
//! every field is written and read here, a length before each text, and whatever is left over,
//! missing or too long is refused.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
};

/// The most that a blob may hold.
pub const MAX: usize = 8 << 20;

/// Changes with every change of the form. Launcher and spawner must agree.
const MAGIC: &[u8; 8] = b"mcpgwx\0\x01";

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
    /// Bytes: of all processes together by the watchdog, twice as much of each one's data by the
    /// kernel.
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

impl Policy {
    pub fn encode(&self) -> Result<Vec<u8>, Refused> {
        let mut out = Writer(MAGIC.to_vec());
        out.text(self.program.as_os_str());
        out.list(&self.args, |out, arg| out.text(arg));
        out.list(&self.env, |out, (name, value)| {
            out.text(name);
            out.text(value);
        });
        for path in [&self.cwd, &self.home] {
            out.text(path.as_deref().map_or(OsStr::new(""), |path| path.as_os_str()));
        }
        out.number(u64::from(self.ids.is_some()));
        if let Some(ids) = &self.ids {
            out.number(ids.uid.into());
            out.number(ids.gid.into());
            out.list(&ids.groups, |out, group| out.number((*group).into()));
        }
        let Layers { namespaces, landlock, scopes, seccomp } = self.layers;
        let Shape { nested, trace, fonts } = self.shape;
        for flag in [namespaces, landlock, scopes, seccomp, nested, trace, fonts] {
            out.number(flag.into());
        }
        match &self.network {
            Network::None => out.number(0),
            Network::Host => out.number(1),
            Network::Ports { tcp, udp } => {
                out.number(2);
                out.list(tcp, |out, port| out.number((*port).into()));
                out.number((*udp).into());
            }
        }
        out.list(&self.read, |out, path| out.text(path.as_os_str()));
        out.list(&self.write, |out, path| out.text(path.as_os_str()));
        let Limits { memory, processes, open_files, file, tmp, shm } = self.limits;
        for limit in [memory, processes, open_files, file, tmp, shm] {
            out.number(limit);
        }
        if out.0.len() > MAX { Err(Refused::Length) } else { Ok(out.0) }
    }

    pub fn decode(blob: &[u8]) -> Result<Self, Refused> {
        if blob.len() > MAX {
            return Err(Refused::Length);
        }
        let mut from = Reader(blob.strip_prefix(MAGIC).ok_or(Refused::Version)?);
        let policy = Policy {
            program: from.text()?.into(),
            args: from.list(Reader::text)?,
            env: from.list(|from| Ok((from.text()?, from.text()?)))?,
            cwd: from.path()?,
            home: from.path()?,
            ids: match from.flag()? {
                false => None,
                true => {
                    let (uid, gid) = (from.small()?, from.small()?);
                    Some(Ids { uid, gid, groups: from.list(Reader::small)? })
                }
            },
            layers: Layers {
                namespaces: from.flag()?,
                landlock: from.flag()?,
                scopes: from.flag()?,
                seccomp: from.flag()?,
            },
            shape: Shape { nested: from.flag()?, trace: from.flag()?, fonts: from.flag()? },
            network: match from.number()? {
                0 => Network::None,
                1 => Network::Host,
                2 => Network::Ports { tcp: from.list(Reader::small)?, udp: from.flag()? },
                _ => return Err(Refused::Value),
            },
            read: from.list(|from| Ok(from.text()?.into()))?,
            write: from.list(|from| Ok(from.text()?.into()))?,
            limits: Limits {
                memory: from.number()?,
                processes: from.number()?,
                open_files: from.number()?,
                file: from.number()?,
                tmp: from.number()?,
                shm: from.number()?,
            },
        };
        if from.0.is_empty() { Ok(policy) } else { Err(Refused::Length) }
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn text(&mut self, text: &OsStr) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    fn list<T>(&mut self, items: &[T], write: impl Fn(&mut Self, &T)) {
        self.number(items.len() as u64);
        for item in items {
            write(self, item);
        }
    }
}

/// What has not been read yet.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Result<u64, Refused> {
        let (number, rest) = self.0.split_first_chunk().ok_or(Refused::Length)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*number))
    }

    fn small<T: TryFrom<u64>>(&mut self) -> Result<T, Refused> {
        T::try_from(self.number()?).map_err(|_| Refused::Value)
    }

    fn flag(&mut self) -> Result<bool, Refused> {
        match self.number()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Refused::Value),
        }
    }

    fn text(&mut self) -> Result<OsString, Refused> {
        let len = usize::try_from(self.number()?).map_err(|_| Refused::Length)?;
        let (text, rest) = self.0.split_at_checked(len).ok_or(Refused::Length)?;
        self.0 = rest;
        if text.contains(&0) {
            return Err(Refused::Value);
        }
        Ok(OsString::from_vec(text.to_vec()))
    }

    fn path(&mut self) -> Result<Option<PathBuf>, Refused> {
        Ok(Some(PathBuf::from(self.text()?)).filter(|path| !path.as_os_str().is_empty()))
    }

    fn list<T>(
        &mut self,
        read: impl Fn(&mut Self) -> Result<T, Refused>,
    ) -> Result<Vec<T>, Refused> {
        // No room is made for what is only claimed: an item takes eight bytes at least.
        let count = self.number()?;
        if count > self.0.len() as u64 / 8 {
            return Err(Refused::Length);
        }
        (0..count).map(|_| read(self)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Policy {
        Policy {
            program: "/usr/bin/node".into(),
            args: vec!["node".into(), "".into(), OsString::from_vec(vec![0xff, b'x'])],
            env: vec![("TOKEN".into(), "secret".into())],
            cwd: Some("/srv".into()),
            home: None,
            ids: Some(Ids { uid: 61001, gid: 61002, groups: vec![7] }),
            layers: Layers::ALL,
            shape: Shape { nested: true, ..Shape::default() },
            network: Network::Ports { tcp: vec![443, 80], udp: true },
            read: vec!["/srv/docs".into()],
            write: vec![],
            limits: Limits { memory: 1 << 40, tmp: 64 << 20, ..Limits::default() },
        }
    }

    #[test]
    fn a_blob_is_read_back_as_it_was() {
        for network in [Network::None, Network::Host, sample().network] {
            for ids in [None, sample().ids] {
                let policy = Policy { network: network.clone(), ids, ..sample() };
                assert_eq!(Policy::decode(&policy.encode().unwrap()), Ok(policy));
            }
        }
    }

    #[test]
    fn nothing_that_is_cut_or_added_to_is_a_blob() {
        let blob = sample().encode().unwrap();
        for len in 0..blob.len() {
            assert!(Policy::decode(&blob[..len]).is_err(), "{len} bytes of {}", blob.len());
        }
        assert_eq!(Policy::decode(&[&blob[..], b"\0"].concat()), Err(Refused::Length));
        assert_eq!(Policy::decode(&[b"mcpgwx\0\x02", &blob[8..]].concat()), Err(Refused::Version));
    }

    #[test]
    fn no_byte_of_a_blob_can_make_it_panic_or_reserve_much() {
        let blob = sample().encode().unwrap();
        for at in 0..blob.len() {
            for byte in [0, 1, 2, 0x7f, 0xff] {
                let mut other = blob.clone();
                other[at] = byte;
                let _ = Policy::decode(&other);
            }
        }
    }

    #[test]
    fn a_nul_and_a_blob_too_long_are_refused() {
        let nul = Policy { program: OsString::from_vec(vec![b'/', 0]).into(), ..sample() };
        assert_eq!(Policy::decode(&nul.encode().unwrap()), Err(Refused::Value));
        let long = Policy { args: vec![OsString::from_vec(vec![b'x'; MAX])], ..sample() };
        assert_eq!(long.encode(), Err(Refused::Length));
    }
}
