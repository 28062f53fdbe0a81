//! MCP itself: sessions, where each message goes, what clients see of the backends.
//!
//! The only room that knows MCP methods. Knows no sockets, starts no processes.
#![forbid(unsafe_code)]

mod audit;
mod backlog;
mod builtin;
mod call;
mod catalog;
mod era;
mod error;
mod exchange;
mod flight;
mod lists;
mod notices;
mod opening;
mod questions;
mod report;
mod router;
mod session;
mod snapshot;
mod subscribe;
mod subscriptions;
mod tasks;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use foldhash::HashMap;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use era::Keys;
pub use session::{Leave, Session, Work};

use crate::{
    backend::{Counts, Holder, Host, InstanceKey, Speak, Supervisor},
    config::{Config, Discover, Server, Share},
    policy::{Credential, Denied, Policy, Principal, Target},
    protocol::{Era, Message, method, stream},
};
use catalog::{Catalog, Disk, Source, View};
use era::{Parking, Said, States, Upstream};
use error::Failure;
use notices::{Debounce, Doubts, Levels};
use snapshot::Snapshot;
use tasks::Tasks;

/// Sessions at a time; one more is turned away.
const SESSIONS: usize = 20_000;

/// What a front knows of a client that connects.
pub struct Hello {
    pub principal: Arc<Principal>,
    pub layer: Layer,
    /// The client's folder, for `share: project`.
    pub cwd: Option<PathBuf>,
    pub transport: Transport,
}

/// What a session is a session with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Every backend, under qualified names.
    Aggregate,
    /// One backend under its own names, as transparent as a wire.
    Server(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Stdio,
    Unix,
    Http,
    Sse,
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("no backend named \"{0}\"")]
    UnknownServer(String),
    #[error("{SESSIONS} sessions are open, and no more are taken")]
    TooMany,
    /// A request that is not in order: the response to it.
    #[error("the request is refused")]
    Refused(Bytes),
}

fn refusal(failure: &Failure, message: &Message) -> Bytes {
    failure.response(message.id(), Era::Modern)
}

/// What all sessions share.
pub struct Gateway {
    me: Weak<Gateway>,
    snapshot: RwLock<Arc<Snapshot>>,
    rules: AtomicU64,
    supervisor: Arc<Supervisor>,
    catalog: Catalog,
    sessions: Mutex<HashMap<u64, Arc<Session>>>,
    next_session: AtomicU64,
    tasks: Tasks,
    debounce: Debounce,
    tracker: TaskTracker,
    began: Instant,
    draining: AtomicBool,
    /// What goes on until the gateway ends is to end now.
    ending: CancellationToken,
    meetings: lists::Meetings,
    /// A task looks after open questions.
    watching: AtomicBool,
    parking: Parking,
    states: States,
    upstream: Upstream,
    levels: Levels,
    doubts: Doubts,
}

impl Gateway {
    /// `cache` is the folder that outlives the daemon; `None` remembers nothing. `keys` seal what
    /// clients carry for us.
    pub fn new(
        config: Config,
        policy: Policy,
        supervisor: Arc<Supervisor>,
        cache: Option<PathBuf>,
        keys: Keys,
        tracker: TaskTracker,
    ) -> Arc<Self> {
        let gateway = Arc::new_cyclic(|me| Gateway {
            me: Weak::clone(me),
            snapshot: RwLock::new(Snapshot::new(config, Arc::new(policy))),
            rules: AtomicU64::new(0),
            catalog: Catalog::new(Disk::new(cache)),
            sessions: Mutex::default(),
            next_session: AtomicU64::new(1),
            tasks: Tasks::default(),
            debounce: Debounce::default(),
            tracker,
            began: Instant::now(),
            draining: AtomicBool::new(false),
            ending: CancellationToken::new(),
            meetings: lists::Meetings::default(),
            watching: AtomicBool::new(false),
            parking: Parking::default(),
            states: States::new(keys),
            upstream: Upstream::default(),
            levels: Levels::default(),
            doubts: Doubts::default(),
            supervisor,
        });
        let host: Weak<dyn Host> = Arc::downgrade(&gateway) as Weak<dyn Host>;
        gateway.supervisor.set_host(host);
        gateway
    }

