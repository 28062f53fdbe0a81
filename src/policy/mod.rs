//! Decides who may call what.
//!
//! Pure: no I/O, no clock, no async. [`Policy::authorize`] answers every list and every call, so
//! what is shown and what is callable cannot differ.
#![forbid(unsafe_code)]

mod principal;
mod rules;

use std::{collections::BTreeMap, fmt, sync::Arc};

pub use principal::{Credential, Principal};

use crate::config::{Config, RoleRule};
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
        if uid != self.owner {
            return Err(Denied(format!(
                "this gateway serves uid {} only, you are uid {uid}: start your own with `mcp-gateway serve`",
                self.owner
            )));
        }
        let mut rules = Vec::new();
        let mut names = Vec::new();
        for role in
            self.own_role.as_deref().into_iter().chain(narrow.filter(|role| !role.is_empty()))
        {
            rules.push(self.role(role)?);
            names.push(role.to_owned());
        }
        Ok(Principal::new(uid, names, rules))
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
