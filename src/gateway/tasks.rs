//! Tasks, of 2025-11-25 and of the modern era's extension: whose each is, and that its instance
//! stays awake for it.
//!
//! A task lives as long as its instance and no longer. Who may not call the tool that made it
//! does not see it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::{
    Gateway, Layer, Session, call,
    catalog::Route,
    era::{self, Hearing, Subject},
    error::Failure,
    notices,
    router::{Answer, Request, only_backend},
    session::STATELESS,
};
use crate::{
    backend::{Instance, InstanceKey, Lease, Link},
    config::{Server, Share},
    policy::{Permit, Target},
    protocol::{Era, Message, array_member, method, stream::Outgoing, string_member},
};

/// Tasks that are remembered for all clients.
const TASKS: usize = 10_000;
/// A longer id is not remembered.
const ID_BYTES: usize = 1024;
/// A task without a stated time to live keeps its instance awake for so long.
const TTL: Duration = Duration::from_secs(3600);
const PAGES: usize = 20;

/// Statuses that came before the answer that makes their task known, and their bytes.
const EARLY: usize = 64;
const EARLY_BYTES: usize = 1 << 20;

#[derive(Default)]
pub(super) struct Tasks {
    known: Mutex<HashMap<TaskKey, Known>>,
    early: Mutex<VecDeque<Early>>,
    last: AtomicU64,
}

/// Two instances may give the same id to two tasks.
type TaskKey = (InstanceKey, String);

struct Known {
    /// Tells it from an earlier task of the same key.
    number: u64,
    owner: Arc<str>,
    session: u64,
    /// The tool that made it, as it was shown and as its backend calls it.
    tool: Option<(String, String)>,
    /// Dropped when the task has ended: then nothing works on it.
    lease: Option<Lease>,
    /// Ends the sleep that waits for the end of the task's time.
    _alive: oneshot::Sender<()>,
}

struct Early {
    instance: InstanceKey,
    id: String,
    /// `None`: somebody has been told already.
    bytes: Option<Bytes>,
    terminal: bool,
}

impl Early {
    fn size(&self) -> usize {
        self.id.len() + self.bytes.as_ref().map_or(0, Bytes::len)
    }
}

#[derive(Deserialize)]
struct Created {
    task: Task,
}

#[derive(Deserialize)]
struct Task {
    #[serde(rename = "taskId")]
    id: String,
    #[serde(alias = "ttlMs")]
    ttl: Option<f64>,
    #[serde(default)]
    status: String,
}

#[derive(Deserialize, Default)]
struct Status {
    #[serde(default)]
    status: String,
}

fn terminal(status: &str) -> bool {
    matches!(status, "completed" | "failed" | "cancelled")
}

impl Tasks {
    fn all(&self) -> MutexGuard<'_, HashMap<TaskKey, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn early(&self) -> MutexGuard<'_, VecDeque<Early>> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a status until its task is known.
    fn keep(&self, status: Early) {
        let mut early = self.early();
        early.push_back(status);
        let mut bytes: usize = early.iter().map(Early::size).sum();
        while early.len() > EARLY || bytes > EARLY_BYTES {
            bytes -= early.pop_front().map_or(bytes, |oldest| oldest.size());
        }
    }

    fn take_early(&self, instance: &InstanceKey, id: &str) -> Vec<Early> {
        let mut early = self.early();
        let (mine, others) =
            early.drain(..).partition(|status| status.instance == *instance && status.id == id);
        *early = others;
        mine.into()
    }

    fn session(&self, instance: &InstanceKey, id: &str) -> Option<u64> {
        self.all().get(&(instance.clone(), id.to_owned())).map(|task| task.session)
    }

    /// Takes a task in; a former one of the same key is replaced.
    fn remember(&self, key: TaskKey, task: Known) -> bool {
        let replaced = {
            let mut all = self.all();
            if all.len() >= TASKS && !all.contains_key(&key) {
                return false;
            }
            all.insert(key, task)
        };
        // Leases lock their instances; not while the table is locked.
        drop(replaced);
        true
    }

    /// The task works no more; its instance may sleep.
    fn ended(&self, instance: &InstanceKey, id: &str) {
        let key = (instance.clone(), id.to_owned());
        let lease = self.all().get_mut(&key).and_then(|task| task.lease.take());
        drop(lease);
    }

    /// The task's time is over.
    fn expired(&self, key: &TaskKey, number: u64) {
        let gone = {
            let mut all = self.all();
            let same = all.get(key).is_some_and(|task| task.number == number);
            same.then(|| all.remove(key)).flatten()
        };
        drop(gone);
    }

