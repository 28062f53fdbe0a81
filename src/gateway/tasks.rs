//! Tasks of 2025-11-25: which backend's each is, and that its instance stays awake for it.
//!
//! A task lives as long as its instance and no longer.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Gateway, Layer, Session, call,
    error::Failure,
    notices,
    router::{Answer, Request, only_backend},
};
use crate::{
    backend::{Instance, InstanceKey, Lease, Link},
    policy::Target,
    protocol::{Message, array_member, method},
};

/// Tasks that are remembered for all clients.
const TASKS: usize = 10_000;
/// A task without a stated time to live keeps its instance awake for so long.
const TTL: Duration = Duration::from_secs(3600);
const PAGES: usize = 20;

/// Statuses that came before the answer that makes their task known.
const EARLY: usize = 64;

#[derive(Default)]
pub(super) struct Tasks {
    known: Mutex<HashMap<(String, String), Known>>,
    early: Mutex<VecDeque<(InstanceKey, String, Bytes)>>,
}

struct Known {
    instance: InstanceKey,
    session: u64,
    until: Instant,
    /// Dropped when the task has ended: then nothing works on it.
    lease: Option<Lease>,
}

#[derive(Deserialize)]
struct Created {
    task: Task,
}

#[derive(Deserialize)]
struct Task {
    #[serde(rename = "taskId")]
    id: String,
    ttl: Option<f64>,
}

impl Tasks {
    fn all(&self) -> MutexGuard<'_, HashMap<(String, String), Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn early(&self) -> MutexGuard<'_, VecDeque<(InstanceKey, String, Bytes)>> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a status until its task is known.
    fn keep(&self, instance: &InstanceKey, id: &str, bytes: Bytes) {
        let mut early = self.early();
        if early.len() == EARLY {
            early.pop_front();
        }
        early.push_back((instance.clone(), id.to_owned(), bytes));
    }

    fn take_early(&self, instance: &InstanceKey, id: &str) -> Vec<Bytes> {
        let mut early = self.early();
        let (mine, others): (Vec<_>, Vec<_>) =
            early.drain(..).partition(|(at, known, _)| at == instance && known == id);
        early.extend(others);
        mine.into_iter().map(|(_, _, bytes)| bytes).collect()
    }

    /// The backend that a principal's task is at.
    fn server(&self, who: &str, id: &str) -> Option<Arc<str>> {
        let all = self.all();
        let known = all.get(&(who.to_owned(), id.to_owned()))?;
        Some(Arc::clone(&known.instance.server))
    }

    fn session(&self, instance: &InstanceKey, id: &str) -> Option<u64> {
        let all = self.all();
        let known = all.iter().find(|((_, known), task)| known == id && task.instance == *instance);
        known.map(|(_, task)| task.session)
    }

    /// The task works no more; its instance may sleep.
    fn ended(&self, instance: &InstanceKey, id: &str) {
        let leases: Vec<Lease> = {
            let mut all = self.all();
            let ended = all
                .iter_mut()
                .filter(|((_, known), task)| known == id && task.instance == *instance);
            ended.filter_map(|(_, task)| task.lease.take()).collect()
        };
        drop(leases);
    }

    fn drop_where(&self, gone: impl Fn(&Known) -> bool) {
        let dropped: Vec<Known> = {
            let mut all = self.all();
            let keys: Vec<_> =
                all.iter().filter(|(_, task)| gone(task)).map(|(key, _)| key.clone()).collect();
            keys.iter().filter_map(|key| all.remove(key)).collect()
        };
        // Leases lock their instances; not while the table is locked.
        drop(dropped);
    }

