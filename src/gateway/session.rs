//! One client's conversation: who it is, what it asked for, what is in flight.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    Gateway, Hello, Layer, View, audit,
    catalog::Kind,
    error::Failure,
    opening::{Client, Level},
    questions::Questions,
    router::{self, Answer, Request},
};
use crate::{
    backend::{Holder, Lease},
    config::Share,
    policy::Principal,
    protocol::{
        ErrorCode, Kind as MessageKind, Message, Version, error_response, method, result_response,
        stream,
    },
};

/// Requests of one session at a time, and the bytes of their messages.
const IN_FLIGHT: usize = 256;
const IN_FLIGHT_BYTES: usize = 128 << 20;
/// Unsolicited messages that wait for a stream to be attached.
const BACKLOG: usize = 64;

/// One request being served. Spawned by the front that received it.
pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

pub struct Session {
    gateway: Arc<Gateway>,
    serial: u64,
    id: String,
    principal: Arc<Principal>,
    layer: Layer,
    holder: Holder,
    pub(super) questions: Questions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    client: Option<Arc<Client>>,
    version: Option<Version>,
    level: Option<Level>,
    general: Option<stream::Sender>,
    backlog: VecDeque<Bytes>,
    in_flight: HashMap<String, Flight>,
    bytes: usize,
    flights: u64,
    subscriptions: HashMap<(Arc<str>, String), Lease>,
    used: HashSet<Arc<str>>,
    /// What the session was shown last, by list.
    shown: Vec<(Kind, u64)>,
    /// An `initialize` is being answered, or has been.
    opening: bool,
    view: Option<(u64, Arc<View>)>,
    closed: bool,
}

struct Flight {
    /// Tells it from an earlier request of the same id that is still being taken down.
    number: u64,
    stop: oneshot::Sender<Stop>,
    bytes: usize,
}

/// Why a request in flight is not waited for any longer.
pub(super) enum Stop {
    /// The client's own words; it wants no answer.
    Cancelled(Box<Message>),
    /// The gateway ends; the client is told.
    Draining,
}

impl Session {
    pub(super) fn new(gateway: Arc<Gateway>, serial: u64, hello: Hello) -> Arc<Self> {
        let id = random_id();
        let holder = Holder { user: hello.principal.key(), session: id.clone(), folder: hello.cwd };
        Arc::new(Session {
            gateway,
            serial,
            id,
            principal: hello.principal,
            layer: hello.layer,
            holder,
            questions: Questions::default(),
            state: Mutex::default(),
        })
    }

    /// 128 random bits as hex.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The protocol version agreed on, after `initialize`.
    pub fn version(&self) -> Option<Version> {
        self.state().version
    }

    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// True while a request is in flight.
    pub fn busy(&self) -> bool {
        !self.state().in_flight.is_empty()
    }

    pub(super) fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    pub(super) fn layer(&self) -> &Layer {
        &self.layer
    }