    pub(super) fn forget_instance(&self, key: &InstanceKey) {
        self.early().retain(|status| status.instance != *key);
        let gone: Vec<Known> = {
            let mut all = self.all();
            all.extract_if(|(instance, _), _| instance == key).map(|(_, task)| task).collect()
        };
        drop(gone);
    }

    /// The tasks stay: the principal may come back for them. Nothing is told to this session.
    pub(super) fn forget_session(&self, serial: u64) {
        for task in self.all().values_mut().filter(|task| task.session == serial) {
            task.session = 0;
        }
    }
}

impl Gateway {
    /// Notes the task that a call has made.
    pub(super) fn remember_task(&self, request: &Request<'_>, lease: &Lease, result: &str) {
        let task = match lease.link().era() {
            Era::Legacy if !request.message.wants_task() => None,
            Era::Legacy => serde_json::from_str::<Created>(result).ok().map(|made| made.task),
            // The task is the result, and says so.
            Era::Modern => string_member(result, "resultType")
                .filter(|kind| kind == "task")
                .and_then(|_| serde_json::from_str::<Task>(result).ok()),
        };
        let Some(task) = task else { return };
        let (session, instance) = (request.session, lease.instance().key());
        if task.id.len() > ID_BYTES {
            tracing::warn!(server = &*instance.server, "a task's id is too long to remember");
            return;
        }
        let ttl = task.ttl.filter(|ms| ms.is_finite() && *ms > 0.0);
        let ttl = ttl.map_or(TTL, |ms| Duration::from_millis(ms as u64)).min(TTL);
        let early = self.tasks.take_early(instance, &task.id);
        let over = terminal(&task.status) || early.iter().any(|status| status.terminal);
        let (alive, gone) = oneshot::channel();
        let number = self.tasks.last.fetch_add(1, Ordering::Relaxed);
        let known = Known {
            number,
            owner: Arc::clone(session.principal().key()),
            session: session.serial(),
            tool: tool(request),
            lease: (!over).then(|| lease.instance().hold()).flatten(),
            _alive: alive,
        };
        let key = (instance.clone(), task.id);
        if !self.tasks.remember(key.clone(), known) {
            tracing::warn!("{TASKS} tasks are remembered, and no more");
        } else if !lease.link().is_open() {
            // It ended meanwhile, and has been forgotten before this task was known.
            self.tasks.forget_instance(instance);
        } else {
            let (gateway, until) = (self.me(), Instant::now() + ttl);
            self.tracker.spawn(async move {
                // Ends early when the task is forgotten: its sender is dropped.
                if tokio::time::timeout_at(until.into(), gone).await.is_err()
                    && let Some(gateway) = gateway.upgrade()
                {
                    gateway.tasks.expired(&key, number);
                }
            });
        }
        for bytes in early.into_iter().filter_map(|status| status.bytes) {
            session.tell(bytes);
        }
    }

    /// An answer about a task often says that it is over.
    pub(super) fn task_answered(&self, request: &Message, lease: &Lease, answer: &Message) {
        let Some(id) = request.task_id() else { return };
        let over = match request.method().as_ref() {
            // Answered when the task is over, and not before.
            method::TASKS_RESULT => true,
            method::TASKS_GET | method::TASKS_CANCEL => answer
                .result()
                .and_then(|result| serde_json::from_str::<Status>(result).ok())
                .is_some_and(|task| terminal(&task.status)),
            _ => false,
        };
        if over {
            self.tasks.ended(lease.instance().key(), &id);
        }
    }

    /// The session that a task of this instance was made by; 0 when it has gone.
    pub(super) fn task_session(&self, from: &Instance, link: &Link, id: &str) -> Option<u64> {
        // The link knows it as soon as the answer that names the task has been read.
        self.tasks.session(from.key(), id).or_else(|| link.task_session(id))
    }

    /// A task's progress goes on under the token of the call that made it.
    pub(super) fn task_progress(&self, link: &Link, message: &Message) {
        let Some((serial, bytes)) = link.task_progress(message) else { return };
        if let Some(session) = self.session(serial) {
            match link.newest_of(serial) {
                Some(stream) if stream.notify(bytes.clone()).is_ok() => {}
                _ => session.tell(bytes),
            }
        }
    }

