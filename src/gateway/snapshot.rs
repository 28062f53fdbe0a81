//! The config and the rules in force, and how others take their place while sessions go on.

use std::{
    ops::Deref,
    sync::{Arc, PoisonError, atomic::Ordering},
};

use foldhash::HashMap;

use super::{Gateway, catalog::Kind};
use crate::{
    config::{Config, Plan, Server},
    policy::{Policy, Principal},
};

pub(super) struct Snapshot {
    pub(super) config: Config,
    pub(super) policy: Arc<Policy>,
    /// The enabled backends in the order of the file.
    servers: Vec<Arc<Server>>,
    places: HashMap<String, usize>,
}

/// The enabled backends of one moment.
pub(super) struct Enabled(Arc<Snapshot>);

impl Deref for Enabled {
    type Target = [Arc<Server>];

    fn deref(&self) -> &[Arc<Server>] {
        &self.0.servers
    }
}

impl Snapshot {
    pub(super) fn new(config: Config, policy: Arc<Policy>) -> Arc<Self> {
        let enabled = config.servers.iter().filter(|server| server.enabled);
        let servers: Vec<Arc<Server>> = enabled.cloned().map(Arc::new).collect();
        let places = servers.iter().enumerate().map(|(at, server)| (server.name.clone(), at));
        Arc::new(Snapshot { places: places.collect(), config, policy, servers })
    }
}

impl Gateway {
    /// The snapshot in force. Whoever needs two things of it that fit together takes it once.
    pub(super) fn now(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The enabled backends in the order of the file.
    pub(super) fn servers(&self) -> Enabled {
        Enabled(self.now())
    }

    pub(super) fn server(&self, name: &str) -> Option<Arc<Server>> {
        let now = self.now();
        now.places.get(name).and_then(|at| now.servers.get(*at)).cloned()
    }

    /// Which snapshot is in force: another number after each reload.
    pub fn rules(&self) -> u64 {
        self.rules.load(Ordering::Relaxed)
    }

    /// The servers that run the plugins of this config.
    pub fn plugin_hosts(&self, config: &Config) -> Vec<Server> {
        self.supervisor.plugin_hosts(config)
    }

    /// What a reload to this config would do. The config gets the revisions of its servers.
    pub fn plan(&self, config: &mut Config) -> Plan {
        let now = self.now();
        let plan = Plan::between(&now.config, config);
        Plan::number(&now.config, config, self.rules() + 1);
        plan
    }

    /// Puts another config and other rules in force. Backends whose entries are the same go on;
    /// the others finish their calls and stop. Sessions have the new rules from now on, and those
    /// whose lists look different are told.
    pub fn apply(self: &Arc<Self>, config: Config, policy: Policy, plan: &Plan, owner: &Principal) {
        self.put(config, Arc::new(policy), plan);
        let new = |name: &str| plan.added.iter().chain(&plan.changed).any(|new| new == name);
        self.start_eager(owner, &new);
    }

    /// A backend is another one, though its entry is the same: its code has changed.
    pub fn renew(&self, name: &str) {
        let now = self.now();
        let (mut config, revision) = (now.config.clone(), self.rules() + 1);
        for server in config.servers.iter_mut().filter(|server| server.name == name) {
            server.revision = revision;
        }
        let plan = Plan { changed: vec![name.to_owned()], ..Plan::default() };
        self.put(config, Arc::clone(&now.policy), &plan);
    }

    fn put(&self, config: Config, policy: Arc<Policy>, plan: &Plan) {
        self.supervisor.apply(&config.servers, plan);
        for name in plan.stale() {
            self.catalog.forget(name);
        }
        let next = Snapshot::new(config, policy);
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&next);
        self.rules.fetch_add(1, Ordering::Relaxed);
        let sessions: Vec<_> = self.sessions().values().cloned().collect();
        for session in &sessions {
            session.set_principal(next.policy.again(&session.principal()));
        }
        self.catalog.touch();
        for session in &sessions {
            session.tell_what_changed(&Kind::ALL);
        }
    }
}
