//! All instances: which one serves whom, and how many start at a time.

use std::{
    collections::HashSet,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak},
    time::{Duration, Instant},
};

use foldhash::HashMap;
use tokio::sync::{Notify, Semaphore};
use tokio_util::task::TaskTracker;

use super::{
    Host, Instance, Lease, Phase,
    state::{Action, Event},
};
use crate::{
    config::{Config, Plan, Server, Share},
    launcher::Layer,
    policy::Permit,
    spawner::Spawner,
};

/// So many children start at the same time; the others wait for their turn.
const STARTS: usize = 4;
/// A pause that a caller sits out rather than being turned away.
const SHORT_PAUSE: Duration = Duration::from_secs(1);

/// Whose state an instance holds. A call of one holder never reaches another holder's instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    User(Arc<str>),
    Session(Arc<str>),
    Project(Arc<str>, PathBuf),
    All,
}

/// Which era an instance is to speak. A process holds to the one that it was opened in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Speak {
    /// The stateless revision where the backend knows it; else the older ones.
    Best,
    /// `initialize` and what follows from it, where the backend knows both.
    Legacy,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceKey {
    pub server: Arc<str>,
    pub scope: Scope,
    pub speak: Speak,
    /// The entry of the config that it was started from.
    pub revision: u64,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::User(user) => write!(f, "user {user}"),
            Scope::Session(session) => {
                write!(f, "session {}", session.get(..8).unwrap_or(session))
            }
            Scope::Project(user, folder) => write!(f, "project {} of {user}", folder.display()),
            Scope::All => f.write_str("all"),
        }
    }
}

/// Who asks for an instance.
#[derive(Clone, Debug)]
pub struct Holder {
    pub user: Arc<str>,
    pub session: Arc<str>,
    pub folder: Option<PathBuf>,
}

impl Holder {
    pub fn scope(&self, share: Share) -> Scope {
        match share {
            Share::User => Scope::User(Arc::clone(&self.user)),
            Share::Session => Scope::Session(Arc::clone(&self.session)),
            Share::Project => match &self.folder {
                Some(folder) => Scope::Project(Arc::clone(&self.user), folder.clone()),
                None => Scope::User(Arc::clone(&self.user)),
            },
            Share::All => Scope::All,
        }
    }
}

/// Why there is no lease. Each text names the backend and what to do.
#[derive(Debug, thiserror::Error)]
pub enum AcquireError {
    #[error("no backend named \"{0}\"")]
    Unknown(Arc<str>),
    #[error("backend \"{server}\" does not start: {reason}{}", retry(*failures, *again))]
    Down { server: Arc<str>, reason: String, failures: u32, again: Duration },
    #[error("backend \"{server}\" is not ready yet (timeouts.start is {} s)", start.as_secs_f32())]
    NotReady { server: Arc<str>, start: Duration },
    #[error(
        "backend \"{server}\" is busy: {calls} calls in flight (limits.calls), and none ended in time"
    )]
    Busy { server: Arc<str>, calls: usize },
    #[error("the gateway is shutting down")]
    ShuttingDown,
}

fn retry(failures: u32, again: Duration) -> String {
    if failures >= super::backoff::CIRCUIT {
        format!(" ({failures} failures in a row; next try in {:.0} s)", again.as_secs_f32())
    } else if failures > 1 {
        format!(" ({failures} failures in a row; next try in {:.1} s)", again.as_secs_f32())
    } else {
        String::new()
    }
}

/// One instance as `gateway_status` shows it.
#[derive(Clone, Debug)]
pub struct InstanceStatus {
    pub server: Arc<str>,
    pub scope: String,
    /// The revision that was agreed on, while one runs.
    pub version: Option<&'static str>,
    pub phase: Phase,
    pub pid: Option<i32>,
    pub calls: usize,
    pub starts: u64,
    pub failures: u32,
    pub trouble: Option<String>,
    pub junk: u64,
    pub strays: u64,
    pub layers: Vec<Layer>,
}