    pub(super) fn task_status(&self, from: &Instance, link: &Link, message: &Message) {
        let Some(id) = message.task_id() else { return };
        let over = terminal(&message.params::<Status>().unwrap_or_default().status);
        let remembered = self.tasks.session(from.key(), &id).is_some();
        let known = self.task_session(from, link, &id);
        let bytes = message.edit().finish();
        // The first status often comes before the answer that says which task it is about.
        let session = known.or_else(|| link.only_session()).and_then(|serial| self.session(serial));
        if let Some(session) = &session {
            match link.newest_of(session.serial()) {
                Some(stream) if stream.notify(bytes.clone()).is_ok() => {}
                _ => session.tell(bytes.clone()),
            }
        }
        if !remembered {
            let bytes = (session.is_none() && known.is_none()).then_some(bytes);
            let instance = from.key().clone();
            self.tasks.keep(Early { instance, id: id.into_owned(), bytes, terminal: over });
        } else if over {
            self.tasks.ended(from.key(), &id);
        }
    }

    /// A modern backend tells of a task; those hear it who listen to it.
    pub(super) fn task_changed(&self, from: &Instance, message: &Message) {
        let Some(id) = message.task_id() else { return };
        let bytes = message.edit().finish();
        let server = from.server();
        for session in self.users_of(from) {
            // Another task may have the same id, and be another's.
            let key = (from.key().clone(), id.clone().into_owned());
            let all = self.tasks.all();
            let known = all.get(&key);
            let seen = known.filter(|task| self.task_permit(&session, server, task).is_some());
            let number = seen.map(|task| task.number);
            drop(all);
            if number.is_some_and(|number| session.hears_task(number)) {
                session.tell(bytes.clone());
            }
        }
        if terminal(&message.params::<Status>().unwrap_or_default().status) {
            self.tasks.ended(from.key(), &id);
        }
    }

    /// Listens to a task for a session that may see it. `None` if there is nothing to hear.
    /// With the number that tells this task from others of its id.
    pub(super) async fn hear_task(&self, session: &Session, id: &str) -> Option<(Hearing, u64)> {
        let seen = self.tasks_seen(session, id);
        let [permit] = seen.as_slice() else { return None };
        let server = permit.server();
        let key = (self.key(&*self.server(server)?, session), id.to_owned());
        let number = self.tasks.all().get(&key)?.number;
        let running = self.supervisor.running(server, session.holder(), session.speak());
        let link = running.as_ref().and_then(|instance| instance.link());
        let (instance, link) = (running?, link.filter(|link| link.era() == Era::Modern)?);
        session.uses(server);
        let mut hearing = self.hear(&instance, &link, Subject::Task(id.to_owned()))?;
        hearing.agreed(instance.server().timeouts.call).await.ok()?;
        Some((hearing, number))
    }

    /// The tasks of this id that a session may see: by instance, with the permit for each.
    fn tasks_seen(&self, session: &Session, id: &str) -> Vec<Permit> {
        let servers = self.servers();
        let servers = servers.iter().filter(|server| has_layer(session, server));
        let seen = servers.filter_map(|server| {
            let key = (self.key(server, session), id.to_owned());
            let all = self.tasks.all();
            self.task_permit(session, server, all.get(&key)?)
        });
        seen.collect()
    }

    /// Who may call a task's tool may see the task.
    fn task_permit(&self, session: &Session, server: &Server, task: &Known) -> Option<Permit> {
        let server = server.name.as_str();
        let target = match &task.tool {
            Some((exposed, bare)) => Target::Tool { server, exposed, bare },
            None => Target::Server { server },
        };
        let own = task.owner == *session.principal().key();
        own.then(|| self.now().policy.authorize(&session.principal(), target)).flatten()
    }

    /// Whether this backend's tasks, remembered or not, can be nobody else's.
    fn tasks_are_own(&self, session: &Session, server: &Server) -> bool {
        match server.share {
            // Over stateless HTTP it is all of a principal's, whatever its role.
            Share::Session if !session.holder().session.starts_with(STATELESS) => true,
            Share::All => false,
            // Other sessions' too, but nothing is hidden from this one.
            Share::User | Share::Project | Share::Session => !session.principal().is_restricted(),
        }
    }
}

fn has_layer(session: &Session, server: &Server) -> bool {
    match session.layer() {
        Layer::Aggregate => true,
        Layer::Server(name) => *name == server.name,
    }
}

/// The tool that is called: as it is shown, and as its backend calls it.
fn tool(request: &Request<'_>) -> Option<(String, String)> {
    if request.message.method() != method::TOOLS_CALL {
        return None;
    }
    let name = request.message.name()?.into_owned();
    if let Layer::Server(server) = request.session.layer() {
        return Some((format!("{server}_{name}"), name));
    }
    let view = request.session.view();
    let shown = view.tools.find(&name).and_then(|shown| match &shown.route {
        Route::Backend { bare, .. } => Some((shown.exposed.clone(), bare.clone())),
        _ => None,
    });
    Some(shown.unwrap_or_else(|| (name.clone(), name)))
}