    pub(super) fn forget_instance(&self, key: &InstanceKey) {
        self.early().retain(|(instance, _, _)| instance != key);
        self.drop_where(|task| task.instance == *key);
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
    pub(super) fn remember_task(&self, session: &Session, lease: &Lease, result: &str) {
        let Ok(Created { task }) = serde_json::from_str::<Created>(result) else { return };
        let now = Instant::now();
        self.tasks.drop_where(|task| task.until <= now);
        let ttl = task.ttl.filter(|ms| ms.is_finite() && *ms > 0.0);
        let ttl = ttl.map_or(TTL, |ms| Duration::from_millis(ms as u64)).min(TTL);
        let held = lease.instance().hold();
        let mut all = self.tasks.all();
        if all.len() >= TASKS {
            drop(all);
            tracing::warn!("{TASKS} tasks are remembered, and no more");
            return;
        }
        let id = task.id.clone();
        let known = Known {
            instance: lease.instance().key().clone(),
            session: session.serial(),
            until: now + ttl,
            lease: held,
        };
        all.insert((session.principal().key(), task.id), known);
        drop(all);
        for status in self.tasks.take_early(lease.instance().key(), &id) {
            session.tell(status);
        }
    }

    pub(super) fn task_status(&self, from: &Instance, link: &Link, message: &Message) {
        #[derive(Deserialize, Default)]
        struct Status {
            #[serde(default)]
            status: String,
        }
        let Some(id) = message.task_id() else { return };
        let known = self.tasks.session(from.key(), &id);
        let bytes = message.edit().finish();
        // The first status often comes before the answer that says which task it is about.
        let session = known.or_else(|| link.only_session()).and_then(|serial| self.session(serial));
        if session.is_none() && known.is_none() {
            self.tasks.keep(from.key(), &id, bytes);
        } else if let Some(session) = session {
            match link.newest_of(session.serial()) {
                Some(stream) if stream.notify(bytes.clone()).is_ok() => {}
                _ => session.tell(bytes),
            }
        }
        let status = message.params::<Status>().unwrap_or_default().status;
        if matches!(status.as_str(), "completed" | "failed" | "cancelled") {
            self.tasks.ended(from.key(), &id);
        }
    }
}

/// `tasks/get`, `tasks/result`, `tasks/cancel`.
pub(super) async fn one(request: &Request<'_>) -> Result<Answer, Failure> {
    let session = request.session;
    let gateway = session.gateway();
    let id = request.message.task_id();
    let id = id.ok_or_else(|| Failure::InvalidParams("`taskId` is missing".into()))?;
    let server = gateway.tasks.server(&session.principal().key(), &id);
    let Some(server) = server else {
        // Not made through us, or by somebody else: only a child of one's own may be asked.
        let own = only_backend(request).filter(|permit| {
            let server = gateway.server(permit.server());
            server.is_some_and(|server| server.share != crate::config::Share::All)
        });
        let permit = own.ok_or_else(|| Failure::UnknownTask(id.into_owned()))?;
        return call::forward(request, permit, None).await;
    };
    if let Layer::Server(name) = session.layer()
        && **name != *server
    {
        return Err(Failure::UnknownTask(id.into_owned()));
    }
    let target = Target::Server { server: &server };
    let permit = gateway.policy.authorize(session.principal(), target);
    let permit = permit.ok_or_else(|| Failure::UnknownTask(id.into_owned()))?;
    call::forward(request, permit, None).await
}

/// `tasks/list`: of the backends where this principal has tasks.
pub(super) async fn list(request: &Request<'_>) -> Result<Answer, Failure> {
    let session = request.session;
    let gateway = session.gateway();
    let shared = |name: &str| {
        gateway.server(name).is_some_and(|server| server.share == crate::config::Share::All)
    };
    if let Layer::Server(name) = session.layer()
        && !shared(name)
    {
        return call::unknown(request).await;
    }
    let who = session.principal().key();
    let mine: Vec<(String, Arc<str>)> = {
        let all = gateway.tasks.all();
        let mine = all.iter().filter(|((owner, _), _)| *owner == who);
        mine.map(|((_, id), task)| (id.clone(), Arc::clone(&task.instance.server))).collect()
    };
    let mut servers: Vec<Arc<str>> = mine.iter().map(|(_, server)| Arc::clone(server)).collect();
    servers.sort();
    servers.dedup();
    let alone = servers.len() == 1;
    let mut found = Vec::new();
    for server in servers {
        if matches!(session.layer(), Layer::Server(name) if **name != *server) {
            continue;
        }
        let link = gateway.supervisor.running(&server, session.holder());
        let Some(link) = link.and_then(|instance| instance.link()) else { continue };
        let mut cursor = Value::Null;
        for _ in 0..PAGES {
            let params =
                if cursor.is_null() { "{}".into() } else { format!("{{\"cursor\":{cursor}}}") };
            let within = gateway.server(&server).map_or(TTL, |server| server.timeouts.call);
            let answer = link.ask_result(method::TASKS_LIST, &params, within).await;
            let answer = answer.map_err(|error| notices::backend(&server, &error))?;
            let result = answer.result().unwrap_or("{}");
            let all = array_member(result, "tasks").unwrap_or_default();
            let own = |raw: &&&str| {
                let id = crate::protocol::string_member(raw, "taskId").unwrap_or_default();
                mine.iter().any(|(known, at)| *known == id && *at == server)
            };
            let kept: Vec<String> = all.iter().filter(own).map(|raw| (*raw).to_owned()).collect();
            let next = crate::protocol::string_member(result, "nextCursor");
            if alone && next.is_none() && found.is_empty() && kept.len() == all.len() {
                return Ok(Answer::Message(answer.edit().id(request.id()).finish()));
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
