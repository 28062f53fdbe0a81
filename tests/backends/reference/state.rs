//! What outlives one request: counters and switches of the process, and its live legacy sessions.
//!
//! Over HTTP many sessions share one [`Shared`]; over stdio there is one session. Modern requests
//! have no session and hear of changes through `subscriptions/listen` only.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use rmcp::{
    ErrorData, Peer, RoleServer,
    model::{ProtocolVersion, ResourceUpdatedNotificationParam},
    task_manager::TaskManager,
    transport::streamable_http_server::session::local::LocalSessionManager,
};
use serde_json::Value;
use tokio::{sync::broadcast, task};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Something a subscriber may want to know.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Tools,
    Prompts,
    Resources,
    Updated(String),
}

pub(crate) struct Shared {
    /// The protocol versions it speaks, oldest first.
    pub(crate) versions: Cow<'static, [ProtocolVersion]>,
    pub(crate) page_size: Option<usize>,
    /// Tools added by `grow`.
    pub(crate) grown: AtomicUsize,
    pub(crate) extra_tool: AtomicBool,
    pub(crate) extra_prompt: AtomicBool,
    /// Whether the page of `need_page` has been visited.
    pub(crate) visited: AtomicBool,
    /// How often each resource was touched.
    pub(crate) touched: Mutex<BTreeMap<String, u64>>,
    /// Every cancellation seen: the notification, and the call that noticed it.
    pub(crate) cancellations: Mutex<Vec<Value>>,
    pub(crate) jobs: TaskManager,
    pub(crate) http_sessions: Arc<LocalSessionManager>,
    changes: broadcast::Sender<Change>,
    expected: Mutex<HashMap<task::Id, broadcast::Receiver<Change>>>,
    sessions: Mutex<Vec<Weak<Session>>>,
    messengers: TaskTracker,
    /// The client has left; nothing that has no end of its own may go on.
    pub(crate) ending: CancellationToken,
    seal: RandomState,
}

/// One client of the legacy era.
pub(crate) struct Session {
    pub(crate) peer: OnceLock<Peer<RoleServer>>,
    /// Index into [`LOG_LEVELS`]: lesser messages are not sent.
    pub(crate) log_level: AtomicUsize,
    pub(crate) subscribed: Mutex<BTreeSet<String>>,
}

pub(crate) const LOG_LEVELS: [&str; 8] =
    ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

pub(crate) fn log_rank(level: &str) -> Option<usize> {
    LOG_LEVELS.iter().position(|known| *known == level)
}

/// A poisoned lock means a handler panicked; the data is plain, so go on.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(
        versions: Cow<'static, [ProtocolVersion]>,
        page_size: Option<usize>,
        http_sessions: Arc<LocalSessionManager>,
    ) -> Arc<Self> {
        Arc::new(Self {
            versions,
            page_size,
            http_sessions,
            grown: AtomicUsize::new(0),
            extra_tool: AtomicBool::new(false),
            extra_prompt: AtomicBool::new(false),
            visited: AtomicBool::new(false),
            touched: Mutex::default(),
            cancellations: Mutex::default(),
            jobs: TaskManager::new(),
            changes: broadcast::channel(256).0,
            expected: Mutex::default(),
            sessions: Mutex::default(),
            messengers: TaskTracker::new(),
            ending: CancellationToken::new(),
            seal: RandomState::new(),
        })
    }

    pub(crate) fn admit(&self, session: &Arc<Session>) {
        lock(&self.sessions).push(Arc::downgrade(session));
    }

    /// Begins to listen for the subscription that this task is about to make. rmcp acknowledges it
    /// between this and [`Self::listener`], and a client may cause a change as soon as it hears
    /// that.
    pub(crate) fn expect_listener(&self) {
        if let Some(task) = task::try_id() {
            lock(&self.expected).insert(task, self.changes.subscribe());
        }
    }

    pub(crate) fn listener(&self) -> broadcast::Receiver<Change> {
        let expected = task::try_id().and_then(|task| lock(&self.expected).remove(&task));
        expected.unwrap_or_else(|| self.changes.subscribe())
    }

    /// Tells every subscriber. The session that caused the change hears of it before its reply
    /// does; the others are told in their own time, so that a stuck one holds up nobody.
    pub(crate) async fn announce(&self, cause: &Arc<Session>, change: Change) {
        // No listener is not an error.
        let _ = self.changes.send(change.clone());
        let live: Vec<_> = {
            let mut sessions = lock(&self.sessions);
            sessions.retain(|session| session.strong_count() > 0);
            sessions.iter().filter_map(Weak::upgrade).collect()
        };
        for session in live {
            if Arc::ptr_eq(&session, cause) {
                session.tell(change.clone()).await;
            } else {
                let change = change.clone();
                self.messengers.spawn(async move { session.tell(change).await });
            }
        }
    }

    /// Signs MRTR state, so that [`Self::open`] can tell whether the client changed it.
    pub(crate) fn seal(&self, state: &str) -> String {
        format!("{state}.{:016x}", self.seal.hash_one(state))
    }

    pub(crate) fn open<'a>(&self, sealed: &'a str) -> Result<&'a str, ErrorData> {
        sealed
            .rsplit_once('.')
            .map(|(state, _)| state)
            .filter(|state| self.seal(state) == sealed)
            .ok_or_else(|| ErrorData::invalid_params("requestState is not ours", None))
    }
}

impl Session {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            peer: OnceLock::new(),
            log_level: AtomicUsize::new(1),
            subscribed: Mutex::default(),
        })
    }

    pub(crate) fn logs(&self, rank: usize) -> bool {
        rank >= self.log_level.load(Relaxed)
    }

    async fn tell(&self, change: Change) {
        let Some(peer) = self.peer.get() else { return };
        // The client may have left: then nobody needs to know.
        let _ = match change {
            Change::Tools => peer.notify_tool_list_changed().await,
            Change::Prompts => peer.notify_prompt_list_changed().await,
            Change::Resources => peer.notify_resource_list_changed().await,
            Change::Updated(uri) if lock(&self.subscribed).contains(&uri) => {
                peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri)).await
            }
            Change::Updated(_) => Ok(()),
        };
    }
}
