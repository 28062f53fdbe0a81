//! `requestState`: what a client carries for us from one round of a request to the next.
//!
//! It is attacker-controlled input when it comes back (mrtr, "Server Requirements"), so it is
//! sealed: bound to who asked, for what, and until when, and good for one use. The key lives as
//! long as the process, which knows what was used; only where several gateways serve the same
//! clients it is given from outside, and then each of them accepts a state once.

use std::{
    collections::{BTreeSet, HashMap},
    fs, io,
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chacha20poly1305::{
    Key, XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::{backend::InstanceKey, gateway::error::Failure};

/// States of one principal that were used and have not expired.
const USED: usize = 8192;
const NONCE: usize = 24;
const ID: usize = 16;
/// Id, expiry, kind.
const HEAD: usize = ID + 8 + 1;

/// What the state is bound to. Presented with anything else it opens to nobody.
#[derive(Clone, Debug)]
pub(in crate::gateway) struct Bound<'a> {
    pub principal: &'a str,
    pub role: &'a str,
    /// The instance that serves the caller.
    pub instance: &'a InstanceKey,
    pub method: &'a str,
    /// The tool or prompt by its backend's name, or the URI.
    pub name: &'a str,
    /// The request's `arguments`, as JSON text.
    pub arguments: Option<&'a str>,
}

impl Bound<'_> {
    fn bytes(&self) -> Vec<u8> {
        // Gateways that share a key may have read their configs at different times.
        let instance = format!("{:?}", InstanceKey { revision: 0, ..self.instance.clone() });
        // None are as good as an empty object.
        let arguments = digest(self.arguments.unwrap_or("{}"));
        let parts =
            [self.principal, self.role, &instance, self.method, self.name, arguments.as_str()];
        let mut bytes = Vec::new();
        for part in parts {
            // With its length, so that no two sets of parts look alike.
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}

/// A digest of JSON text that is the same however its objects are ordered and spaced.
fn digest(json: &str) -> String {
    fn put(value: &Value, hash: &mut Sha256) {
        match value {
            Value::Object(object) => {
                let mut all: Vec<(&String, &Value)> = object.iter().collect();
                all.sort_unstable_by_key(|(key, _)| *key);
                hash.update(format!("{{{}", all.len()));
                for (key, value) in all {
                    put(&Value::from(key.as_str()), hash);
                    put(value, hash);
                }
            }
            Value::Array(items) => {
                hash.update(format!("[{}", items.len()));
                items.iter().for_each(|item| put(item, hash));
            }
            plain => {
                let text = plain.to_string();
                hash.update(format!("{}:{text}", text.len()));
            }
        }
    }
    let mut hash = Sha256::new();
    match serde_json::from_str(json) {
        Ok(value) => put(&value, &mut hash),
        Err(_) => hash.update(json),
    }
    URL_SAFE_NO_PAD.encode(hash.finalize())
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
        if keys.next().is_some() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more than two keys"));
        }
        Ok(Keys { current, previous })
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

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if getrandom::fill(&mut bytes).is_err() {
        // A nonce or a key that could be guessed would seal nothing.
        tracing::error!("the kernel gives no random bytes");
        std::process::abort();
    }
    bytes
}

/// When a state expires, and which it is.
type Used = (u64, [u8; ID]);

/// Seals states, opens them, and knows which were used.
pub(in crate::gateway) struct States {
    keys: Keys,
    /// By principal, the first to expire first.
    used: Mutex<HashMap<String, BTreeSet<Used>>>,
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
        bound: &Bound<'_>,
        id: [u8; ID],
        held: &Held,
        lives: Duration,
    ) -> String {
        let lives = u64::try_from(lives.as_millis()).unwrap_or(u64::MAX);
        let expires = now().saturating_add(lives);
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
    pub(super) fn open(&self, bound: &Bound<'_>, text: &str) -> Result<Opened, Failure> {
        let opened = self.unseal(bound, text).ok_or(Failure::BadState(
            "it was changed, or it belongs to another caller, backend or request",
        ))?;
        if opened.expires <= now() {
            return Err(Failure::BadState("it has expired; make the request anew"));
        }
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if used.get(bound.principal).is_some_and(|used| used.contains(&opened.key())) {
            return Err(Failure::BadState("it was used already; make the request anew"));
        }
        Ok(opened)
    }

    /// Uses it up. Of two who come with the same one, one gets it.
    pub(super) fn consume(&self, bound: &Bound<'_>, opened: &Opened) -> Result<(), Failure> {
        let mut all = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let now = now();
        all.retain(|_, used| {
            while used.first().is_some_and(|(expires, _)| *expires <= now) {
                used.pop_first();
            }
            !used.is_empty()
        });
        let used = all.entry(bound.principal.to_owned()).or_default();
        if used.len() >= USED {
            return Err(Failure::TooMany(format!("{USED} states of this principal are used up")));
        }
        if !used.insert(opened.key()) {
            return Err(Failure::BadState("it was used already; make the request anew"));
        }
        Ok(())
    }

    fn unseal(&self, bound: &Bound<'_>, text: &str) -> Option<Opened> {
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
    fn key(&self) -> Used {
        (self.expires, self.id)
    }
}

/// Milliseconds of the clock that other gateways have as well.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(u64::MAX, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::backend::{Scope, Speak};

    const LONG: Duration = Duration::from_secs(60);

    fn key(server: &str, session: &str) -> InstanceKey {
        let scope = Scope::Session(session.into());
        InstanceKey { server: server.into(), scope, speak: Speak::Best, revision: 0 }
    }

    fn bound(instance: &InstanceKey) -> Bound<'_> {
        let (principal, role) = ("uid:1", "all");
        let arguments = Some(r#"{"a":1,"b":[{"x":1,"y":2}]}"#);
        Bound { principal, role, instance, method: "tools/call", name: "t", arguments }
    }

    fn quoted(text: &str) -> String {
        format!("\"{text}\"")
    }

    #[test]
    fn a_state_opens_where_it_belongs_and_once() {
        let states = States::new(Keys::random());
        let key = key("s", "a");
        let bound = bound(&key);
        for held in [Held::Parked, Held::Again, Held::Inner("\"theirs\"".into())] {
            let sealed = quoted(&states.seal(&bound, States::id(), &held, LONG));
            let opened = states.open(&bound, &sealed).unwrap();
            assert_eq!(opened.held, held);
            states.consume(&bound, &opened).unwrap();
            assert!(states.consume(&bound, &opened).is_err(), "of two at once, one");
            assert!(states.open(&bound, &sealed).is_err(), "replayed");
        }
    }

    #[test]
    fn a_foreign_or_changed_state_opens_to_nobody() {
        let states = States::new(Keys::random());
        let (own, other, session) = (key("s", "a"), key("s2", "a"), key("s", "b"));
        let state = states.seal(&bound(&own), States::id(), &Held::Parked, LONG);
        for foreign in [
            Bound { principal: "uid:2", ..bound(&own) },
            Bound { role: "readonly", ..bound(&own) },
            bound(&other),
            bound(&session),
            bound(&InstanceKey { speak: Speak::Legacy, ..own.clone() }),
            Bound { method: "prompts/get", ..bound(&own) },
            Bound { name: "t2", ..bound(&own) },
            Bound { arguments: None, ..bound(&own) },
            Bound { arguments: Some(r#"{"a":1,"b":[{"x":1,"y":3}]}"#), ..bound(&own) },
            Bound { principal: "uid:", role: "1all", ..bound(&own) },
        ] {
            assert!(states.open(&foreign, &quoted(&state)).is_err(), "{foreign:?}");
        }
        for at in 0..state.len() {
            let mut changed = state.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(states.open(&bound(&own), &quoted(&changed)).is_err(), "byte {at}");
        }
        for cut in 0..state.len() {
            assert!(states.open(&bound(&own), &quoted(&state[..cut])).is_err(), "{cut}");
        }
        for odd in ["", "null", "3", "{}", "\"", "\"é\"", "\"....\""] {
            assert!(states.open(&bound(&own), odd).is_err(), "{odd}");
        }
        let other = States::new(Keys::random());
        assert!(other.open(&bound(&own), &quoted(&state)).is_err(), "another gateway's");
        let same = Some(r#"{ "b":[{"y":2,"x":1}], "a":1 }"#);
        states.open(&Bound { arguments: same, ..bound(&own) }, &quoted(&state)).unwrap();
    }

    #[test]
    fn used_states_are_forgotten_when_they_expire_and_bounded_for_each_principal() {
        let states = States::new(Keys::random());
        let key = key("s", "a");
        let (one, two) = (bound(&key), Bound { principal: "uid:2", ..bound(&key) });
        let used = |expires| Opened { id: States::id(), held: Held::Again, expires };
        states.consume(&one, &used(now())).unwrap();
        for _ in 0..USED {
            states.consume(&one, &used(now() + 60_000)).unwrap();
        }
        assert!(states.consume(&one, &used(now() + 60_000)).is_err());
        states.consume(&two, &used(now() + 60_000)).unwrap();
        let all = states.used.lock().unwrap();
        assert_eq!((all.len(), all["uid:1"].len()), (2, USED), "the expired one is gone");
    }

    #[test]
    fn an_expired_state_is_refused_with_that_reason() {
        let states = States::new(Keys::random());
        let key = key("s", "a");
        let state = states.seal(&bound(&key), States::id(), &Held::Again, Duration::ZERO);
        let refused = states.open(&bound(&key), &quoted(&state)).unwrap_err();
        assert!(refused.to_string().contains("expired"), "{refused}");
        let state = states.seal(&bound(&key), States::id(), &Held::Again, LONG);
        assert!(states.open(&bound(&key), &quoted(&state)).is_ok());
    }

    #[test]
    fn keys_of_a_file_seal_with_the_first_and_open_with_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("request-state.key");
        let (old, new) = ("a1".repeat(32), "b2".repeat(32));
        let states = |text: &str| {
            fs::write(&file, text).unwrap();
            States::new(Keys::read(&file).unwrap())
        };
        let key = key("s", "a");
        let sealed =
            |states: &States| quoted(&states.seal(&bound(&key), States::id(), &Held::Again, LONG));
        let first = states(&old);
        let both = states(&format!("{new}\n{old}\n"));
        assert!(both.open(&bound(&key), &sealed(&first)).is_ok(), "of the previous key");
        assert!(first.open(&bound(&key), &sealed(&both)).is_err());
        assert!(states(&new).open(&bound(&key), &sealed(&first)).is_err());
        for wrong in [
            "",
            "\n",
            "abc",
            &"g".repeat(64),
            &format!("{}\nx", "a".repeat(64)),
            &format!("{old}\n{old}\n{old}"),
        ] {
            fs::write(&file, wrong).unwrap();
            assert!(Keys::read(&file).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_opens_that_was_not_sealed(text in ".{0,200}") {
            let states = States::new(Keys::random());
            let key = key("s", "a");
            let text = serde_json::to_string(&text).unwrap();
            prop_assert!(states.open(&bound(&key), &text).is_err());
        }
    }
}
