//! Which part of the room answers a request.

use std::{
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::Value;

use super::{
    Layer, Session, builtin, call, catalog::Kind, era, error::Failure, lists, notices, opening,
    subscribe, tasks,
};
use crate::{
    policy::{Permit, Target},
    protocol::{
        Era, Message, method,
        stream::{self, Outgoing},
    },
};

/// How often a caller who waits for a backend to start hears of it.
const STARTING: Duration = Duration::from_secs(1);

/// What a client says when it takes a request back.
#[derive(Clone, Default)]
pub(super) struct Words(Arc<Mutex<Option<Message>>>);

impl Words {
    pub(super) fn take(&self) -> Option<Message> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// One request with everything that serving it needs.
pub(super) struct Request<'a> {
    pub session: &'a Arc<Session>,
    pub message: &'a Message,
    pub reply: &'a stream::Sender,
    words: Words,
    audited: AtomicBool,
    /// Signs of life given.
    signs: AtomicU32,
}

impl<'a> Request<'a> {
    pub(super) fn new(
        session: &'a Arc<Session>,
        message: &'a Message,
        reply: &'a stream::Sender,
    ) -> Self {
        Request {
            session,
            message,
            reply,
            words: Words::default(),
            audited: AtomicBool::new(false),
            signs: AtomicU32::new(0),
        }
    }

    pub(super) fn id(&self) -> &str {
        self.message.id().unwrap_or("null")
    }

    /// The client's words when it cancels, for the backend.
    pub(super) fn cancel(&self, words: Message) {
        *self.words.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(words);
    }

    /// It has a line in the audit log.
    pub(super) fn audited(&self) {
        self.audited.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_audited(&self) -> bool {
        self.audited.load(Ordering::Relaxed)
    }

    pub(super) fn words(&self) -> &Words {
        &self.words
    }

    /// `params` as JSON text on one line.
    pub(super) fn raw_params(&self) -> Option<String> {
        Some(self.message.raw_params()?.replace(['\n', '\r'], " "))
    }

    /// A string member of `params`.
    pub(super) fn param(&self, key: &str) -> Option<String> {
        let params = self.raw_params()?;
        crate::protocol::string_member(&params, key).map(std::borrow::Cow::into_owned)
    }

    /// Waits for what has to start first; a caller with a progress token hears each second of it.
    pub(super) async fn while_starting<T>(
        &self,
        what: impl fmt::Display,
        work: impl Future<Output = T>,
    ) -> T {
        // Beside the call, whose own memory it would make too large to come from a free list.
        let mut work = Box::pin(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = tokio::time::sleep(STARTING), if self.message.progress_token().is_some() => {
                    let _ = self.reply.send(Outgoing::spare(self.sign_of_life(&what).into()));
                }
            }
        }
    }

    /// Tiny steps, so that the backend's own progress, which must grow, comes after them.
    fn sign_of_life(&self, what: &impl fmt::Display) -> String {
        let seconds = self.signs.fetch_add(1, Ordering::Relaxed) + 1;
        let token = self.message.progress_token().unwrap_or("null");
        let supervisor = &self.session.gateway().supervisor;
        let what = what.to_string();
        let fetched = what.split('"').nth(1).and_then(|server| supervisor.fetching(server));
        let first = fetched.map(|package| format!(": fetching {package}")).unwrap_or_default();
        let text = Value::from(format!("starting {what}{first} ({seconds} s)"));
        let step = f64::from(seconds) / 1e6;
        format!(
            r#"{{"jsonrpc":"2.0","method":"{}","params":{{"progressToken":{token},"progress":{step},"message":{text}}}}}"#,
            method::PROGRESS
        )
    }

    pub(super) fn unknown_method(&self) -> Failure {
        Failure::UnknownMethod(self.message.method().into_owned())
    }
}

/// A backend in what a client reads.
pub(super) struct Backend<'a>(pub &'a str);

impl fmt::Display for Backend<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "backend \"{}\"", self.0)
    }
}

/// What became of a request.
pub(super) enum Answer {
    /// The response has gone to `reply` already.
    Sent,
    /// A whole response under the client's id.
    Message(Outgoing),
    /// A result as JSON text.
    Result(String),
}

/// Who answers it. What is no call is boxed: a future has room for the largest of its branches, and
/// that of a call is to be small.
pub(super) async fn dispatch(request: &Request<'_>) -> Result<Answer, Failure> {
    let name = request.message.method();
    let legacy = request.session.era() == Era::Legacy;
    match name.as_ref() {
        method::PING if legacy => Ok(Answer::Result("{}".into())),
        method::INITIALIZE if legacy => Box::pin(opening::initialize(request)).await,
        _ if legacy && request.session.version().is_none() => Err(Failure::NotInitialized),
        method::TOOLS_CALL => call::tool(request).await,
        _ if legacy => Box::pin(self::legacy(request, &name)).await,
        _ => Box::pin(modern(request, &name)).await,
    }
}

/// 2024-11-05 to 2025-11-25.
async fn legacy(request: &Request<'_>, name: &str) -> Result<Answer, Failure> {
    match name {
        method::RESOURCES_SUBSCRIBE => subscribe::subscribe(request).await,
        method::RESOURCES_UNSUBSCRIBE => subscribe::unsubscribe(request).await,
        method::SET_LEVEL => notices::set_level(request).await,
        method::TASKS_GET | method::TASKS_RESULT | method::TASKS_CANCEL => {
            tasks::one(request).await
        }
        method::TASKS_LIST => tasks::list(request).await,
        _ => common(request, name).await,
    }
}

/// 2026-07-28. What it has removed is unknown, whatever a backend might say to it.
async fn modern(request: &Request<'_>, name: &str) -> Result<Answer, Failure> {
    match name {
        method::DISCOVER => era::discover(request).await,
        method::LISTEN => era::listen(request).await,
        method::TASKS_GET | method::TASKS_UPDATE | method::TASKS_CANCEL => {
            tasks::one(request).await
        }
        method::INITIALIZE
        | method::PING
        | method::SET_LEVEL
        | method::RESOURCES_SUBSCRIBE
        | method::RESOURCES_UNSUBSCRIBE
        | method::TASKS_RESULT
        | method::TASKS_LIST => Err(request.unknown_method()),
        _ => common(request, name).await,
    }
}

/// What both eras have, beside calls of tools.
async fn common(request: &Request<'_>, name: &str) -> Result<Answer, Failure> {
    match name {
        method::PROMPTS_GET => call::prompt(request).await,
        method::RESOURCES_READ => call::resource(request).await,
        method::COMPLETE => call::completion(request).await,
        method::TOOLS_LIST => lists::list(request, Kind::Tools).await,
        method::PROMPTS_LIST => lists::list(request, Kind::Prompts).await,
        method::RESOURCES_LIST => lists::list(request, Kind::Resources).await,
        method::TEMPLATES_LIST => lists::list(request, Kind::Templates).await,
        _ => call::unknown(request).await,
    }
}

/// The one backend that an unnamed thing can only be meant for: the session's own, or the only
/// one there is.
pub(super) fn only_backend(request: &Request<'_>) -> Option<Permit> {
    let gateway = request.session.gateway();
    let server = match request.session.layer() {
        Layer::Server(name) => gateway.server(name)?,
        Layer::Aggregate => {
            let servers = gateway.servers();
            match &*servers {
                [only] => Arc::clone(only),
                _ => return None,
            }
        }
    };
    gateway
        .now()
        .policy
        .authorize(&request.session.principal(), Target::Server { server: &server.name })
}

pub(super) use builtin::{connect, status};