/// How many backends run for anybody, have failed for somebody, or do neither; and how many
/// instances run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Instances with a child.
    pub running: usize,
    /// Backends of which none runs and none has failed.
    pub asleep: usize,
    /// Backends that do not start.
    pub failed: usize,
}

pub struct Supervisor {
    spawner: Spawner,
    servers: RwLock<HashMap<Arc<str>, Arc<Server>>>,
    instances: Mutex<HashMap<InstanceKey, Arc<Instance>>>,
    host: OnceLock<Weak<dyn Host>>,
    turns: Arc<Semaphore>,
    tracker: TaskTracker,
    pulse: Arc<Notify>,
}

impl Supervisor {
    pub fn new(servers: &[Server], spawner: Spawner, tracker: TaskTracker) -> Arc<Self> {
        let servers = servers.iter().filter(|server| server.enabled);
        let servers =
            servers.map(|server| (Arc::from(server.name.as_str()), Arc::new(server.clone())));
        Arc::new(Supervisor {
            spawner,
            servers: RwLock::new(servers.collect()),
            instances: Mutex::default(),
            host: OnceLock::new(),
            turns: Arc::new(Semaphore::new(STARTS)),
            tracker,
            pulse: Arc::default(),
        })
    }

    /// Who hears what instances say. Set once, before the first call.
    pub fn set_host(&self, host: Weak<dyn Host>) {
        let _ = self.host.set(host);
    }

