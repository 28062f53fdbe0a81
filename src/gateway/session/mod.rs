//! One client's conversation: who it is, what it asked for, what is in flight.

mod shown;
mod single;

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, atomic::AtomicBool},
};

use bytes::Bytes;
use foldhash::{HashMap, HashSet};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{
    Gateway, Hello, Layer, View,
    backlog::Backlog,
    catalog::Kind,
    era::Filter,
    error::Failure,
    flight::{InFlight, Stop},
    opening::{Client, Level},
    questions::Questions,
    subscriptions::Subscriptions,
};
use crate::{
    backend::{Holder, Instance, Speak},
    config::Share,
    policy::Principal,
    protocol::{Era, Kind as MessageKind, Message, Version, method, stream},
};

/// Requests of one session at a time, and the bytes of their messages.
const IN_FLIGHT: usize = 256;
const IN_FLIGHT_BYTES: usize = 128 << 20;

pub use single::Leave;
pub(super) use single::STATELESS;

/// One request being served. Spawned by the front that received it.
pub type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

pub struct Session {
    gateway: Arc<Gateway>,
    serial: u64,
    id: String,
    principal: RwLock<Arc<Principal>>,
    layer: Layer,
    holder: Arc<Holder>,
    /// Modern: it serves one request, and ends with it.
    era: Era,
    /// What the sessions of one connection have in common: the connection's serial number.
    client: u64,
    pub(super) questions: Questions,
    pub(super) subscriptions: Subscriptions,
    /// On a server's own endpoint, the era that its instance has to speak.
    speak: OnceLock<Speak>,
    /// The request was answered with questions, and its call waits.
    parked: AtomicBool,
    /// The connection, or the gateway where there is none: has nothing more to say; has ended.
    pub(super) hung_up: CancellationToken,
    ended: CancellationToken,
    state: Mutex<State>,
}

/// What the sessions of one client have in common.
struct Who {
    id: String,
    principal: Arc<Principal>,
    layer: Layer,
    holder: Arc<Holder>,
    client: u64,
    hung_up: CancellationToken,
    ended: CancellationToken,
}

#[derive(Default)]
struct State {
    client: Option<Arc<Client>>,
    version: Option<Version>,
    level: Option<Level>,
    general: Option<stream::Sender>,
    backlog: Backlog,
    in_flight: HashMap<String, Flight>,
    bytes: usize,
    flights: u64,
    used: HashSet<Arc<str>>,
    /// What the session was shown last, by list.
    shown: Vec<(Kind, u64)>,
    /// An `initialize` is being answered, or has been.
    opening: bool,
    view: Option<(u64, Arc<View>)>,
    /// The header fields that repeat arguments of this session's one request; `None` where its
    /// transport has none.
    fields: Option<Vec<(String, String)>>,
    /// What it listens to.
    listens: Option<(Filter, stream::Sender)>,
    closed: bool,
}

struct Flight {
    /// Tells it from an earlier request of the same id that is still being taken down.
    number: u64,
    stop: oneshot::Sender<Stop>,
    bytes: usize,
}

impl Session {
    pub(super) fn new(gateway: Arc<Gateway>, serial: u64, hello: Hello) -> Arc<Self> {
        let id = random_id();
        let user = Arc::clone(hello.principal.key());
        let holder = Holder { user, session: id.as_str().into(), folder: hello.cwd };
        let who = Who {
            id,
            principal: hello.principal,
            layer: hello.layer,
            holder: Arc::new(holder),
            client: serial,
            hung_up: CancellationToken::new(),
            ended: CancellationToken::new(),
        };
        Arc::new(Session::blank(gateway, serial, Era::Legacy, who, State::default()))
    }

    fn blank(gateway: Arc<Gateway>, serial: u64, era: Era, who: Who, state: State) -> Self {
        let Who { id, principal, layer, holder, client, hung_up, ended } = who;
        Session {
            gateway,
            serial,
            id,
            principal: RwLock::new(principal),
            layer,
            holder,
            era,
            client,
            questions: Questions::default(),
            subscriptions: Subscriptions::default(),
            speak: OnceLock::new(),
            parked: AtomicBool::new(false),
            hung_up,
            ended,
            state: Mutex::new(state),
        }
    }

    /// 128 random bits as hex; of a request that came alone, a number.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The protocol version agreed on, after `initialize`.
    pub fn version(&self) -> Option<Version> {
        self.state().version
    }

