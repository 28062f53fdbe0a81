//! A [`Policy`] as bytes: one bounded, versioned blob.
//!
//! It goes over a descriptor, never in argv or the environment, which others can read. No serde:
//! one walk names every field in its order, for writing and for reading, with a length before each
//! text, and whatever is left over, missing or too long is refused.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
};

use super::{Ids, Layers, Limits, MAX, Network, Policy, Refused, Shape};

/// Changes with every change of the form. Launcher and spawner must agree.
const MAGIC: &[u8; 8] = b"mcpgwx\0\x03";

type Outcome = Result<(), Refused>;

impl Policy {
    pub fn encode(&self) -> Result<Vec<u8>, Refused> {
        let mut out = Writer(MAGIC.to_vec());
        self.clone().walk(&mut out)?;
        if out.0.len() > MAX { Err(Refused::Length) } else { Ok(out.0) }
    }

    pub fn decode(blob: &[u8]) -> Result<Self, Refused> {
        if blob.len() > MAX {
            return Err(Refused::Length);
        }
        let mut from = Reader(blob.strip_prefix(MAGIC).ok_or(Refused::Version)?);
        let mut policy = Policy::default();
        policy.walk(&mut from)?;
        if from.0.is_empty() { Ok(policy) } else { Err(Refused::Length) }
    }

    fn walk(&mut self, form: &mut impl Form) -> Outcome {
        form.text(self.program.as_mut_os_string())?;
        form.list(&mut self.args, |form, arg| form.text(arg))?;
        form.list(&mut self.env, |form, (name, value)| {
            form.text(name)?;
            form.text(value)
        })?;
        for path in [&mut self.cwd, &mut self.home, &mut self.cgroup] {
            let mut text = path.take().unwrap_or_default();
            form.text(text.as_mut_os_string())?;
            *path = Some(text).filter(|path| !path.as_os_str().is_empty());
        }
        let mut changes = self.ids.is_some();
        form.flag(&mut changes)?;
        if changes {
            let Ids { uid, gid, groups } = self.ids.get_or_insert_default();
            form.small(uid)?;
            form.small(gid)?;
            form.list(groups, |form, group| form.small(group))?;
        }
        let Layers { namespaces, landlock, scopes, seccomp } = &mut self.layers;
        let Shape { nested, trace, fonts } = &mut self.shape;
        for flag in [namespaces, landlock, scopes, seccomp, nested, trace, fonts] {
            form.flag(flag)?;
        }
        network(&mut self.network, form)?;
        for paths in [&mut self.read, &mut self.write] {
            form.list(paths, |form, path: &mut PathBuf| form.text(path.as_mut_os_string()))?;
        }
        let Limits { memory, processes, open_files, file, tmp, shm } = &mut self.limits;
        for limit in [memory, processes, open_files, file, tmp, shm] {
            form.number(limit)?;
        }
        Ok(())
    }
}

fn network(network: &mut Network, form: &mut impl Form) -> Outcome {
    let mut kind = match network {
        Network::None => 0,
        Network::Host => 1,
        Network::Ports { .. } => 2,
    };
    form.number(&mut kind)?;
    match kind {
        0 => *network = Network::None,
        1 => *network = Network::Host,
        2 => {
            if !matches!(network, Network::Ports { .. }) {
                *network = Network::Ports { tcp: Vec::new(), udp: false };
            }
            if let Network::Ports { tcp, udp } = network {
                form.list(tcp, |form, port| form.small(port))?;
                form.flag(udp)?;
            }
        }
        _ => return Err(Refused::Value),
    }
    Ok(())
}

/// Writes what it is shown, or overwrites it with what it reads.
trait Form {
    fn number(&mut self, number: &mut u64) -> Outcome;
    fn text(&mut self, text: &mut OsString) -> Outcome;
    fn list<T: Default>(
        &mut self,
        items: &mut Vec<T>,
        each: impl Fn(&mut Self, &mut T) -> Outcome,
    ) -> Outcome;

    fn small<T: TryFrom<u64> + Into<u64> + Copy>(&mut self, number: &mut T) -> Outcome {
        let mut wide = (*number).into();
        self.number(&mut wide)?;
        *number = T::try_from(wide).map_err(|_| Refused::Value)?;
        Ok(())
    }

    fn flag(&mut self, flag: &mut bool) -> Outcome {
        let mut wide = u64::from(*flag);
        self.number(&mut wide)?;
        *flag = wide == 1;
        if wide > 1 { Err(Refused::Value) } else { Ok(()) }
    }
}

struct Writer(Vec<u8>);

impl Form for Writer {
    fn number(&mut self, number: &mut u64) -> Outcome {
        self.0.extend_from_slice(&number.to_le_bytes());
        Ok(())
    }

    fn text(&mut self, text: &mut OsString) -> Outcome {
        self.number(&mut (text.len() as u64))?;
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }

    fn list<T: Default>(
        &mut self,
        items: &mut Vec<T>,
        each: impl Fn(&mut Self, &mut T) -> Outcome,
    ) -> Outcome {
        self.number(&mut (items.len() as u64))?;
        items.iter_mut().try_for_each(|item| each(self, item))
    }
}

/// What has not been read yet.
struct Reader<'a>(&'a [u8]);

impl Form for Reader<'_> {
    fn number(&mut self, number: &mut u64) -> Outcome {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Refused::Length)?;
        self.0 = rest;
        *number = u64::from_le_bytes(*bytes);
        Ok(())
    }

    fn text(&mut self, text: &mut OsString) -> Outcome {
        let mut len = 0;
        self.number(&mut len)?;
        let len = usize::try_from(len).map_err(|_| Refused::Length)?;
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Refused::Length)?;
        self.0 = rest;
        *text = OsString::from_vec(bytes.to_vec());
        if bytes.contains(&0) { Err(Refused::Value) } else { Ok(()) }
    }

    fn list<T: Default>(
        &mut self,
        items: &mut Vec<T>,
        each: impl Fn(&mut Self, &mut T) -> Outcome,
    ) -> Outcome {
        // No room is made for what is only claimed: an item takes eight bytes at least.
        let mut count = 0;
        self.number(&mut count)?;
        if count > self.0.len() as u64 / 8 {
            return Err(Refused::Length);
        }
        for _ in 0..count {
            let mut item = T::default();
            each(self, &mut item)?;
            items.push(item);
        }
        Ok(())
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
            cgroup: Some("/sys/fs/cgroup/x".into()),
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
        assert_eq!(Policy::decode(&[b"mcpgwx\0\x01", &blob[8..]].concat()), Err(Refused::Version));
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
