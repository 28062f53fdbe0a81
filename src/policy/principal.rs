//! Who is calling, and how we know.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use super::rules::Rules;

/// What the kernel says of a caller. Environment and client names are never identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The process that started us and holds our stdin.
    Own,
    /// The other end of a Unix socket.
    Peer { uid: u32, gid: u32, pid: Option<i32>, groups: Vec<u32> },
    /// The other end of a loopback connection, whose socket belongs to this uid.
    Tcp { uid: u32 },
}

/// A caller with what it may do.
#[derive(Debug)]
pub struct Principal {
    credential: Credential,
    narrow: Option<String>,
    uid: u32,
    roles: Vec<String>,
    key: Arc<str>,
    role: String,
    number: u64,
    rules: Vec<Arc<Rules>>,
}

impl Principal {
    /// Its words are made once: every call says them.
    pub(super) fn new(
        credential: Credential,
        narrow: Option<String>,
        uid: u32,
        roles: Vec<String>,
        rules: Vec<Arc<Rules>>,
    ) -> Self {
        let key: Arc<str> = format!("uid:{uid}").into();
        let role = if roles.is_empty() { "all".to_owned() } else { roles.join("+") };
        let mut hasher = DefaultHasher::new();
        (&key, &role).hash(&mut hasher);
        let number = hasher.finish();
        Principal { credential, narrow, uid, roles, key, role, number, rules }
    }

    /// The process that asked, where the kernel says which it is.
    pub fn pid(&self) -> Option<i32> {
        match self.credential {
            Credential::Peer { pid, .. } => pid,
            Credential::Own | Credential::Tcp { .. } => None,
        }
    }

    pub(super) fn credential(&self) -> &Credential {
        &self.credential
    }

    /// The role that its client asked to be held to as well.
    pub(super) fn narrow(&self) -> Option<&str> {
        self.narrow.as_deref()
    }

    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The names of the roles that hold together, or `all`.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// True when any of its roles holds anything back.
    pub fn is_restricted(&self) -> bool {
        self.rules.iter().any(|rules| rules.restricts())
    }

    /// What separates one caller's instances and lists from another's.
    pub fn key(&self) -> &Arc<str> {
        &self.key
    }

    /// The same for the same caller in the same roles.
    pub fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn rules(&self) -> &[Arc<Rules>] {
        &self.rules
    }
}

/// The same caller in the same roles.
impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        self.uid == other.uid && self.roles == other.roles
    }
}