    /// Who it is, by the rules in force.
    pub fn principal(&self) -> Arc<Principal> {
        Arc::clone(&self.principal.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_principal(&self, principal: Principal) {
        let principal = Arc::new(principal);
        *self.principal.write().unwrap_or_else(PoisonError::into_inner) = principal;
    }

    /// True while a request is in flight.
    pub fn busy(&self) -> bool {
        !self.state().in_flight.is_empty()
    }

    /// True while a request is in flight, or something waits for the client to come for it.
    pub(super) fn is_wanted(&self) -> bool {
        let state = self.state();
        !state.in_flight.is_empty() || !state.backlog.is_empty()
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

    pub fn era(&self) -> Era {
        self.era
    }

    /// The era that this session wants its backend to speak.
    pub(super) fn speak(&self) -> Speak {
        self.speak.get().copied().unwrap_or(Speak::Best)
    }

    /// From now on with an instance of the older era: a wire to it needs no translation.
    pub(super) fn speak_legacy(&self) {
        let _ = self.speak.set(Speak::Legacy);
    }

    /// Whether this session's calls go to that instance.
    pub(super) fn shares(&self, instance: &Instance) -> bool {
        let key = instance.key();
        self.speak() == key.speak && self.holder.scope(instance.server().share) == key.scope
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
            MessageKind::Request => match self.serving(&message) {
                Ok(session) => self.take(session, message, &reply),
                Err(failure) => {
                    let response = failure.response(message.id(), Era::Modern);
                    let _ = reply.send(stream::Outgoing::answer(response, true));
                    None
                }
            },
        }
    }

    /// Enters a request into the books; `session` serves it.
    pub(super) fn take(
        self: &Arc<Self>,
        session: Arc<Session>,
        message: Message,
        reply: &stream::Sender,
    ) -> Option<Work> {
        let id = message.id()?.to_owned();
        match self.begin(&id, message.bytes().len()) {
            Ok((number, stop)) => {
                let books = Arc::clone(self);
                let flight = InFlight::new(books, session, id, number, reply.clone());
                Some(Box::pin(flight.serve(message, stop)))
            }
            Err(failure) => {
                let response = failure.response(Some(&id), session.era);
                let _ = reply.send(stream::Outgoing::answer(response, true));
                session.leave();
                None
            }
        }
    }

    /// A request has left the books, if it is still the one of this number.
    pub(super) fn landed(&self, id: &str, number: u64) {
        let mut state = self.state();
        if state.in_flight.get(id).is_some_and(|flight| flight.number == number)
            && let Some(flight) = state.in_flight.remove(id)
        {
            state.bytes -= flight.bytes;
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
                let Some(id) = message.request_id() else { return };
                let flight = self.state().in_flight.remove(id);
                if let Some(flight) = flight {
                    self.state().bytes -= flight.bytes;
                    let _ = flight.stop.send(Stop::Cancelled(Box::new(message)));
                } else {
                    self.gateway.parking.release(self.client, Some(id));
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
            let instance = self.gateway.supervisor.running(&name, &self.holder, self.speak());
            if let Some(link) = instance.and_then(|instance| instance.link()) {
                let _ = link.notify(message);
            }
        }
    }

    /// Where unsolicited messages go from now on; those that waited go first.
    pub fn attach(&self, general: stream::Sender) {
        let mut state = self.state();
        for bytes in std::mem::take(&mut state.backlog) {
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
        if self.era == Era::Modern {
            return state.hear(bytes);
        }
        if let Some(general) = &state.general {
            if general.notify(bytes.clone()).is_ok() {
                return;
            }
            state.general = None;
        }
        state.backlog.push(bytes);
    }

    /// The client has gone. A request of the modern era may end before.
    pub(super) fn is_over(&self) -> bool {
        match self.era {
            Era::Legacy => self.state().closed,
            Era::Modern => self.ended.is_cancelled(),
        }
    }

    /// The client has nothing more to say: what goes on until then ends.
    pub fn hang_up(&self) {
        self.hung_up.cancel();
    }

    /// Ends the session: what is in flight is cancelled, what was started for it alone stops.
    pub fn close(&self) {
        let flights = {
            let mut state = self.state();
            if std::mem::replace(&mut state.closed, true) {
                return;
            }
            state.general = None;
            state.listens = None;
            state.backlog = Backlog::default();
            state.view = None;
            std::mem::take(&mut state.in_flight)
        };
        drop(flights);
        let subscriptions = self.subscriptions.close();
        let lost: Vec<(Arc<str>, String)> = subscriptions.keys().cloned().collect();
        self.gateway.unsubscribe_lost(self, &lost);
        drop(subscriptions);
        self.gateway.rehome_questions(self);
        self.questions.close();
        self.gateway.sessions().remove(&self.serial);
        if self.era == Era::Legacy {
            // No serial number comes twice, so a task may well name one request's for longer: to
            // look through all of them after each request would cost more than it is worth.
            self.gateway.tasks.forget_session(self.serial);
            self.hung_up.cancel();
            self.ended.cancel();
            self.gateway.parking.release(self.client, None);
            self.gateway.catalog.forget_session(&self.id);
            self.gateway.supervisor.end_session(&self.id);
        }
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
}

pub(super) fn random_id() -> String {
    let mut bytes = [0u8; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // Ids must not be guessed; without randomness there is no safe way on.
        tracing::error!("the kernel gives no random bytes");
        std::process::abort();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