    fn instances(&self) -> MutexGuard<'_, HashMap<InstanceKey, Arc<Instance>>> {
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn server(&self, name: &str) -> Option<Arc<Server>> {
        self.servers.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The instance that serves this holder, running or not.
    fn instance(
        &self,
        name: &Arc<str>,
        holder: &Holder,
        speak: Speak,
    ) -> Result<Arc<Instance>, AcquireError> {
        let server = self.server(name).ok_or_else(|| AcquireError::Unknown(Arc::clone(name)))?;
        let scope = holder.scope(server.share);
        let revision = server.revision;
        let key = InstanceKey { server: Arc::clone(name), scope, speak, revision };
        let mut instances = self.instances();
        let instance = instances
            .entry(key)
            .or_insert_with_key(|key| Instance::new(key.clone(), server, Arc::clone(&self.pulse)));
        Ok(Arc::clone(instance))
    }

    /// The conversation with the holder's instance, if it runs. Starts nothing.
    pub fn running(&self, name: &str, holder: &Holder, speak: Speak) -> Option<Arc<Instance>> {
        let server = self.server(name)?;
        let (scope, revision) = (holder.scope(server.share), server.revision);
        let key = InstanceKey { server: name.into(), scope, speak, revision };
        let instance = self.instances().get(&key).cloned()?;
        (instance.phase() == Phase::Ready).then_some(instance)
    }

    /// The right to use an instance for one call; starts it if it sleeps.
    pub async fn acquire(
        self: &Arc<Self>,
        permit: Permit,
        holder: &Holder,
        speak: Speak,
        deadline: Instant,
    ) -> Result<Lease, AcquireError> {
        let server = permit.server();
        let mut instance = self.instance(server, holder, speak)?;
        let start = instance.server().timeouts.start;
        let deadline = if self.spawner.must_fetch(instance.server()) {
            deadline + instance.server().timeouts.fetch
        } else {
            deadline
        };
        let not_ready = || AcquireError::NotReady { server: Arc::clone(server), start };
        let mut waited = false;
        loop {
            // Who waited for an instance that `stop` has stopped must not start it again.
            if self.tracker.is_closed() {
                return Err(AcquireError::ShuttingDown);
            }
            let mut changes = instance.changes();
            changes.mark_unchanged();
            match instance.on(Event::Acquire) {
                Action::Grant => {
                    let Some(link) = instance.link() else {
                        instance.on(Event::Release);
                        return Err(not_ready());
                    };
                    return slot(Lease::new(instance, link), deadline).await;
                }
                Action::Start => self.launch(&instance),
                // Of an entry that is no longer in force: the one that is may have an instance.
                Action::Retired if self.is_stale(&instance) => {
                    instance = self.instance(server, holder, speak)?;
                    continue;
                }
                Action::Retired => return Err(AcquireError::ShuttingDown),
                Action::Refuse { until, failures, reason } => {
                    let again = until.saturating_duration_since(Instant::now());
                    if waited || again > SHORT_PAUSE || until > deadline {
                        let server = Arc::clone(server);
                        return Err(AcquireError::Down { server, reason, failures, again });
                    }
                    tokio::time::sleep_until(until.into()).await;
                    waited = true;
                    continue;
                }
                _ => {}
            }
            waited = true;
            let was = instance.phase();
            let change = tokio::time::timeout_at(deadline.into(), changes.changed()).await;
            if !matches!(change, Ok(Ok(()))) {
                return Err(not_ready());
            }
            // Who has waited for a start that failed need not wait for its end as well.
            if (was, instance.phase()) == (Phase::Starting, Phase::Stopping)
                && let (_, Some(reason)) = instance.trouble()
            {
                let (server, again) = (Arc::clone(server), Duration::ZERO);
                return Err(AcquireError::Down { server, reason, failures: 0, again });
            }
        }
    }

    fn launch(self: &Arc<Self>, instance: &Arc<Instance>) {
        let Some(host) = self.host.get().and_then(Weak::upgrade) else {
            return;
        };
        let (supervisor, instance) = (Arc::clone(self), Arc::clone(instance));
        self.tracker.spawn(async move {
            let turn = Arc::clone(&supervisor.turns);
            let turn = async move { turn.acquire_owned().await.ok() };
            Arc::clone(&instance).live(&supervisor.spawner, host, &supervisor.tracker, turn).await;
            supervisor.forget(&instance);
        });
    }

    /// A stopped instance without troubles to remember costs nothing.
    fn forget(&self, instance: &Arc<Instance>) {
        let mut instances = self.instances();
        let unused = instance.phase() == Phase::Stopped && instance.leases() == 0;
        // Another one may have its key by now.
        let known = instances.get(instance.key()).is_some_and(|it| Arc::ptr_eq(it, instance));
        if known && unused && Arc::strong_count(instance) <= 2 {
            instances.remove(instance.key());
        }
    }

    /// Whether its entry in the config is no longer in force.
    fn is_stale(&self, instance: &Instance) -> bool {
        let key = instance.key();
        self.server(&key.server).is_none_or(|server| server.revision != key.revision)
    }

    /// Takes these servers for the ones before. Instances of entries that are gone or differ
    /// finish their calls, and stop.
    pub fn apply(&self, servers: &[Server], plan: &Plan) {
        let enabled = servers.iter().filter(|server| server.enabled);
        let enabled =
            enabled.map(|server| (Arc::from(server.name.as_str()), Arc::new(server.clone())));
        *self.servers.write().unwrap_or_else(PoisonError::into_inner) = enabled.collect();
        let stale: HashSet<&str> = plan.stale().collect();
        let instances: Vec<Arc<Instance>> = self.instances().values().cloned().collect();
        for instance in instances {
            if !stale.contains(&*instance.key().server) || !self.is_stale(&instance) {
                continue;
            }
            // What only holds an instance, such as a subscription, goes on with the next one.
            // A call that has its place is about to be sent.
            let places = instance.server().limits.calls;
            let busy = instance.link().is_some_and(|link| {
                link.in_flight() > 0 || link.slots.available_permits() < places
            });
            let grace = if busy { instance.server().timeouts.max_call } else { Duration::ZERO };
            instance.on(Event::Drain { grace });
            if matches!(instance.phase(), Phase::Stopped | Phase::Backoff) {
                self.instances().remove(instance.key());
            }
        }
        self.pulse.notify_one();
    }

    /// Instances of which something was left that should not have been.
    pub fn orphans_found(&self) -> u64 {
        self.spawner.orphans_found()
    }

    /// Why limits of memory are kept only as well as can be, if they are.
    pub fn best_effort(&self) -> Option<&str> {
        self.spawner.best_effort()
    }

    /// What has to be fetched first for a server, while it is.
    pub fn fetching(&self, server: &str) -> Option<String> {
        self.spawner.fetching(server)
    }

    /// A session is over: what was started for it alone stops.
    pub fn end_session(&self, session: &str) {
        let scope = Scope::Session(session.into());
        let mut instances = self.instances();
        instances.retain(|key, instance| {
            if key.scope == scope {
                instance.on(Event::Drain { grace: Duration::ZERO });
            }
            key.scope != scope
        });
    }

    /// The servers that run the plugins of this config.
    pub fn plugin_hosts(&self, config: &Config) -> Vec<Server> {
        self.spawner.plugin_hosts(config)
    }

    /// Told of every change of an instance's phase.
    pub fn pulse(&self) -> Arc<Notify> {
        Arc::clone(&self.pulse)
    }

    pub fn counts(&self) -> Counts {
        let mut asleep: HashSet<Arc<str>> = {
            let servers = self.servers.read().unwrap_or_else(PoisonError::into_inner);
            servers.keys().cloned().collect()
        };
        let (mut running, mut failed) = (0, HashSet::new());
        for (key, instance) in self.instances().iter() {
            match instance.phase() {
                Phase::Stopped => continue,
                Phase::Backoff => drop(failed.insert(Arc::clone(&key.server))),
                _ => running += 1,
            }
            asleep.remove(&key.server);
        }
        Counts { running, asleep: asleep.len(), failed: failed.len() }
    }

    pub fn status(&self) -> Vec<InstanceStatus> {
        let mut all: Vec<Arc<Instance>> = self.instances().values().cloned().collect();
        all.sort_by(|a, b| a.key().cmp(b.key()));
        let status = all.into_iter().map(|instance| {
            let (failures, trouble) = instance.trouble();
            let link = instance.link();
            let (junk, strays) = link.as_ref().map(|link| link.noise()).unwrap_or_default();
            InstanceStatus {
                server: Arc::clone(&instance.key().server),
                scope: instance.key().scope.to_string(),
                version: link.as_ref().and_then(|link| link.info()).map(|info| info.version),
                phase: instance.phase(),
                pid: instance.pid(),
                calls: link.map_or(0, |link| link.in_flight()),
                starts: instance.starts(),
                failures,
                trouble,
                junk,
                strays,
                layers: instance.layers(),
            }
        });
        status.collect()
    }

    /// Every instance finishes its calls within `grace` and stops. Ends when no child is left.
    pub async fn stop(&self, grace: Duration) {
        self.tracker.close();
        let all: Vec<Arc<Instance>> = self.instances().values().cloned().collect();
        for instance in &all {
            instance.on(Event::Drain { grace });
        }
        for instance in all {
            let mut changes = instance.changes();
            let over = |phase: &Phase| matches!(phase, Phase::Stopped | Phase::Backoff);
            let longest = grace + instance.server().timeouts.stop * 2;
            let _ = tokio::time::timeout(longest, changes.wait_for(over)).await;
        }
    }
}

/// One of the instance's call slots, so that its queue stays bounded.
async fn slot(mut lease: Lease, deadline: Instant) -> Result<Lease, AcquireError> {
    let slots = Arc::clone(&lease.link().slots);
    if let Ok(slot) = Arc::clone(&slots).try_acquire_owned() {
        lease.slot = Some(slot);
        return Ok(lease);
    }
    match tokio::time::timeout_at(deadline.into(), slots.acquire_owned()).await {
        Ok(Ok(slot)) => {
            lease.slot = Some(slot);
            Ok(lease)
        }
        _ => {
            let server = lease.instance().server();
            let calls = server.limits.calls;
            Err(AcquireError::Busy { server: server.name.as_str().into(), calls })
        }
    }
}
