//! Decides who may call what.
//!
//! Pure: no I/O, no clock, no async. [`Policy::authorize`] answers every list and every call, so
//! what is shown and what is callable cannot differ.
#![forbid(unsafe_code)]

mod principal;
mod rules;

use std::{collections::BTreeMap, fmt, sync::Arc};

pub use principal::{Credential, Principal};

use crate::config::{Access, Config, RoleRule, Who};
use rules::Rules;

/// Policy's yes to one use of one backend. Only this module makes one; `backend` will not move
/// without it.
#[must_use]
#[derive(Debug)]
pub struct Permit {
    server: Arc<str>,
}

impl Permit {
    pub fn server(&self) -> &Arc<str> {
        &self.server
    }
}

/// Why a credential is turned away, and the remedy. Never sent for a single denied name: that
/// gets the gateway's answer to an unknown one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied(pub String);

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Denied {}

/// What a principal wants to see or use.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// A tool: the name it is shown under and the backend's own.
    Tool {
        server: &'a str,
        exposed: &'a str,
        bare: &'a str,
    },
    /// A tool of the gateway itself, such as `gateway_status` or a placeholder.
    Builtin {
        exposed: &'a str,
    },
    Prompt {
        server: &'a str,
        exposed: &'a str,
        bare: &'a str,
    },
    /// A resource or a template, by its URI.
    Resource {
        server: &'a str,
        uri: &'a str,
    },
    /// The backend as such: its log level, its tasks, a transparent session with it.
    Server {
        server: &'a str,
    },
}

/// The rules in force. Made anew at each reload.
pub struct Policy {
    owner: u32,
    roles: BTreeMap<String, Arc<Rules>>,
    /// The role of our own processes, from `MCP_GATEWAY_ROLE`.
    own_role: Option<String>,
    servers: BTreeMap<String, Known>,
    access: Vec<Access>,
    /// Our own uid has a role without a rule.
    serves_owner: bool,
}

/// Where a role comes from.
#[derive(Clone, Copy, Debug)]
pub enum Standing<'a> {
    /// The gateway is its own.
    Owner,
    Rule(&'a Access),
}

/// What the config says of one server's names.
struct Known {
    prefix: Option<String>,
    /// Which of its tools anyone has.
    tools: Rules,
}

impl Policy {
    /// `owner` is the uid that this gateway runs as and serves; `own_role` is
    /// `MCP_GATEWAY_ROLE`. An unknown role is refused here, at start, and not at the first call.
    pub fn new(config: &Config, owner: u32, own_role: Option<&str>) -> Result<Self, Denied> {
        let roles = config.roles.iter().flatten();
        let roles = roles.map(|(name, rule)| {
            let rules = match rule {
                RoleRule::All => Rules::all(),
                RoleRule::Globs { allow, deny } => Rules::new(allow.as_deref(), deny),
            };
            (name.clone(), Arc::new(rules))
        });
        let servers = config.servers.iter().map(|server| {
            let tools = Rules::new(server.tools.allow.as_deref(), &server.tools.deny);
            (server.name.clone(), Known { prefix: server.prefix.clone(), tools })
        });
        let policy = Policy {
            owner,
            roles: roles.collect(),
            own_role: own_role.filter(|role| !role.is_empty()).map(str::to_owned),
            servers: servers.collect(),
            access: config.access.clone().unwrap_or_default(),
            serves_owner: true,
        };
        if let Some(role) = &policy.own_role {
            policy.role(role)?;
        }
        Ok(policy)
    }

