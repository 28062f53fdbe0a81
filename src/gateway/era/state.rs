//! `requestState`: what a client carries for us from one round of a request to the next.
//!
//! It is attacker-controlled input when it comes back (mrtr, "Server Requirements"), so it is
//! sealed: bound to who asked, for what, and until when, and good for one use.

use std::{
    collections::BTreeSet,
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chacha20poly1305::{
    Key, XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};

use crate::gateway::error::Failure;

/// States that were used and have not expired, of all clients.
const USED: usize = 65_536;
/// A key in our own file that is older is replaced at the next start, and accepted once more.
const KEY_AGE: Duration = Duration::from_secs(24 * 60 * 60);
const NONCE: usize = 24;
const ID: usize = 16;
/// Id, expiry, kind.
const HEAD: usize = ID + 8 + 1;

/// What the state is bound to. Presented with anything else it opens to nobody.
#[derive(Clone, Copy, Debug)]
pub(in crate::gateway) struct Bound<'a> {
    pub principal: &'a str,
    pub server: &'a str,
    pub method: &'a str,
    /// The tool or prompt by its backend's name, or the URI.
    pub name: &'a str,
}

impl Bound<'_> {
    fn bytes(&self) -> Vec<u8> {
        let parts = [self.principal, self.server, self.method, self.name];
        let mut bytes = Vec::new();
        for part in parts {
            // With its length, so that no two sets of parts look alike.
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}

/// What a state stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::gateway) enum Held {
    /// A call that waits for its client's answers.
    Parked,
    /// The backend's own state, JSON text of a string.
    Inner(String),
    /// Nothing: the same request again.
    Again,
}

/// One state, opened.
#[derive(Clone, Debug)]
pub(in crate::gateway) struct Opened {
    /// Names it, and the parked call.
    pub id: [u8; ID],
    pub held: Held,
    expires: u64,
}

/// The keys that states are sealed with: the newest, and the one before it.
pub struct Keys {
    current: Key,
    previous: Option<Key>,
}

impl Keys {
    /// For states that need not outlive the process.
    pub fn random() -> Self {
        Keys { current: Key::from(random::<32>()), previous: None }
    }

