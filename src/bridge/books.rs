//! What the bridge remembers of one conversation, so that a daemon may go and another come.
//!
//! Pure: lines in, verdicts out. It looks at ids and methods, never into what a tool is given or
//! gives. A request of the client is *held* until it was written, then *sent* until it is answered.
//! When a connection ends, what was sent is answered with an error, since nobody knows how far it
//! came; only what starts nothing (the handshake, a subscription) and what the daemon says that it
//! has not begun is sent again.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{DefaultHasher, Hasher},
};

use super::{
    envelope::{Envelope, Kind, error, with_id},
    json::{elements, member, plain},
};

/// The longest line, and all lines, of which copies are kept while they are in flight.
const COPY: usize = 64 << 10;
const COPIES: usize = 256 << 10;
/// What may wait for a connection; a single line is always let in.
const WAITING: usize = 256 << 10;
/// Subscriptions of one client, as the gateway has it.
const SUBSCRIPTIONS: usize = 1000;
/// Questions of the gateway that the client has not answered.
const QUESTIONS: usize = 1000;

const UNKNOWN: &str = "the gateway went away while this request ran; its outcome is unknown";

const INITIALIZE: &[u8] = b"initialize";
const DISCOVER: &[u8] = b"server/discover";
const LISTEN: &[u8] = b"subscriptions/listen";
const LEVEL: &[u8] = b"logging/setLevel";
const SUBSCRIBE: &[u8] = b"resources/subscribe";
const UNSUBSCRIBE: &[u8] = b"resources/unsubscribe";
/// Lists whose change is looked for after an absence, and what a `listen` calls it. Not those of
/// resources: to list these, backends have to be started.
const LISTS: [(&[u8], &str, &str); 2] = [
    (b"tools/list", "notifications/tools/list_changed", "toolsListChanged"),
    (b"prompts/list", "notifications/prompts/list_changed", "promptsListChanged"),
];

#[derive(Default)]
pub struct Books {
    /// The client's own lines, for those that have to hear them again.
    opening: Option<Vec<u8>>,
    opened: Option<Vec<u8>>,
    level: Option<Vec<u8>>,
    /// By their resource's URI.
    subscriptions: BTreeMap<Vec<u8>, Vec<u8>>,
    lists: [Option<List>; 2],
    flights: BTreeMap<Vec<u8>, Flight>,
    copied: usize,
    /// Ids of the gateway's questions.
    questions: Vec<Vec<u8>>,
    waiting: VecDeque<Vec<u8>>,
    waits: usize,
    /// Requests that are ours, by id.
    own: BTreeMap<Vec<u8>, Own>,
    counted: u64,
    closing: bool,
    heard: bool,
}

struct List {
    line: Vec<u8>,
    digest: u64,
}

enum Own {
    Opening,
    Unheeded,
    List(usize),
}

struct Flight {
    number: u64,
    what: What,
    state: State,
    /// Was heard of before, so its acknowledgement comes twice.
    again: bool,
    copy: Option<Vec<u8>>,
}

/// How far a request has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the hands of the one who writes.
    Writing,
    /// Waits for a connection.
    Held,
    Sent,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Opening,
    Listen,
    List(usize),
    /// Starts nothing, but is answered with an error like everything else.
    Discover,
    Other,
}

/// What becomes of a line of the client.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// It goes on, and these requests with it.
    Pass(Vec<Vec<u8>>),
    /// It answers a question of a connection that is gone.
    Late,
}

/// What becomes of a line of the gateway.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    Pass,
    Ours,
    /// The client gets these lines instead.
    Instead(Vec<Vec<u8>>),
    /// The daemon is idle and goes; what it has not answered it has not read.
    Idle,
    /// The daemon goes; no more requests here.
    Closing,
    /// There will be no session, and why.
    Refused(String),
}