    fn role(&self, name: &str) -> Result<Arc<Rules>, Denied> {
        self.roles.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = self.roles.keys().map(String::as_str).collect();
            let known = match known.as_slice() {
                [] => "the config has no `roles:`".to_owned(),
                names => format!("the config has {}", names.join(", ")),
            };
            Denied(format!("no role named \"{name}\": {known}"))
        })
    }

    /// Serves nobody whom no rule of `access` names, not even ourselves.
    pub fn by_rules_alone(mut self) -> Self {
        self.serves_owner = false;
        self
    }

    /// What a caller's role comes from; `None`: it has none.
    pub fn standing(&self, credential: &Credential) -> Option<Standing<'_>> {
        let (uid, groups) = match credential {
            Credential::Own => return Some(Standing::Owner),
            Credential::Peer { uid, gid, groups, .. } => (*uid, Some((gid, groups))),
            Credential::Tcp { uid } => (*uid, None),
        };
        let fits = |rule: &&Access| match rule.who {
            Who::User { id, .. } => id == Some(uid),
            Who::Group { id: Some(id), .. } => {
                groups.is_some_and(|(gid, others)| *gid == id || others.contains(&id))
            }
            Who::Group { id: None, .. } => false,
        };
        match self.access.iter().find(fits) {
            Some(rule) => Some(Standing::Rule(rule)),
            None => (self.serves_owner && uid == self.owner).then_some(Standing::Owner),
        }
    }

    /// Who is calling. `narrow` is a role that the client asks to be held to as well.
    pub fn identify(
        &self,
        credential: &Credential,
        narrow: Option<&str>,
    ) -> Result<Principal, Denied> {
        let uid = match credential {
            Credential::Own => self.owner,
            Credential::Peer { uid, .. } | Credential::Tcp { uid } => *uid,
        };
        let given = match self.standing(credential) {
            Some(Standing::Owner) => None,
            Some(Standing::Rule(rule)) => Some(rule.role.as_str()),
            None => return Err(self.stranger(uid)),
        };
        let narrow = narrow.filter(|role| !role.is_empty());
        let mut rules = Vec::new();
        let mut names: Vec<String> = Vec::new();
        for role in given.into_iter().chain(self.own_role.as_deref()).chain(narrow) {
            rules.push(self.role(role)?);
            if !names.iter().any(|name| name == role) {
                names.push(role.to_owned());
            }
        }
        let narrow = narrow.map(str::to_owned);
        Ok(Principal::new(credential.clone(), narrow, uid, names, rules))
    }

    /// The same caller under the rules as they are here; who has no role any more sees nothing.
    pub fn again(&self, principal: &Principal) -> Principal {
        let (credential, narrow) = (principal.credential(), principal.narrow());
        self.identify(credential, narrow).unwrap_or_else(|_| {
            let narrow = narrow.map(str::to_owned);
            let (names, nothing) = (vec!["none".to_owned()], Arc::new(Rules::new(Some(&[]), &[])));
            Principal::new(credential.clone(), narrow, principal.uid(), names, vec![nothing])
        })
    }

    /// Why nobody is served who has no role, and what to ask for.
    fn stranger(&self, uid: u32) -> Denied {
        let groups: Vec<&str> = self
            .access
            .iter()
            .filter_map(|rule| match &rule.who {
                Who::Group { name, .. } => Some(name.as_str()),
                Who::User { .. } => None,
            })
            .collect();
        let group = match groups.as_slice() {
            [] => String::new(),
            names => format!(", or to add you to a group that has one ({})", names.join(", ")),
        };
        if self.serves_owner && self.access.is_empty() {
            return Denied(format!(
                "this gateway serves uid {} only, you are uid {uid}: start your own with `mcp-gateway serve`",
                self.owner
            ));
        }
        Denied(format!(
            "no rule of `access:` gives you (uid {uid}) a role: ask an administrator to add `{{user: {uid}, role: …}}` to it{group}; `mcp-gateway whoami` shows what the gateway sees of you"
        ))
    }

    /// Policy's one answer, for lists and calls alike. `None` is "no such thing".
    pub fn authorize(&self, principal: &Principal, target: Target<'_>) -> Option<Permit> {
        let server = match target {
            Target::Tool { server, .. }
            | Target::Prompt { server, .. }
            | Target::Resource { server, .. }
            | Target::Server { server } => server,
            Target::Builtin { .. } => "",
        };
        let known = self.servers.get(server);
        let prefix = known.and_then(|known| known.prefix.as_deref());
        // Most callers and servers have no rule that could say no; then no names are made up.
        let mut rules = principal.rules().iter().filter(|rules| rules.restricts()).peekable();
        let forms = rules.peek().map(|_| rules::forms(target, prefix)).unwrap_or_default();
        let allowed = rules.all(|rules| match target {
            Target::Server { server } => rules.may_reach(server, prefix),
            // A rule that denies all names under the prefix does not match a URI.
            Target::Resource { server, .. } => {
                rules.allow(&forms) && rules.may_reach(server, prefix)
            }
            _ => rules.allow(&forms),
        });
        let kept = match target {
            Target::Tool { bare, .. } => {
                known.is_none_or(|it| !it.tools.restricts() || it.tools.allow(&[bare.to_owned()]))
            }
            _ => true,
        };
        (allowed && kept).then(|| Permit { server: server.into() })
    }

    /// A permit for the gateway's own work: discovery, and backends with `lazy: false`.
    pub fn own_work(&self, server: &str) -> Permit {
        Permit { server: server.into() }
    }
}

#[cfg(test)]
mod tests;
