//! What backends ask their clients: sampling, elicitation, roots.
//!
//! A question goes to the caller whose call it belongs to, under an id of the session's own, and
//! its answer back to the backend. Where the addressee cannot be known or cannot answer, the
//! backend is told so. A caller of the modern era is not asked: its question waits here for
//! `era/parked.rs`. `era/rounds.rs` asks on its own account.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::sync::{Notify, oneshot};

use super::{Gateway, Session, era, session::STATELESS};
use crate::{
    backend::{Instance, Link, Scope},
    protocol::{Era, ErrorCode, Message, method},
};

/// Open questions of one session.
const OPEN: usize = 64;
/// How often open questions are looked after.
const SWEEP: Duration = Duration::from_secs(1);
/// URL elicitations whose end a session may still hear of.
const ELICITATIONS: usize = 256;

#[derive(Default)]
pub(super) struct Questions {
    state: Mutex<State>,
    /// Told of each question to a client that cannot be asked while its call goes on.
    pub(super) waiting: Notify,
}

#[derive(Default)]
struct State {
    open: BTreeMap<u64, Question>,
    last: u64,
    elicitations: HashSet<String>,
    /// What the client would have to declare for a question that was refused.
    lacking: Option<Value>,
}

struct Question {
    asker: Asker,
    until: Instant,
}

/// A question as a client of the modern era gets it.
pub(super) struct Input {
    pub number: u64,
    /// Its name in `inputRequests`.
    pub key: String,
    /// The request, as JSON text.
    pub question: String,
}

enum Asker {
    /// A backend, by its own id and progress token, as JSON text. `input` is the question for a
    /// client of the modern era, as JSON text.
    Backend { link: Arc<Link>, id: String, token: Option<String>, input: Option<String> },
    /// The gateway, for a backend that must not ask.
    Own(oneshot::Sender<Message>),
}

impl Question {
    fn is_from(&self, asking: &Arc<Link>) -> bool {
        matches!(&self.asker, Asker::Backend { link, .. } if Arc::ptr_eq(link, asking))
    }
}

impl Questions {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a question and gives it a number, unless too many are open.
    fn open(&self, asker: Asker, until: Instant) -> Option<u64> {
        let mut state = self.state();
        if state.open.len() >= OPEN {
            return None;
        }
        state.last += 1;
        let number = state.last;
        state.open.insert(number, Question { asker, until });
        Some(number)
    }

    /// Takes a question of the gateway's own; the client's answer comes to the receiver.
    pub(super) fn open_own(&self, until: Instant) -> Option<(u64, oneshot::Receiver<Message>)> {
        let (answer, answered) = oneshot::channel();
        Some((self.open(Asker::Own(answer), until)?, answered))
    }

    /// Nobody waits for this answer any more. False if it has come.
    pub(super) fn forget(&self, number: u64) -> bool {
        self.state().open.remove(&number).is_some()
    }

    /// The questions that a client of the modern era has yet to answer.
    pub(super) fn inputs(&self) -> Vec<Input> {
        let state = self.state();
        let mut inputs: Vec<Input> = Vec::new();
        for (number, question) in &state.open {
            let Asker::Backend { id, input: Some(input), .. } = &question.asker else { continue };
            // The backend's own name for it, be it a text or a number.
            let name = serde_json::from_str::<String>(id).unwrap_or_else(|_| id.clone());
            let taken = inputs.iter().any(|known| known.key == name);
            let key = if taken { format!("{name} ({number})") } else { name };
            inputs.push(Input { number: *number, key, question: input.clone() });
        }
        inputs
    }

    /// A client's answer to one of them: a result as JSON text.
    pub(super) fn input(&self, number: u64, result: &str) {
        let question = self.state().open.remove(&number);
        if let Some(Question { asker: Asker::Backend { link, id, .. }, .. }) = question {
            link.reply(&id, &result.replace(['\n', '\r'], " "));
        }
    }