    /// Who is calling; `narrow` is a role that the client asks to be held to as well.
    pub fn identify(
        &self,
        credential: Credential,
        narrow: Option<&str>,
    ) -> Result<Arc<Principal>, Denied> {
        self.now().policy.identify(&credential, narrow).map(Arc::new)
    }

    pub fn open(self: &Arc<Self>, hello: Hello) -> Result<Arc<Session>, OpenError> {
        self.may_open(&hello)?;
        let session = Session::new(Arc::clone(self), self.next_session(), hello);
        self.enter(&session)?;
        Ok(session)
    }

    /// Takes one request of the modern era that came without a connection of its own. Dropping
    /// the [`Leave`] cancels it. `fields` are the header fields that repeat arguments.
    pub fn single(
        self: &Arc<Self>,
        hello: Hello,
        message: Message,
        fields: Vec<(String, String)>,
        reply: &stream::Sender,
    ) -> Result<(Leave, Option<Work>), OpenError> {
        self.may_open(&hello)?;
        let said = match Said::read(&message) {
            Ok(said) => said,
            Err(failure) => return Err(OpenError::Refused(refusal(&failure, &message))),
        };
        let serial = self.next_session();
        let session = Session::single(Arc::clone(self), serial, hello, said, &message);
        session.set_fields(fields);
        self.enter(&session)?;
        let work = session.take(Arc::clone(&session), message, reply);
        Ok((Leave::new(session), work))
    }

    fn may_open(&self, hello: &Hello) -> Result<(), OpenError> {
        if let Layer::Server(name) = &hello.layer {
            let known = self.server(name).is_some();
            let target = Target::Server { server: name };
            if !known || self.now().policy.authorize(&hello.principal, target).is_none() {
                return Err(OpenError::UnknownServer(name.clone()));
            }
        }
        Ok(())
    }

    fn next_session(&self) -> u64 {
        self.next_session.fetch_add(1, Ordering::Relaxed)
    }

    fn enter(&self, session: &Arc<Session>) -> Result<(), OpenError> {
        let mut sessions = self.sessions();
        if sessions.len() >= SESSIONS {
            return Err(OpenError::TooMany);
        }
        sessions.insert(session.serial(), Arc::clone(session));
        Ok(())
    }

    /// How long a quiet HTTP session is kept.
    pub fn session_timeout(&self) -> Duration {
        self.now().config.session_timeout
    }

    /// Starts the backends that the config wants running from the start.
    pub fn start_eager(self: &Arc<Self>, owner: &Principal, wanted: &dyn Fn(&str) -> bool) {
        let holder = Holder { user: Arc::clone(owner.key()), session: "".into(), folder: None };
        let servers = self.servers();
        for server in servers.iter().filter(|server| !server.lazy && wanted(&server.name)) {
            if matches!(server.share, Share::Session | Share::Project) {
                let name = &server.name;
                tracing::warn!(
                    "{name}: `lazy: false` starts nothing with `share: session` or `project`: nobody is there yet to start it for"
                );
                continue;
            }
            let (gateway, holder) = (Arc::clone(self), holder.clone());
            let permit = self.now().policy.own_work(&server.name);
            let deadline = Instant::now() + server.timeouts.start;
            let name = server.name.clone();
            self.tracker.spawn(async move {
                let lease = gateway.supervisor.acquire(permit, &holder, Speak::Best, deadline);
                if let Err(error) = lease.await {
                    tracing::warn!(server = name, "{error}");
                }
            });
        }
    }

    /// Whether nothing runs and nothing waits: no request, no instance, no parked call, no message
    /// for a client. Sessions that are quiet do not count.
    pub fn is_idle(&self) -> bool {
        self.parking.is_empty()
            && self.supervisor.counts().running == 0
            && !self.sessions().values().any(|session| session.is_wanted())
    }

    /// How many backends run, sleep and fail, in the sense of [`Supervisor::counts`].
    pub fn counts(&self) -> Counts {
        self.supervisor.counts()
    }

    /// Told when an instance begins, ends, or becomes ready.
    pub fn changes(&self) -> Arc<Notify> {
        self.supervisor.pulse()
    }