    pub(super) fn holder(&self) -> &Holder {
        &self.holder
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one message. A request's work is returned, to be spawned; everything that belongs
    /// to it goes to `reply`, its response last, exactly once. A request that the client cancels
    /// gets none. Everything else is dealt with at once.
    pub fn receive(self: &Arc<Self>, message: Message, reply: stream::Sender) -> Option<Work> {
        match message.kind() {
            MessageKind::Response => {
                self.questions.answered(&message);
                None
            }
            MessageKind::Notification => {
                self.notified(message);
                None
            }
            MessageKind::Request => {
                let id = message.id()?.to_owned();
                match self.begin(&id, message.bytes().len()) {
                    Ok((number, stop)) => {
                        let session = Arc::clone(self);
                        let in_flight = InFlight { session, id, number, reply, answered: false };
                        Some(Box::pin(in_flight.serve(message, stop)))
                    }
                    Err(failure) => {
                        let _ = reply.send(last(failure.response(Some(&id))));
                        None
                    }
                }
            }
        }
    }

    fn begin(&self, id: &str, bytes: usize) -> Result<(u64, oneshot::Receiver<Stop>), Failure> {
        let mut state = self.state();
        if state.closed || self.gateway.draining() {
            return Err(Failure::ShuttingDown);
        }
        if state.in_flight.contains_key(id) {
            return Err(Failure::DuplicateId(id.to_owned()));
        }
        if state.in_flight.len() >= IN_FLIGHT {
            return Err(Failure::TooMany(format!(
                "{IN_FLIGHT} requests of this session are in flight"
            )));
        }
        if state.bytes + bytes > IN_FLIGHT_BYTES && !state.in_flight.is_empty() {
            let text = format!("requests of {} MiB are in flight", state.bytes >> 20);
            return Err(Failure::TooMany(text));
        }
        let (stop, stopped) = oneshot::channel();
        state.bytes += bytes;
        state.flights += 1;
        let number = state.flights;
        state.in_flight.insert(id.to_owned(), Flight { number, stop, bytes });
        Ok((number, stopped))
    }

    fn notified(self: &Arc<Self>, message: Message) {
        match message.method().as_ref() {
            method::CANCELLED => {
                let flight = message.request_id().and_then(|id| self.state().in_flight.remove(id));
                if let Some(flight) = flight {
                    self.state().bytes -= flight.bytes;
                    let _ = flight.stop.send(Stop::Cancelled(Box::new(message)));
                }
            }
            method::INITIALIZED => {}
            method::PROGRESS => self.questions.progressed(&message),
            _ => self.pass_on(&message),
        }
    }

    /// A notification for the backends: to those that this session alone, or its project, uses.
    fn pass_on(&self, message: &Message) {
        let used: Vec<Arc<str>> = self.state().used.iter().cloned().collect();
        for name in used {
            let Some(server) = self.gateway.server(&name) else { continue };
            let own = server.share == Share::Session;
            let alone =
                matches!(self.layer, Layer::Server(_)) && message.method() != method::ROOTS_CHANGED;
            if !own && !alone {
                continue;
            }
            let instance = self.gateway.supervisor.running(&name, &self.holder);
            if let Some(link) = instance.and_then(|instance| instance.link()) {
                let _ = link.notify(message);
            }
        }
    }

    /// Where unsolicited messages go from now on; those that waited go first.
    pub fn attach(&self, general: stream::Sender) {
        let mut state = self.state();
        let waiting: Vec<Bytes> = state.backlog.drain(..).collect();
        for bytes in waiting {
            let _ = general.notify(bytes);
        }
        state.general = Some(general);
    }

    /// Whether the connection for unsolicited messages has much to send already.
    pub(super) fn is_crowded(&self) -> bool {
        self.state().general.as_ref().is_some_and(stream::Sender::is_crowded)
    }

    /// Sends a message that belongs to no request in flight.
    pub(super) fn tell(&self, bytes: Bytes) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        if let Some(general) = &state.general {
            if general.notify(bytes.clone()).is_ok() {
                return;
            }
            state.general = None;
        }
        if state.backlog.len() == BACKLOG {
            state.backlog.pop_front();
        }
        state.backlog.push_back(bytes);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Ends the session: what is in flight is cancelled, what was started for it alone stops.
    pub fn close(&self) {
        let (flights, subscriptions) = {
            let mut state = self.state();
            if std::mem::replace(&mut state.closed, true) {
                return;
            }
            state.general = None;
            state.backlog.clear();
            state.view = None;
            (std::mem::take(&mut state.in_flight), std::mem::take(&mut state.subscriptions))
        };
        drop(flights);
        let lost: Vec<(Arc<str>, String)> = subscriptions.keys().cloned().collect();
        self.gateway.unsubscribe_lost(self, &lost);
        drop(subscriptions);
        self.questions.close();
        self.gateway.tasks.forget_session(self.serial);
        self.gateway.sessions().remove(&self.serial);
        self.gateway.catalog.forget_session(&self.id);
        self.gateway.supervisor.end_session(&self.id);
    }

    /// Every request in flight is answered with an error now.
    pub(super) fn drain(&self) {
        let flights: Vec<Flight> =
            self.state().in_flight.drain().map(|(_, flight)| flight).collect();
        for flight in flights {
            let _ = flight.stop.send(Stop::Draining);
        }
    }

    /// True for the first `initialize`.
    pub(super) fn begin_opening(&self) -> bool {
        !std::mem::replace(&mut self.state().opening, true)
    }

    pub(super) fn end_opening(&self) {
        self.state().opening = false;
    }

    // What the client told of itself, and what it was told.

    pub(super) fn opened(&self, client: Client, version: Version) {
        let mut state = self.state();
        state.client = Some(Arc::new(client));
        state.version = Some(version);
    }

    pub(super) fn client(&self) -> Option<Arc<Client>> {
        self.state().client.clone()
    }

    pub(super) fn set_client(&self, client: Client) {
        self.state().client = Some(Arc::new(client));
    }

    pub(super) fn level(&self) -> Option<Level> {
        self.state().level
    }

    pub(super) fn set_level(&self, level: Level) {
        self.state().level = Some(level);
    }

    pub(super) fn uses(&self, server: &Arc<str>) {
        let mut state = self.state();
        if !state.used.contains(server) {
            state.used.insert(Arc::clone(server));
        }
    }

    pub(super) fn has_used(&self, server: &str) -> bool {
        self.state().used.contains(server)
    }

    pub(super) fn used(&self) -> Vec<Arc<str>> {
        self.state().used.iter().cloned().collect()
    }

    pub(super) fn subscribe(&self, server: Arc<str>, uri: String, lease: Lease) {
        self.state().subscriptions.insert((server, uri), lease);
    }

    pub(super) fn unsubscribe(&self, server: &Arc<str>, uri: &str) -> Option<Lease> {
        self.state().subscriptions.remove(&(Arc::clone(server), uri.to_owned()))
    }

    pub(super) fn subscribed(&self, server: &Arc<str>, uri: &str) -> bool {
        self.state().subscriptions.contains_key(&(Arc::clone(server), uri.to_owned()))
    }

    /// A subscription to something that this URI is a part of.
    pub(super) fn subscribed_above(&self, server: &Arc<str>, uri: &str) -> bool {
        self.state().subscriptions.keys().any(|(name, above)| {
            let rest = uri.strip_prefix(above.as_str());
            name == server && rest.is_some_and(|rest| above.ends_with('/') || rest.starts_with('/'))
        })
    }

    /// Drops the subscriptions at an instance that has ended; a lease on it means nothing now.
    pub(super) fn subscriptions_lost(&self, server: &Arc<str>) {
        let lost: Vec<Lease> = {
            let mut state = self.state();
            let keys: Vec<_> =
                state.subscriptions.keys().filter(|(name, _)| name == server).cloned().collect();
            keys.iter().filter_map(|key| state.subscriptions.remove(key)).collect()
        };
        drop(lost);
    }

    /// Notes what a list looked like when it was sent.
    pub(super) fn note_shown(&self, kind: Kind, mark: u64) {
        let mut state = self.state();
        state.shown.retain(|(known, _)| *known != kind);
        state.shown.push((kind, mark));
    }

    /// True if this list was sent and looks different now; notes the new look.
    pub(super) fn looks_new(&self, kind: Kind, mark: u64) -> bool {
        let mut state = self.state();
        match state.shown.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, shown)) => std::mem::replace(shown, mark) != mark,
            None => false,
        }
    }

    /// What the session sees, kept until the catalog changes.
    pub(super) fn view(&self) -> Arc<View> {
        let generation = self.gateway.catalog.generation();
        if let Some((known, view)) = &self.state().view
            && *known == generation
        {
            return Arc::clone(view);
        }
        let (generation, view) = self.gateway.view(self);
        self.state().view = Some((generation, Arc::clone(&view)));
        view
    }

    /// Sessions with the same key see the same.
    pub(super) fn view_key(&self) -> String {
        let own = match &self.layer {
            Layer::Aggregate => self.gateway.servers().any(|server| server.share == Share::Session),
            Layer::Server(name) => {
                self.gateway.server(name).is_some_and(|server| server.share == Share::Session)
            }
        };
        format!(
            "{}\0{}\0{:?}\0{:?}\0{}",
            self.principal.key(),
            self.principal.role(),
            self.layer,
            self.holder.folder,
            if own { self.id.as_str() } else { "" },
        )
    }
}

