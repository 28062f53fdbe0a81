//! What backends ask their clients: sampling, elicitation, roots.
//!
//! A question goes to the caller whose call it belongs to, under an id of the session's own, and
//! its answer back to the backend. Where the addressee cannot be known or cannot answer, the
//! backend is told so.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Gateway, Session};
use crate::{
    backend::{Instance, Link, Scope},
    protocol::{ErrorCode, Message, method},
};

/// Open questions of one session.
const OPEN: usize = 64;
/// How often open questions are looked after.
const SWEEP: Duration = Duration::from_secs(1);
/// URL elicitations whose end a session may still hear of.
const ELICITATIONS: usize = 256;

#[derive(Default)]
pub(super) struct Questions(Mutex<State>);

#[derive(Default)]
struct State {
    open: BTreeMap<u64, Question>,
    last: u64,
    elicitations: HashSet<String>,
}

struct Question {
    link: Arc<Link>,
    /// The backend's id and progress token, as JSON text.
    id: String,
    token: Option<String>,
    until: Instant,
}

impl Questions {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a question and gives it a number, unless too many are open.
    fn open(&self, link: &Arc<Link>, message: &Message, until: Instant) -> Option<u64> {
        let mut state = self.state();
        if state.open.len() >= OPEN {
            return None;
        }
        state.last += 1;
        let number = state.last;
        let question = Question {
            link: Arc::clone(link),
            id: message.id()?.to_owned(),
            token: message.progress_token().map(str::to_owned),
            until,
        };
        state.open.insert(number, question);
        Some(number)
    }

    /// The client's answer goes to the backend that asked.
    pub(super) fn answered(&self, message: &Message) {
        let number = message.id().and_then(|id| id.parse().ok());
        let question = number.and_then(|number: u64| self.state().open.remove(&number));
        match question {
            Some(question) => question.link.answer(&question.id, message),
            None => tracing::debug!("an answer to no question"),
        }
    }

    /// The client's progress on a question.
    pub(super) fn progressed(&self, message: &Message) {
        let number = message.progress_of().and_then(|token| token.parse().ok());
        let state = self.state();
        let question = number.and_then(|number: u64| state.open.get(&number));
        if let Some(Question { link, token: Some(token), .. }) = question {
            link.progress_back(message, token);
        }
    }

    /// Whether the client has been asked something through this link and has not answered.
    pub(super) fn any_for(&self, link: &Arc<Link>) -> bool {
        self.state().open.values().any(|question| Arc::ptr_eq(&question.link, link))
    }

    /// Forgets the questions that came through this link, or the one with this id.
    fn withdraw(&self, link: &Arc<Link>, id: Option<&str>) -> Vec<u64> {
        let mut state = self.state();
        let gone: Vec<u64> = state
            .open
            .iter()
            .filter(|(_, question)| Arc::ptr_eq(&question.link, link))
            .filter(|(_, question)| id.is_none_or(|id| id == question.id))
            .map(|(number, _)| *number)
            .collect();
        for number in &gone {
            state.open.remove(number);
        }
        gone
    }

    /// Those that have waited too long, by link and the backend's id.
    fn expired(&self, now: Instant) -> Vec<(Arc<Link>, String)> {
        let state = self.state();
        let late = state.open.values().filter(|question| question.until <= now);
        late.map(|question| (Arc::clone(&question.link), question.id.clone())).collect()
    }

    fn none(&self) -> bool {
        self.state().open.is_empty()
    }

    fn note_elicitation(&self, id: &str) {
        let mut state = self.state();
        if state.elicitations.len() >= ELICITATIONS {
            state.elicitations.clear();
        }
        state.elicitations.insert(id.to_owned());
    }

    pub(super) fn knows_elicitation(&self, id: &str) -> bool {
        self.state().elicitations.contains(id)
    }

    /// The session is over: who still waits for its answers is told.
    pub(super) fn close(&self) {
        let open = std::mem::take(&mut self.state().open);
        for question in open.into_values() {
            question.link.refuse(&question.id, ErrorCode::Internal, "the client has gone");
        }
    }
}

#[derive(Deserialize, Default)]
struct Elicitation {
    mode: Option<String>,
    #[serde(rename = "elicitationId")]
    id: Option<String>,
}

impl Gateway {
    /// A backend's question.
    pub(super) fn asked(&self, from: &Arc<Instance>, link: &Arc<Link>, message: &Message) {
        let id = message.id().unwrap_or("null");
        let method = message.method();
        if method == method::ROOTS_LIST
            && let Some(roots) = own_roots(from)
        {
            link.reply(id, &roots.to_string());
            return;
        }
        let session = match self.addressee(from, link, message) {
            Ok(session) => session,
            Err(why) => {
                link.refuse(id, ErrorCode::Internal, &why);
                return;
            }
        };
        if let Err(why) = able(&session, message) {
            link.refuse(id, ErrorCode::MethodNotFound, &why);
            return;
        }
        if let Ok(Elicitation { id: Some(id), .. }) = message.params() {
            session.questions.note_elicitation(&id);
        }
        let until = Instant::now() + from.server().timeouts.max_call;
        let Some(number) = session.questions.open(link, message, until) else {
            let text = format!("{OPEN} questions to this client are open");
            link.refuse(id, ErrorCode::Internal, &text);
            return;
        };
        let number_text = number.to_string();
        let question = message.edit().id(number_text.clone()).progress_token(number_text).finish();
        match link.newest_of(session.serial()) {
            Some(stream) if stream.notify(question.clone()).is_ok() => {}
            // A client of HTTP may open its stream for such questions a little later.
            _ => session.tell(question),
        }
        self.watch_questions();
    }