    /// The client's answer goes to the backend that asked.
    pub(super) fn answered(&self, message: &Message) {
        let number = message.id().and_then(|id| id.parse().ok());
        let question = number.and_then(|number: u64| self.state().open.remove(&number));
        match question.map(|question| question.asker) {
            Some(Asker::Backend { link, id, .. }) => link.answer(&id, message),
            Some(Asker::Own(answer)) => drop(answer.send(message.clone())),
            None => tracing::debug!("an answer to no question"),
        }
    }

    /// The client's progress on a question.
    pub(super) fn progressed(&self, message: &Message) {
        let number = message.progress_of().and_then(|token| token.parse().ok());
        let state = self.state();
        let question = number.and_then(|number: u64| state.open.get(&number));
        let asker = question.map(|question| &question.asker);
        if let Some(Asker::Backend { link, token: Some(token), .. }) = asker {
            link.progress_back(message, token);
        }
    }

    /// Whether the client has been asked something through this link and has not answered.
    pub(super) fn any_for(&self, link: &Arc<Link>) -> bool {
        self.state().open.values().any(|question| question.is_from(link))
    }

    /// Forgets the questions that came through this link, or the one with this id.
    fn withdraw(&self, link: &Arc<Link>, id: Option<&str>) -> Vec<u64> {
        let mut state = self.state();
        let gone: Vec<u64> = state
            .open
            .iter()
            .filter(|(_, question)| match &question.asker {
                Asker::Backend { link: from, id: known, .. } => {
                    Arc::ptr_eq(from, link) && id.is_none_or(|id| id == known)
                }
                Asker::Own(_) => false,
            })
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
        let backends = late.filter_map(|question| match &question.asker {
            Asker::Backend { link, id, .. } => Some((Arc::clone(link), id.clone())),
            // Who asked it minds the time.
            Asker::Own(_) => None,
        });
        backends.collect()
    }

    fn none(&self) -> bool {
        self.state().open.is_empty()
    }

    /// What a backend wanted of the client, last, that it cannot be asked; told once.
    pub(super) fn take_lacking(&self) -> Option<Value> {
        self.state().lacking.take()
    }

    pub(super) fn note_elicitation(&self, id: &str) {
        let mut state = self.state();
        if state.elicitations.len() >= ELICITATIONS {
            state.elicitations.clear();
        }
        state.elicitations.insert(id.to_owned());
    }

    pub(super) fn knows_elicitation(&self, id: &str) -> bool {
        self.state().elicitations.contains(id)
    }

    /// Takes out what backends have asked, for another session of the same client.
    fn hand_over(&self, number: u64) -> Option<Question> {
        self.state().open.remove(&number)
    }

    fn take_over(&self, question: Question) {
        let mut state = self.state();
        state.last += 1;
        let number = state.last;
        state.open.insert(number, question);
        drop(state);
        self.waiting.notify_one();
    }

    /// The backends' questions, with who asked.
    fn askers(&self) -> Vec<(u64, Arc<Link>)> {
        let state = self.state();
        let asked = state.open.iter().filter_map(|(number, question)| match &question.asker {
            Asker::Backend { link, .. } => Some((*number, Arc::clone(link))),
            Asker::Own(_) => None,
        });
        asked.collect()
    }

    /// The session is over: who still waits for its answers is told.
    pub(super) fn close(&self) {
        let open = std::mem::take(&mut self.state().open);
        for question in open.into_values() {
            if let Asker::Backend { link, id, .. } = question.asker {
                link.refuse(&id, ErrorCode::Internal, "the client has gone");
            }
        }
    }
}