/// `tasks/get`, `tasks/cancel`, and each era's own: `tasks/result`, `tasks/update`.
pub(super) async fn one(request: &Request<'_>) -> Result<Answer, Failure> {
    let session = request.session;
    let gateway = session.gateway();
    let id = request.message.task_id();
    let id = id.ok_or_else(|| Failure::InvalidParams("`taskId` is missing".into()))?;
    let modern = session.era() == Era::Modern;
    if modern && !session.client().unwrap_or_default().extends(era::TASKS_EXTENSION) {
        let extension = json!({"extensions": {era::TASKS_EXTENSION: {}}});
        return Err(Failure::MissingCapability(extension));
    }
    let unknown = || Failure::UnknownTask(id.clone().into_owned());
    let mut seen = gateway.tasks_seen(session, &id);
    let permit = match seen.len() {
        1 => seen.pop(),
        // Not made through us, or by somebody else: only what can be one's own may be asked.
        0 => only_backend(request).filter(|permit| {
            let server = gateway.server(permit.server());
            server.is_some_and(|server| gateway.tasks_are_own(session, &server))
        }),
        // Two backends gave it to two tasks, and which is meant cannot be known.
        _ => None,
    };
    // Tasks of one era cannot be had in the other.
    let permit = permit.filter(|permit| {
        let server = gateway.server(permit.server());
        let listing = server.and_then(|it| gateway.catalog.get(&gateway.key(&it, session), &it));
        let spoken = listing.and_then(|listing| listing.era);
        spoken.is_none_or(|spoken| spoken == session.era())
    });
    call::forward(request, permit.ok_or_else(unknown)?, None).await
}

/// `tasks/list`: of the backends where this principal has tasks.
pub(super) async fn list(request: &Request<'_>) -> Result<Answer, Failure> {
    let session = request.session;
    let gateway = session.gateway();
    if let Layer::Server(name) = session.layer()
        && gateway.server(name).is_some_and(|server| gateway.tasks_are_own(session, &server))
    {
        return call::unknown(request).await;
    }
    let mut mine: Vec<(&Server, Vec<String>)> = Vec::new();
    let servers = gateway.servers();
    for server in servers.iter().filter(|server| has_layer(session, server)) {
        let key = gateway.key(server, session);
        let all = gateway.tasks.all();
        let seen = all.iter().filter(|((instance, _), task)| {
            *instance == key && gateway.task_permit(session, server, task).is_some()
        });
        let ids: Vec<String> = seen.map(|((_, id), _)| id.clone()).collect();
        if !ids.is_empty() {
            mine.push((server, ids));
        }
    }
    let alone = mine.len() == 1;
    let mut found = Vec::new();
    for (server, ids) in mine {
        let (holder, speak) = (session.holder(), session.speak());
        let link = gateway.supervisor.running(&server.name, holder, speak);
        let Some(link) = link.and_then(|instance| instance.link()) else { continue };
        let mut cursor = Value::Null;
        for _ in 0..PAGES {
            let params =
                if cursor.is_null() { "{}".into() } else { format!("{{\"cursor\":{cursor}}}") };
            let answer = link.ask_result(method::TASKS_LIST, &params, server.timeouts.call).await;
            let answer = answer.map_err(|error| notices::backend(&server.name, &error))?;
            let result = answer.result().unwrap_or("{}");
            let all = array_member(result, "tasks").unwrap_or_default();
            let own = |raw: &&&str| {
                let id = string_member(raw, "taskId").unwrap_or_default();
                ids.iter().any(|known| *known == id)
            };
            let kept: Vec<String> = all.iter().filter(own).map(|raw| (*raw).to_owned()).collect();
            let next = string_member(result, "nextCursor");
            if alone && next.is_none() && found.is_empty() && kept.len() == all.len() {
                let bytes = answer.edit().id(request.id()).finish();
                return Ok(Answer::Message(Outgoing::answer(bytes, false)));
            }
            found.extend(kept);
            match next {
                Some(next) => cursor = next.into_owned().into(),
                None => break,
            }
        }
    }
    Ok(Answer::Result(format!("{{\"tasks\":[{}]}}", found.join(","))))
}

#[cfg(test)]
#[path = "tasks_tests.rs"]
mod tests;