/// One request on the session's books, until it is dropped.
struct InFlight {
    session: Arc<Session>,
    id: String,
    number: u64,
    reply: stream::Sender,
    /// Or wants no answer any more.
    answered: bool,
}

impl InFlight {
    async fn serve(mut self, message: Message, stop: oneshot::Receiver<Stop>) {
        let request = Request::new(&self.session, &message, &self.reply);
        let stopped = {
            let answer = router::dispatch(&request);
            tokio::pin!(answer);
            tokio::select! {
                biased;
                stopped = stop => match stopped {
                    Ok(Stop::Cancelled(words)) => { request.cancel(*words); None }
                    Ok(Stop::Draining) => Some(Err(Failure::ShuttingDown)),
                    // The session is closed; nobody listens.
                    Err(_) => None,
                },
                answer = &mut answer => Some(answer),
            }
            // `answer` is dropped here: what it had asked of a backend is cancelled there.
        };
        let response = match stopped {
            None | Some(Ok(Answer::Sent)) => {
                self.answered = true;
                return;
            }
            Some(Ok(Answer::Message(bytes))) => bytes,
            Some(Ok(Answer::Result(result))) => result_response(&self.id, &result),
            Some(Err(failure)) => {
                audit::refused(&request, &failure);
                failure.response(Some(&self.id))
            }
        };
        self.answered = true;
        let _ = self.reply.send(last(response));
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // Only a bug of ours, or the end of the process, comes here without an answer.
        if !self.answered {
            let text = "the gateway failed in this request; its log says more";
            let bytes = error_response(Some(&self.id), ErrorCode::Internal, text);
            let _ = self.reply.send(last(bytes));
        }
        let mut state = self.session.state();
        let same = state.in_flight.get(&self.id).is_some_and(|flight| flight.number == self.number);
        if same && let Some(flight) = state.in_flight.remove(&self.id) {
            state.bytes -= flight.bytes;
        }
    }
}

fn last(bytes: Bytes) -> stream::Outgoing {
    stream::Outgoing { bytes, last: true }
}

fn random_id() -> String {
    let mut bytes = [0u8; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // Ids must not be guessed; without randomness there is no safe way on.
        tracing::error!("the kernel gives no random bytes");
        std::process::abort();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