impl Gateway {
    /// A backend's question.
    pub(super) fn asked(&self, from: &Arc<Instance>, link: &Arc<Link>, message: &Message) {
        let id = message.id().unwrap_or("null");
        let method = message.method();
        if link.era() == Era::Modern {
            let text = "servers of this revision ask nothing; they answer `input_required`";
            link.refuse(id, ErrorCode::MethodNotFound, text);
            return;
        }
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
        let params = message.params::<Value>().unwrap_or_default();
        if let Err(missing) = able(&session, &method, &params) {
            let why = format!("the client cannot be asked: it does not declare {missing}");
            link.refuse(id, ErrorCode::MethodNotFound, &why);
            // Of several requests it cannot be known which one it was about.
            if link.is_alone(session.serial()) {
                session.questions.state().lacking = Some(missing);
            }
            return;
        }
        if let Some(id) = params["elicitationId"].as_str() {
            session.questions.note_elicitation(id);
        }
        let modern = session.era() == Era::Modern;
        let until = Instant::now() + from.server().timeouts.max_call;
        let asker = Asker::Backend {
            link: Arc::clone(link),
            id: id.to_owned(),
            token: message.progress_token().map(str::to_owned),
            input: modern.then(|| {
                let params = era::modern_question(message.raw_params().unwrap_or("{}"));
                format!("{{\"method\":{},\"params\":{params}}}", json!(method))
            }),
        };
        let Some(number) = session.questions.open(asker, until) else {
            let text = format!("{OPEN} questions to this client are open");
            link.refuse(id, ErrorCode::Internal, &text);
            return;
        };
        link.asks(session.serial());
        if modern {
            session.questions.waiting.notify_one();
            return self.watch_questions();
        }
        let number_text = number.to_string();
        let question = message.edit().id(number_text.clone()).progress_token(number_text).finish();
        match link.newest_of(session.serial()) {
            Some(stream) if stream.notify(question.clone()).is_ok() => {}
            // A client of HTTP may open its stream for such questions a little later.
            _ => session.tell(question),
        }
        self.watch_questions();
    }

    /// A request of the modern era is answered, and questions that came meanwhile were about
    /// another one of the same client.
    pub(super) fn rehome_questions(&self, session: &Session) {
        if session.era() == Era::Legacy {
            return;
        }
        for (number, link) in session.questions.askers() {
            let other = link.only_session().and_then(|serial| self.session(serial));
            let same = |it: &Arc<Session>| {
                it.serial() != session.serial() && it.client_number() == session.client_number()
            };
            if let Some(other) = other.filter(same)
                && let Some(question) = session.questions.hand_over(number)
            {
                other.questions.take_over(question);
                link.asks(other.serial());
            }
        }
    }

    /// Whether a client of the modern era thinks about a question of this child, over whichever of
    /// its requests it came.
    pub(super) fn is_thinking(&self, client: u64, link: &Arc<Link>) -> bool {
        let sessions: Vec<Arc<Session>> = self.sessions().values().cloned().collect();
        let mut own = sessions.iter().filter(|session| session.client_number() == client);
        own.any(|session| session.questions.any_for(link))
    }

    /// No question waits for ever. One task looks after all of them, while there are any.
    pub(super) fn watch_questions(&self) {
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
                gateway.parking.sweep(now);
                let quiet = || {
                    let none = |session: &Arc<Session>| session.questions.none();
                    gateway.sessions().values().all(none) && gateway.parking.is_empty()
                };
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
        if let Scope::Session(id) = &from.key().scope
            && !id.starts_with(STATELESS)
        {
            // It has one client, whose newest request this is most likely about.
            let newest = link.newest_session().and_then(|serial| self.session(serial));
            return newest.or_else(|| self.conversation(id)).ok_or_else(gone);
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
                if session.era() == Era::Modern {
                    continue;
                }
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
pub(super) fn own_roots(instance: &Instance) -> Option<Value> {
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

/// Whether the client said that it can answer such a question. If not: what it would have to
/// declare.
pub(super) fn able(session: &Session, method: &str, params: &Value) -> Result<(), Value> {
    let client = session.client().unwrap_or_default();
    let (can, capability) = match method {
        method::SAMPLING => (client.has("sampling"), json!({"sampling": {}})),
        method::ROOTS_LIST => (client.has("roots"), json!({"roots": {}})),
        method::ELICITATION => {
            let mode = params["mode"].as_str().unwrap_or("form");
            (client.elicits(mode), json!({"elicitation": {mode: {}}}))
        }
        _ => (session.era() == Era::Legacy, json!({})),
    };
    if can { Ok(()) } else { Err(capability) }
}