    /// From a file with a key in each line, 64 hexadecimal digits; the first one seals.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = fs::read_to_string(path)?;
        let mut keys = text.lines().filter(|line| !line.trim().is_empty()).map(key);
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "no key of 64 hex digits");
        let current = keys.next().flatten().ok_or_else(wrong)?;
        let previous = keys.next().map(|key| key.ok_or_else(wrong)).transpose()?;
        Ok(Keys { current, previous })
    }

    /// From our own file in this folder, made and renewed as needed; for nobody else's eyes.
    pub fn keep(folder: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let path = folder.join("request-state.key");
        let known = match fs::symlink_metadata(&path) {
            Ok(meta) => {
                let private = meta.is_file() && meta.mode() & 0o077 == 0;
                if !private {
                    return Err(io::Error::other("it is there, and others may read or write it"));
                }
                let fresh = meta.modified()?.elapsed().is_ok_and(|age| age < KEY_AGE);
                let keys = Self::read(&path)?;
                if fresh {
                    return Ok(keys);
                }
                Some(keys.current)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let keys = Keys { current: Key::from(random::<32>()), previous: known };
        let fresh = path.with_extension(format!("{}.new", std::process::id()));
        let _ = fs::remove_file(&fresh);
        let mut out =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        for key in [Some(&keys.current), keys.previous.as_ref()].into_iter().flatten() {
            writeln!(out, "{}", hex(key))?;
        }
        drop(out);
        fs::rename(&fresh, &path)?;
        Ok(keys)
    }
}

fn key(line: &str) -> Option<Key> {
    let line = line.trim();
    let mut bytes = [0; 32];
    if line.len() != 64 || !line.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&line[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(Key::from(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if getrandom::fill(&mut bytes).is_err() {
        // A nonce or a key that could be guessed would seal nothing.
        tracing::error!("the kernel gives no random bytes");
        std::process::abort();
    }
    bytes
}

/// Seals states, opens them, and knows which were used.
pub(in crate::gateway) struct States {
    keys: Keys,
    used: Mutex<BTreeSet<(u64, [u8; ID])>>,
}

impl States {
    pub(in crate::gateway) fn new(keys: Keys) -> Self {
        States { keys, used: Mutex::default() }
    }

    pub(super) fn id() -> [u8; ID] {
        random()
    }

    pub(super) fn seal(
        &self,
        bound: Bound<'_>,
        id: [u8; ID],
        held: &Held,
        lives: Duration,
    ) -> String {
        let expires = now().saturating_add(lives.as_secs().max(1));
        let mut plain = Vec::with_capacity(HEAD);
        plain.extend_from_slice(&id);
        plain.extend_from_slice(&expires.to_be_bytes());
        match held {
            Held::Parked => plain.push(0),
            Held::Again => plain.push(1),
            Held::Inner(state) => {
                plain.push(2);
                plain.extend_from_slice(state.as_bytes());
            }
        }
        let nonce = random::<NONCE>();
        let aad = bound.bytes();
        let payload = Payload { msg: &plain, aad: &aad };
        let cipher = XChaCha20Poly1305::new(&self.keys.current);
        // It fails only for texts of many gigabytes.
        let sealed = cipher.encrypt(&XNonce::from(nonce), payload).unwrap_or_default();
        URL_SAFE_NO_PAD.encode([&nonce[..], &sealed[..]].concat())
    }

    /// Opens what a client presents; `text` is JSON text.
    pub(super) fn open(&self, bound: Bound<'_>, text: &str) -> Result<Opened, Failure> {
        let opened = self.unseal(bound, text).ok_or(Failure::BadState(
            "it was changed, or it belongs to another caller, backend or request",
        ))?;
        if opened.expires <= now() {
            return Err(Failure::BadState("it has expired; make the request anew"));
        }
        if self.used.lock().unwrap_or_else(PoisonError::into_inner).contains(&opened.key()) {
            return Err(Failure::BadState("it was used already; make the request anew"));
        }
        Ok(opened)
    }

    /// Uses it up. Of two who come with the same one, one gets it.
    pub(super) fn consume(&self, opened: &Opened) -> Result<(), Failure> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now();
        while used.first().is_some_and(|(expires, _)| *expires <= now) {
            used.pop_first();
        }
        if used.len() >= USED {
            return Err(Failure::TooMany(format!("{USED} states are remembered as used")));
        }
        if !used.insert(opened.key()) {
            return Err(Failure::BadState("it was used already; make the request anew"));
        }
        Ok(())
    }

    fn unseal(&self, bound: Bound<'_>, text: &str) -> Option<Opened> {
        let text: String = serde_json::from_str(text).ok()?;
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE)?;
        let nonce = XNonce::try_from(nonce).ok()?;
        let aad = bound.bytes();
        let keys = [Some(&self.keys.current), self.keys.previous.as_ref()];
        let plain = keys.into_iter().flatten().find_map(|key| {
            let payload = Payload { msg: sealed, aad: &aad };
            XChaCha20Poly1305::new(key).decrypt(&nonce, payload).ok()
        })?;
        let (head, rest) = plain.split_at_checked(HEAD)?;
        let held = match head[HEAD - 1] {
            0 => Held::Parked,
            1 => Held::Again,
            2 => Held::Inner(String::from_utf8(rest.to_vec()).ok()?),
            _ => return None,
        };
        Some(Opened {
            id: head[..ID].try_into().ok()?,
            expires: u64::from_be_bytes(head[ID..ID + 8].try_into().ok()?),
            held,
        })
    }
}

impl Opened {
    fn key(&self) -> (u64, [u8; ID]) {
        (self.expires, self.id)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(u64::MAX, |time| time.as_secs())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::*;

    const BOUND: Bound<'static> =
        Bound { principal: "uid:1", server: "s", method: "tools/call", name: "t" };
    const LONG: Duration = Duration::from_secs(60);

    fn quoted(text: &str) -> String {
        format!("\"{text}\"")
    }

    #[test]
    fn a_state_opens_where_it_belongs_and_once() {
        let states = States::new(Keys::random());
        for held in [Held::Parked, Held::Again, Held::Inner("\"theirs\"".into())] {
            let sealed = quoted(&states.seal(BOUND, States::id(), &held, LONG));
            let opened = states.open(BOUND, &sealed).unwrap();
            assert_eq!(opened.held, held);
            states.consume(&opened).unwrap();
            assert!(states.consume(&opened).is_err(), "of two at once, one");
            assert!(states.open(BOUND, &sealed).is_err(), "replayed");
        }
    }

    #[test]
    fn a_foreign_changed_or_expired_state_opens_to_nobody() {
        let states = States::new(Keys::random());
        let state = states.seal(BOUND, States::id(), &Held::Parked, LONG);
        for foreign in [
            Bound { principal: "uid:2", ..BOUND },
            Bound { server: "s2", ..BOUND },
            Bound { method: "prompts/get", ..BOUND },
            Bound { name: "t2", ..BOUND },
            Bound { principal: "uid:", server: "1s", ..BOUND },
        ] {
            assert!(states.open(foreign, &quoted(&state)).is_err(), "{foreign:?}");
        }
        for at in 0..state.len() {
            let mut changed = state.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(states.open(BOUND, &quoted(&changed)).is_err(), "byte {at}");
        }
        for cut in 0..state.len() {
            assert!(states.open(BOUND, &quoted(&state[..cut])).is_err(), "{cut}");
        }
        for odd in ["", "null", "3", "{}", "\"", "\"é\"", "\"....\""] {
            assert!(states.open(BOUND, odd).is_err(), "{odd}");
        }
        let other = States::new(Keys::random());
        assert!(other.open(BOUND, &quoted(&state)).is_err(), "another gateway's");
        let opened = states.open(BOUND, &quoted(&state)).unwrap();
        assert!(opened.expires > now());
        let late = Opened { expires: now(), ..opened };
        states.consume(&late).unwrap();
        assert_eq!(states.used.lock().unwrap().len(), 1);
        states.consume(&states.open(BOUND, &quoted(&state)).unwrap()).unwrap();
        assert_eq!(states.used.lock().unwrap().len(), 1, "expired ones are forgotten");
    }

    #[test]
    fn an_expired_state_is_refused_with_that_reason() {
        let states = States::new(Keys::random());
        let state = states.seal(BOUND, States::id(), &Held::Again, Duration::ZERO);
        let until = std::time::Instant::now() + Duration::from_secs(3);
        let refused = loop {
            match states.open(BOUND, &quoted(&state)) {
                Err(refused) => break refused,
                Ok(_) => assert!(std::time::Instant::now() < until, "it never expires"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(refused.to_string().contains("expired"), "{refused}");
    }

    #[test]
    fn the_key_stays_private_and_the_one_before_still_opens() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("run");
        let file = folder.join("request-state.key");
        let first = States::new(Keys::keep(&folder).unwrap());
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        let state = quoted(&first.seal(BOUND, States::id(), &Held::Again, LONG));
        let same = States::new(Keys::keep(&folder).unwrap());
        assert!(same.open(BOUND, &state).is_ok(), "the next process reads it");
        let age = |file: &Path| {
            let old = SystemTime::now() - KEY_AGE * 2;
            fs::File::options().append(true).open(file).unwrap().set_modified(old).unwrap();
        };
        age(&file);
        let next = States::new(Keys::keep(&folder).unwrap());
        assert!(next.open(BOUND, &state).is_ok(), "sealed with the previous key");
        assert!(
            same.open(BOUND, &quoted(&next.seal(BOUND, States::id(), &Held::Again, LONG))).is_err()
        );
        age(&file);
        let third = States::new(Keys::keep(&folder).unwrap());
        assert!(third.open(BOUND, &state).is_err(), "only one previous key");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Keys::keep(&folder).is_err(), "others could read it");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        for wrong in ["", "\n", "abc", &"g".repeat(64), &format!("{}\nx", "a".repeat(64))] {
            fs::write(&file, wrong).unwrap();
            assert!(Keys::read(&file).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_opens_that_was_not_sealed(text in ".{0,200}") {
            let states = States::new(Keys::random());
            prop_assert!(states.open(BOUND, &serde_json::to_string(&text).unwrap()).is_err());
        }
    }
}