    /// How many sessions are open.
    pub fn open_sessions(&self) -> usize {
        self.sessions().len()
    }

    /// How long the daemon may have nothing to do before it exits; `None` says nothing of it.
    pub fn exit_idle(&self) -> Option<Option<Duration>> {
        self.now().config.exit_idle
    }

    /// No new requests; those in flight get `grace` to finish, then an error. Then every backend
    /// stops. Ends when nothing is left.
    pub async fn drain(&self, grace: Duration) {
        self.draining.store(true, Ordering::Relaxed);
        self.ending.cancel();
        self.parking.close();
        let until = Instant::now() + grace;
        while self.sessions().values().any(|session| session.busy()) && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let sessions: Vec<Arc<Session>> = self.sessions().values().cloned().collect();
        for session in &sessions {
            session.drain();
        }
        self.supervisor.stop(Duration::ZERO).await;
        for session in sessions {
            session.close();
        }
    }

    fn me(&self) -> Weak<Self> {
        Weak::clone(&self.me)
    }

    fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<u64, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn session(&self, serial: u64) -> Option<Arc<Session>> {
        self.sessions().get(&serial).cloned()
    }

    /// The conversation with this id. Sessions of its requests have the same.
    fn conversation(&self, id: &str) -> Option<Arc<Session>> {
        let sessions = self.sessions();
        let mut open = sessions.values().filter(|session| session.era() == Era::Legacy);
        open.find(|session| session.id() == id).cloned()
    }

    /// The instance that this session's calls go to.
    fn key(&self, server: &Server, session: &Session) -> InstanceKey {
        let scope = session.holder().scope(server.share);
        let revision = server.revision;
        InstanceKey { server: server.name.as_str().into(), scope, speak: session.speak(), revision }
    }

    /// Who answers, as JSON text.
    fn introduction(&self) -> String {
        let version = env!("CARGO_PKG_VERSION");
        serde_json::json!({"name": self.now().config.name, "version": version}).to_string()
    }

    /// Whose caches may keep the gateway's own answer to this, where any may (2026-07-28,
    /// caching). Where roles or users make a difference, nobody else's.
    fn cache_scope(&self, session: &Session, method: &str) -> Option<&'static str> {
        let cacheable = matches!(
            method,
            method::DISCOVER
                | method::TOOLS_LIST
                | method::PROMPTS_LIST
                | method::RESOURCES_LIST
                | method::TEMPLATES_LIST
                | method::RESOURCES_READ
        );
        let now = self.servers();
        let mut visible = now.iter().filter(|server| match session.layer() {
            Layer::Aggregate => true,
            Layer::Server(name) => server.name == *name,
        });
        let same =
            self.now().config.roles.is_none() && visible.all(|server| server.share == Share::All);
        cacheable.then_some(if same { "public" } else { "private" })
    }

    /// What this session sees now, and the catalog's generation that it was made from.
    fn view(&self, session: &Session) -> (u64, Arc<View>) {
        self.catalog.view(&session.view_key(), || {
            let (now, servers, who) = (self.now(), self.servers(), session.principal());
            match session.layer() {
                Layer::Aggregate => {
                    let sources: Vec<Source<'_>> =
                        servers.iter().map(|server| self.source(server, session)).collect();
                    catalog::aggregate(&sources, &now.policy, &who)
                }
                Layer::Server(name) => match servers.iter().find(|server| server.name == *name) {
                    Some(server) => {
                        let source = self.source(server, session);
                        catalog::transparent(&source, &now.policy, &who)
                    }
                    None => View::default(),
                },
            }
        })
    }

    fn source<'a>(&self, server: &'a Server, session: &Session) -> Source<'a> {
        let key = self.key(server, session);
        let listing = self.catalog.get(&key, server);
        let (holder, speak) = (session.holder(), session.speak());
        let running = || self.supervisor.running(&server.name, holder, speak).is_some();
        let unknown =
            listing.as_ref().is_none_or(|listing| listing.tools.is_none() && listing.has("tools"));
        // A backend that runs and has not told its tools yet has nothing else to show.
        let placeholder = unknown || (server.discover == Discover::Placeholder && !running());
        Source { server, name: server.name.as_str().into(), listing, placeholder }
    }
}