    /// No question waits for ever. One task looks after all of them, while there are any.
    fn watch_questions(&self) {
        if self.watching.swap(true, Ordering::SeqCst) {
            return;
        }
        let gateway = self.me();
        self.tracker.spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let Some(gateway) = gateway.upgrade() else { return };
                let sessions: Vec<Arc<Session>> = gateway.sessions().values().cloned().collect();
                let now = Instant::now();
                for session in &sessions {
                    for (link, id) in session.questions.expired(now) {
                        gateway.withdrawn(&link, Some(&id), None);
                        link.refuse(
                            &id,
                            ErrorCode::Internal,
                            "the client gave no answer in time (timeouts.max_call)",
                        );
                    }
                }
                let quiet = || gateway.sessions().values().all(|session| session.questions.none());
                if quiet() {
                    gateway.watching.store(false, Ordering::SeqCst);
                    // A question that came in between has found somebody watching.
                    if quiet() || gateway.watching.swap(true, Ordering::SeqCst) {
                        return;
                    }
                }
            }
        });
    }

    /// Whose question it is.
    fn addressee(
        &self,
        from: &Instance,
        link: &Link,
        message: &Message,
    ) -> Result<Arc<Session>, String> {
        let gone = || "the client has gone".to_owned();
        if let Scope::Session(id) = &from.key().scope {
            let session = self.sessions().values().find(|session| session.id() == id).cloned();
            return session.ok_or_else(gone);
        }
        // A task is somebody's, whoever else has calls in flight.
        if let Some(task) = message.related_task() {
            let serial = self.task_session(from, link, &task);
            let serial = serial.ok_or_else(|| {
                format!("task \"{task}\" is not known, so whose question this is cannot be known")
            })?;
            return self.session(serial).ok_or_else(gone);
        }
        let only = link.only_session().and_then(|serial| self.session(serial));
        only.ok_or_else(|| {
            let server = from.server_name();
            if link.sessions().is_empty() {
                format!("no call is in flight, so nobody can be asked: set `share: session` for \"{server}\"")
            } else {
                format!("several clients have calls in flight, so whose question this is cannot be known: set `share: session` for \"{server}\"")
            }
        })
    }

    /// The backend takes a question back, or has ended.
    pub(super) fn withdrawn(&self, link: &Arc<Link>, id: Option<&str>, words: Option<&Message>) {
        let sessions: Vec<Arc<Session>> = self.sessions().values().cloned().collect();
        for session in sessions {
            for number in session.questions.withdraw(link, id) {
                let number = number.to_string();
                let notice = match words {
                    Some(words) => words.edit().request_id(number).finish(),
                    None => json!({
                        "jsonrpc": "2.0",
                        "method": method::CANCELLED,
                        "params": {"requestId": serde_json::from_str::<Value>(&number).unwrap_or_default(), "reason": "no answer is needed any more"},
                    })
                    .to_string()
                    .into(),
                };
                match link.newest_of(session.serial()) {
                    Some(stream) if stream.notify(notice.clone()).is_ok() => {}
                    _ => session.tell(notice),
                }
            }
        }
    }
}

/// The roots that the gateway answers by itself: those of the config, or the project's folder.
fn own_roots(instance: &Instance) -> Option<Value> {
    let configured = &instance.server().roots;
    if !configured.is_empty() {
        let roots: Vec<Value> = configured
            .iter()
            .map(|root| match &root.name {
                Some(name) => json!({"uri": root.uri, "name": name}),
                None => json!({"uri": root.uri}),
            })
            .collect();
        return Some(json!({ "roots": roots }));
    }
    match &instance.key().scope {
        Scope::Project(_, folder) => {
            Some(json!({"roots": [{"uri": format!("file://{}", folder.display())}]}))
        }
        _ => None,
    }
}

/// Whether the client said that it can answer such a question.
fn able(session: &Session, message: &Message) -> Result<(), String> {
    let client = session.client().unwrap_or_default();
    let method = message.method();
    let (can, what) = match method.as_ref() {
        method::SAMPLING => (client.has("sampling"), "sampling".to_owned()),
        method::ROOTS_LIST => (client.has("roots"), "roots".to_owned()),
        method::ELICITATION => {
            let mode = message.params::<Elicitation>().ok().and_then(|params| params.mode);
            let mode = mode.as_deref().unwrap_or("form");
            (client.elicits(mode), format!("elicitation ({mode})"))
        }
        _ => (true, String::new()),
    };
    if can {
        Ok(())
    } else {
        Err(format!("the client cannot be asked: it has no {what} capability"))
    }
}
