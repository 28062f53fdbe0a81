//! What the gateway says of itself and of a caller to `status` and `whoami`, outside of MCP.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Gateway, Hello, Layer, Transport, builtin};
use crate::{
    policy::{Credential, Principal, Standing, Target},
    sys::{ids, peer},
};

impl Gateway {
    /// Who is at the other end of a connection, which role that gives, and what is seen in it.
    pub fn whoami(self: &Arc<Self>, credential: &Credential) -> Value {
        let (uid, gid, pid, groups) = match credential {
            Credential::Peer { uid, gid, pid, groups } => (*uid, Some(*gid), *pid, groups.clone()),
            Credential::Tcp { uid } => (*uid, None, None, Vec::new()),
            Credential::Own => (peer::own_uid(), None, None, Vec::new()),
        };
        let groups: Vec<Value> = groups
            .into_iter()
            .map(|gid| json!({"gid": gid, "name": ids::group_name(gid)}))
            .collect();
        let rule = match self.now().policy.standing(credential) {
            Some(Standing::Rule(rule)) => Some(rule.to_string()),
            Some(Standing::Owner) => Some("the gateway's own user".to_owned()),
            None => None,
        };
        let principal = self.identify(credential.clone(), None);
        let mut report = json!({
            "uid": uid,
            "user": ids::user_name(uid),
            "gid": gid,
            "pid": pid,
            "groups": groups,
            "role": principal.as_ref().ok().map(|principal| principal.role()),
            "rule": rule,
        });
        match principal {
            Err(denied) => report["denied"] = denied.to_string().into(),
            Ok(principal) => {
                report["servers"] = self.servers_of(&principal);
                report["tools"] = self.tools_of(principal);
            }
        }
        report
    }

    fn servers_of(&self, principal: &Principal) -> Value {
        let seen = |name: &str| {
            self.now().policy.authorize(principal, Target::Server { server: name }).is_some()
        };
        self.servers().iter().map(|server| server.name.as_str()).filter(|name| seen(name)).collect()
    }

    /// The names of the tools that are known without starting anything.
    fn tools_of(self: &Arc<Self>, principal: Arc<Principal>) -> Value {
        let layer = Layer::Aggregate;
        let hello = Hello { principal, layer, cwd: None, transport: Transport::Http };
        let Ok(session) = self.open(hello) else { return Value::Null };
        let view = session.view();
        session.close();
        view.tools.listed().map(|shown| shown.exposed.as_str()).collect()
    }

    /// What runs, sleeps and fails: all of it, or what this caller may see.
    pub fn report(&self, seen_by: Option<&Principal>) -> Value {
        let visible = |name: &str| {
            seen_by.is_none_or(|principal| {
                self.now().policy.authorize(principal, Target::Server { server: name }).is_some()
            })
        };
        let running = self.supervisor.status();
        let servers: Vec<Value> = self
            .servers()
            .iter()
            .filter(|server| visible(&server.name))
            .map(|server| {
                let own = running.iter().filter(|instance| *instance.server == *server.name);
                let instances: Vec<Value> = own.map(builtin::instance).collect();
                json!({
                    "name": server.name,
                    "sandbox": server.sandbox.profile.word(),
                    "share": server.share.word(),
                    "instances": instances,
                })
            })
            .collect();
        let counts = self.supervisor.counts();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "uptime_s": self.began.elapsed().as_secs(),
            "config": self.now().config.path,
            "sessions": self.sessions().len(),
            "running": counts.running,
            "asleep": counts.asleep,
            "failed": counts.failed,
            "servers": servers,
        })
    }
}