impl Books {
    pub fn client_said(&mut self, line: &[u8]) -> Told {
        let batch = elements(line);
        let alone = batch.first().is_some_and(|first| first.len() + 1 >= line.trim_ascii().len());
        let mut requests = Vec::new();
        for element in batch {
            let envelope = Envelope::read(element);
            match (envelope.kind(), envelope.id) {
                (Kind::Request, Some(id)) => {
                    self.request(id, &envelope, alone.then_some(line));
                    requests.push(id.to_vec());
                }
                (Kind::Response, Some(id)) => {
                    let Some(at) = self.questions.iter().position(|open| open == id) else {
                        return Told::Late;
                    };
                    self.questions.swap_remove(at);
                }
                (Kind::Notification, _)
                    if envelope.method == Some(b"notifications/initialized") =>
                {
                    self.opened = Some(line.to_vec());
                }
                _ => {}
            }
        }
        Told::Pass(requests)
    }

    fn request(&mut self, id: &[u8], envelope: &Envelope<'_>, line: Option<&[u8]>) {
        let method = envelope.method.unwrap_or_default();
        let params = envelope.params.unwrap_or_default();
        let kept = line.filter(|line| line.len() <= COPY);
        let own = kept.map(<[u8]>::to_vec);
        let mut what = What::Other;
        match method {
            INITIALIZE => {
                what = What::Opening;
                self.opening = own;
            }
            DISCOVER => what = What::Discover,
            LISTEN => what = What::Listen,
            LEVEL => self.level = own,
            SUBSCRIBE => {
                if let (Some(uri), Some(line)) = (member(params, "uri"), own)
                    && self.subscriptions.len() < SUBSCRIPTIONS
                {
                    self.subscriptions.insert(uri.to_vec(), line);
                }
            }
            UNSUBSCRIBE => {
                if let Some(uri) = member(params, "uri") {
                    self.subscriptions.remove(uri);
                }
            }
            _ => {
                let list = LISTS.iter().position(|(list, ..)| *list == method);
                if let Some(at) = list.filter(|_| member(params, "cursor").is_none()) {
                    what = What::List(at);
                }
            }
        }
        let copy = kept.filter(|line| self.copied + line.len() <= COPIES).map(<[u8]>::to_vec);
        self.copied += copy.as_ref().map_or(0, Vec::len);
        self.counted += 1;
        let flight =
            Flight { number: self.counted, what, state: State::Writing, again: false, copy };
        if let Some(old) = self.flights.insert(id.to_vec(), flight) {
            self.copied -= old.copy.map_or(0, |copy| copy.len());
        }
    }

    /// These went out, all of them.
    pub fn sent(&mut self, requests: &[Vec<u8>]) {
        self.mark(requests, State::Sent);
    }

    fn mark(&mut self, requests: &[Vec<u8>], state: State) {
        for id in requests {
            if let Some(flight) = self.flights.get_mut(id) {
                flight.state = state;
            }
        }
    }

    pub fn gateway_said(&mut self, line: &[u8]) -> Heard {
        let first = !std::mem::replace(&mut self.heard, true);
        let batch = elements(line);
        if let [single] = batch[..] {
            let envelope = Envelope::read(single);
            match envelope.kind() {
                Kind::Response => return self.response(&envelope, first),
                Kind::Notification => return self.notification(&envelope),
                Kind::Request | Kind::Neither => {}
            }
        }
        for element in batch {
            let envelope = Envelope::read(element);
            match (envelope.kind(), envelope.id) {
                (Kind::Response, Some(id)) => drop(self.take(id)),
                (Kind::Request, Some(id)) if self.questions.len() < QUESTIONS => {
                    self.questions.push(id.to_vec());
                }
                _ => {}
            }
        }
        Heard::Pass
    }

    fn notification(&mut self, envelope: &Envelope<'_>) -> Heard {
        match envelope.method {
            Some(b"notifications/mcp-gateway/idle") => Heard::Idle,
            Some(b"notifications/mcp-gateway/closing") => {
                self.closing = true;
                Heard::Closing
            }
            Some(b"notifications/subscriptions/acknowledged") => {
                let meta = member(envelope.params.unwrap_or_default(), "_meta");
                let id =
                    meta.and_then(|meta| member(meta, "io.modelcontextprotocol/subscriptionId"));
                let flight = id.and_then(|id| self.flights.get_mut(id));
                let again = flight.is_some_and(|flight| std::mem::take(&mut flight.again));
                if again { Heard::Ours } else { Heard::Pass }
            }
            _ => Heard::Pass,
        }
    }

