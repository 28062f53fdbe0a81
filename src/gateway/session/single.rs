//! Sessions of the modern era: each serves one request, and ends with it.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;

use super::{Session, State, Who};
use crate::{
    backend::Holder,
    gateway::{
        Gateway, Hello,
        era::{self, Filter, Said},
        error::Failure,
        opening::Client,
    },
    protocol::{Era, Message, stream},
};

/// How the name of a session begins that is all of a principal's over stateless HTTP.
pub(in crate::gateway) const STATELESS: &str = "stateless ";

/// The client's end of a request that has no connection of its own. Who drops it wants no answer
/// any more.
pub struct Leave(Arc<Session>);

impl Leave {
    pub(in crate::gateway) fn new(session: Arc<Session>) -> Self {
        Leave(session)
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Session {
    /// For one request of the modern era that came without a connection of its own. What is kept
    /// for a session alone is kept for its principal.
    pub(in crate::gateway) fn single(
        gateway: Arc<Gateway>,
        serial: u64,
        hello: Hello,
        said: Said,
        message: &Message,
    ) -> Arc<Self> {
        let user = Arc::clone(hello.principal.key());
        let session = [STATELESS, &user].concat().into();
        // All of a principal's requests count as one client's: which of its programs a backend
        // asks makes no difference to what it may know.
        let client = hello.principal.number() | 1 << 63;
        let holder = Arc::new(Holder { user, session, folder: hello.cwd });
        let who = Who {
            id: format!("{serial:08x}"),
            principal: hello.principal,
            layer: hello.layer,
            holder,
            client,
            hung_up: gateway.ending.clone(),
            ended: gateway.ending.clone(),
        };
        Session::of_request(gateway, serial, who, said, message)
    }

    /// For one request of the modern era of this session's client.
    fn child(&self, serial: u64, said: Said, message: &Message) -> Arc<Self> {
        let who = Who {
            id: self.id.clone(),
            principal: self.principal(),
            layer: self.layer.clone(),
            holder: Arc::clone(&self.holder),
            client: self.client,
            hung_up: self.hung_up.clone(),
            ended: self.ended.clone(),
        };
        Session::of_request(Arc::clone(&self.gateway), serial, who, said, message)
    }

    fn of_request(
        gateway: Arc<Gateway>,
        serial: u64,
        who: Who,
        said: Said,
        message: &Message,
    ) -> Arc<Self> {
        let state = State::said(said, message);
        Arc::new(Session::blank(gateway, serial, Era::Modern, who, state))
    }

    /// The session that serves this request: itself, or one for the request alone.
    pub(super) fn serving(self: &Arc<Self>, message: &Message) -> Result<Arc<Self>, Failure> {
        if !era::is_modern(message) {
            return Ok(Arc::clone(self));
        }
        let said = Said::read(message)?;
        let serial = self.gateway.next_session();
        let child = self.child(serial, said, message);
        self.gateway.enter(&child).map_err(|error| Failure::TooMany(error.to_string()))?;
        Ok(child)
    }

    /// Sessions with the same number are one client's.
    pub(in crate::gateway) fn client_number(&self) -> u64 {
        self.client
    }

    /// Sessions with the same number are one principal's, in the same role.
    pub(in crate::gateway) fn owner_number(&self) -> u64 {
        self.principal().number()
    }

    /// Whether its one request listens to the task of this number.
    pub(in crate::gateway) fn hears_task(&self, number: u64) -> bool {
        self.state().listens.as_ref().is_some_and(|(filter, _)| filter.hears_task(number))
    }

    /// The session goes on after its request: a call of it waits for the client.
    pub(in crate::gateway) fn park(&self) {
        self.parked.store(true, Ordering::Relaxed);
    }

    /// A session of one request ends with it, unless it is parked.
    pub(in crate::gateway) fn leave(&self) {
        if self.era == Era::Modern && !self.parked.load(Ordering::Relaxed) {
            self.close();
        }
    }

    pub(in crate::gateway) fn set_fields(&self, fields: Vec<(String, String)>) {
        self.state().fields = Some(fields);
    }

    pub(in crate::gateway) fn take_fields(&self) -> Option<Vec<(String, String)>> {
        self.state().fields.take()
    }

    /// What changes is told to this session's one request from now on.
    pub(in crate::gateway) fn listens(&self, filter: Filter, reply: stream::Sender) {
        self.state().listens = Some((filter, reply));
    }

    /// Takes over what a later request of the same client says of it.
    pub(in crate::gateway) fn adopt(&self, later: &Session) {
        let (client, level) = (later.client(), later.level());
        let mut state = self.state();
        state.client = client;
        state.level = level;
    }
}

impl State {
    fn said(said: Said, message: &Message) -> Self {
        let client = Some(Arc::new(Client::of(message.client_capabilities().unwrap_or("{}"))));
        State { client, level: said.level, ..State::default() }
    }

    /// Hands on what the one request listens to; nothing else waits for later.
    pub(super) fn hear(&self, bytes: Bytes) {
        if let Some((filter, reply)) = &self.listens
            && let Some(bytes) = filter.marked(bytes)
        {
            let _ = reply.notify(bytes);
        }
    }
}