    fn response(&mut self, envelope: &Envelope<'_>, first: bool) -> Heard {
        let Some(id) = envelope.id.filter(|id| *id != b"null") else {
            let why = envelope.error.filter(|_| first).and_then(|error| member(error, "message"));
            return why.map_or(Heard::Pass, |why| Heard::Refused(plain(why)));
        };
        if let Some(own) = self.own.remove(id) {
            return self.answer_to_us(&own, envelope);
        }
        let data = envelope.error.and_then(|error| member(error, "data"));
        let refused = data.and_then(|data| member(data, "started")) == Some(b"false");
        let what = self.flights.get(id).map(|flight| flight.what);
        let ends = what == Some(What::Listen) && self.closing && envelope.error.is_none();
        if (refused || ends) && self.hold_again(id) {
            return Heard::Ours;
        }
        if let Some(flight) = self.take(id) {
            match flight.what {
                What::Opening if envelope.error.is_some() => self.opening = None,
                What::List(at) => {
                    let digest = envelope.result.map(digest);
                    self.lists[at] =
                        flight.copy.zip(digest).map(|(line, digest)| List { line, digest });
                }
                _ => {}
            }
        }
        Heard::Pass
    }

    fn answer_to_us(&mut self, own: &Own, envelope: &Envelope<'_>) -> Heard {
        match own {
            Own::Opening => match envelope.error.and_then(|error| member(error, "message")) {
                Some(why) => Heard::Refused(plain(why)),
                None => Heard::Ours,
            },
            Own::Unheeded => Heard::Ours,
            Own::List(at) => {
                let Some(digest) = envelope.result.map(digest) else { return Heard::Ours };
                match &mut self.lists[*at] {
                    Some(list) if list.digest != digest => {
                        list.digest = digest;
                        Heard::Instead(self.changed(*at))
                    }
                    _ => Heard::Ours,
                }
            }
        }
    }

    /// A list is not what the client knows: said in the way of its era.
    fn changed(&self, at: usize) -> Vec<Vec<u8>> {
        let (_, method, key) = LISTS[at];
        if self.opening.is_some() {
            return vec![format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{method}\"}}\n").into()];
        }
        let listening = self.flights.iter().filter(|(_, flight)| flight.wants(key));
        let said = listening.map(|(id, _)| {
            let id = String::from_utf8_lossy(id);
            format!(
                "{{\"jsonrpc\":\"2.0\",\"method\":\"{method}\",\"params\":{{\"_meta\":{{\
                 \"io.modelcontextprotocol/subscriptionId\":{id}}}}}}}\n"
            )
        });
        said.map(String::into_bytes).collect()
    }

    /// A request that has to be sent once more. False if there is no copy of it.
    fn hold_again(&mut self, id: &[u8]) -> bool {
        let Some(flight) = self.flights.get_mut(id) else { return false };
        let Some(copy) = &flight.copy else { return false };
        flight.state = State::Held;
        flight.again = flight.what == What::Listen;
        self.waits += copy.len();
        self.waiting.push_back(copy.clone());
        true
    }

    fn take(&mut self, id: &[u8]) -> Option<Flight> {
        let flight = self.flights.remove(id)?;
        self.copied -= flight.copy.as_ref().map_or(0, Vec::len);
        Some(flight)
    }

    /// The connection is gone. `unread`: what it has not answered it has not read. What the client
    /// is told.
    pub fn lost(&mut self, unread: bool) -> Vec<Vec<u8>> {
        self.own.clear();
        self.closing = false;
        self.heard = false;
        let sent = self.flights.iter().filter(|(_, flight)| flight.state == State::Sent);
        let mut sent: Vec<_> = sent.map(|(id, flight)| (flight.number, id.clone())).collect();
        sent.sort_unstable();
        // In their order, and ahead of what came after them.
        let later = std::mem::take(&mut self.waiting);
        let sent: Vec<_> = sent.into_iter().map(|(_, id)| id).collect();
        let mut said = self.cut_off(&sent, unread);
        self.waiting.extend(later);
        for id in self.questions.drain(..) {
            let id = String::from_utf8_lossy(&id);
            said.push(
                format!(
                    "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{{\
                     \"requestId\":{id},\"reason\":\"the gateway went away\"}}}}\n"
                )
                .into_bytes(),
            );
        }
        said
    }

    /// These were written to a connection that is gone.
    pub fn cut_off(&mut self, requests: &[Vec<u8>], unread: bool) -> Vec<Vec<u8>> {
        let mut said = Vec::new();
        for id in requests {
            let Some(what) = self.flights.get(id).map(|flight| flight.what) else { continue };
            let harmless = matches!(what, What::Opening | What::Listen | What::Discover);
            if !((unread || harmless) && self.hold_again(id)) {
                self.take(id);
                said.push(error(id, UNKNOWN));
            }
        }
        said
    }

    /// There will be no connection: everything that waits for one is answered.
    pub fn give_up(&mut self, why: &str) -> Vec<Vec<u8>> {
        self.waiting.clear();
        self.waits = 0;
        self.copied = 0;
        let flights = std::mem::take(&mut self.flights);
        flights.keys().map(|id| error(id, why)).collect()
    }

    /// Keeps a line for the next connection.
    pub fn hold(&mut self, line: &[u8], requests: &[Vec<u8>]) {
        self.mark(requests, State::Held);
        self.waits += line.len();
        self.waiting.push_back(line.to_vec());
    }

    pub fn has_room(&self) -> bool {
        self.waits < WAITING
    }

    /// Whether the client waits for a connection, or for what comes over it unasked.
    pub fn wants_connection(&self, after_idle: bool) -> bool {
        !self.waiting.is_empty() || (!after_idle && !self.subscriptions.is_empty())
    }

    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// What a new connection has to hear: the handshake again, then what waits. Answers to the
    /// former are ours.
    pub fn replay(&mut self) -> Vec<u8> {
        let mut said = Vec::new();
        let opening = self.flights.values().any(|flight| flight.what == What::Opening);
        if let Some(line) = self.opening.clone().filter(|_| !opening) {
            self.ask(&line, Own::Opening, &mut said);
            said.extend_from_slice(self.opened.as_deref().unwrap_or_default());
            for line in
                self.level.iter().chain(self.subscriptions.values()).cloned().collect::<Vec<_>>()
            {
                self.ask(&line, Own::Unheeded, &mut said);
            }
        }
        for (at, (.., key)) in LISTS.iter().enumerate() {
            let heeded = self.opening.is_some() || self.flights.values().any(|one| one.wants(key));
            let line = self.lists[at].as_ref().map(|list| list.line.clone());
            if let Some(line) = line.filter(|_| heeded && !opening) {
                self.ask(&line, Own::List(at), &mut said);
            }
        }
        for line in self.waiting.drain(..) {
            said.extend_from_slice(&line);
        }
        self.waits = 0;
        for flight in self.flights.values_mut().filter(|flight| flight.state == State::Held) {
            flight.state = State::Sent;
        }
        said
    }

    fn ask(&mut self, line: &[u8], what: Own, said: &mut Vec<u8>) {
        self.counted += 1;
        let id = format!("\"mcp-gateway-stdio/{}\"", self.counted).into_bytes();
        if let Some(line) = with_id(line, &id) {
            said.extend_from_slice(&line);
            self.own.insert(id, what);
        }
    }
}

impl Flight {
    /// Whether this listens for such a change.
    fn wants(&self, key: &str) -> bool {
        let line = self.copy.as_deref().filter(|_| self.what == What::Listen);
        let params = line.and_then(|line| member(line, "params"));
        let wanted = params.and_then(|params| member(params, "notifications"));
        wanted.and_then(|wanted| member(wanted, key)) == Some(b"true")
    }
}

fn digest(result: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(result);
    hasher.finish()
}
