//! What an instance still owes answers for.
//!
//! Ids are the gateway's own, never used twice in an instance's life: two clients may both use
//! id 1. A call is found by its id and its progress notifications by the same number. Where the
//! answer is a task, its session and token are kept: the task goes on under them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use crate::protocol::{
    ErrorCode, Message, error_response, member,
    stream::{Outgoing, Sender},
    string_member,
};

/// One request on its way to an instance.
pub struct Call {
    /// The client's id, as JSON text; what the answer carries.
    pub id: String,
    /// The client's progress token, as JSON text.
    pub token: Option<String>,
    /// Whose call it is; a question that the backend asks meanwhile goes there.
    pub session: u64,
    /// Sessions of one client, each for one request of it, have this in common.
    pub client: u64,
    /// Calls of one principal in one role have this in common.
    pub owner: u64,
    /// A question may be the answer to it, or be asked while it goes on.
    pub may_ask: bool,
    pub reply: Sender,
}

/// A call that the instance works on.
struct Open {
    call: Call,
    /// A question has been taken to be about it.
    asked: bool,
    /// It waits for its client: what the instance asks meanwhile is about another one.
    parked: bool,
}

/// Tasks whose session and token are kept; the oldest is forgotten first.
const TASKS: usize = 1000;
/// What a call that waits for its client keeps of its progress, in bytes.
const WAITING: usize = 64 << 10;
/// With a longer id and token none is kept.
const LONGEST: usize = 4096;

/// A call whose answer was a task.
struct Made {
    number: u64,
    session: u64,
    token: Option<String>,
    task: String,
}

#[derive(Default)]
pub(super) struct Pending {
    calls: BTreeMap<u64, Open>,
    /// Those of them that asked for a task.
    tasks_asked: BTreeSet<u64>,
    made: VecDeque<Made>,
    last: u64,
    /// Answers to nothing we asked, or to what is answered already.
    pub(super) strays: u64,
}

impl Pending {
    pub(super) fn add(&mut self, call: Call) -> u64 {
        self.last += 1;
        self.calls.insert(self.last, Open { call, asked: false, parked: false });
        self.last
    }

    /// The answer to this call may be a task.
    pub(super) fn asks_for_task(&mut self, id: u64) {
        self.tasks_asked.insert(id);
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Call> {
        self.tasks_asked.remove(&id);
        self.calls.remove(&id).map(|open| open.call)
    }

    /// Hands an answer to its caller, under the caller's id.
    pub(super) fn answer(&mut self, message: &Message) {
        let id = message.id().and_then(|id| id.parse().ok());
        match id.and_then(|id: u64| Some((id, self.calls.remove(&id)?))) {
            Some((number, Open { call, .. })) => {
                if self.tasks_asked.remove(&number)
                    && let Some(task) = task_made(message)
                    && task.len() + call.token.as_ref().map_or(0, String::len) <= LONGEST
                {
                    if self.made.len() == TASKS {
                        self.made.pop_front();
                    }
                    let (session, token) = (call.session, call.token.clone());
                    self.made.push_back(Made { number, session, token, task });
                }
                let bytes = message.edit().id(call.id.as_str()).finish();
                // The caller may be gone; then nobody waits for this.
                let _ = call.reply.send(Outgoing::answer(bytes, message.is_error()));
            }
            None => self.strays += 1,
        }
    }

    /// From now on the call's answer and progress carry this id and token (JSON text), and it is
    /// this client's.
    pub(super) fn readdress(&mut self, number: u64, id: &str, token: Option<&str>, client: u64) {
        if let Some(Open { call, asked, parked }) = self.calls.get_mut(&number) {
            call.id = id.to_owned();
            call.token = token.map(str::to_owned);
            call.client = client;
            *asked = false;
            *parked = false;
        }
    }

    /// Forgets a request of the gateway's own that goes on. Its stream ends.
    pub(super) fn drop_own(&mut self, number: u64) {
        if self.calls.get(&number).is_some_and(|open| open.call.session == 0) {
            self.remove(number);
        }
    }

    /// The call waits for its client, until it is readdressed.
    pub(super) fn park(&mut self, number: u64) {
        if let Some(open) = self.calls.get_mut(&number) {
            (open.asked, open.parked) = (true, true);
        }
    }

    /// Calls of clients, the newest first.
    fn newest(&self) -> impl Iterator<Item = &Open> {
        self.calls.values().rev().filter(|open| open.call.session != 0)
    }

    /// The call that a question is most likely about, of those that may be asked: the newest that
    /// was not asked yet, else the newest that does not wait for its client, else the newest.
    fn askable(&self, of: impl Fn(&Call) -> bool) -> Option<&Call> {
        let calls = || self.newest().filter(|open| open.call.may_ask && of(&open.call));
        let found = calls().find(|open| !open.asked).or_else(|| calls().find(|open| !open.parked));
        found.or_else(|| calls().next()).map(|open| &open.call)
    }

    /// A question goes to this session.
    pub(super) fn ask(&mut self, session: u64) {
        for open in self.calls.values_mut().filter(|open| open.call.session == session) {
            open.asked = true;
        }
    }

    /// Hands a notification to the subscription that it names: a call that goes on.
    pub(super) fn subscribed(&self, message: &Message) -> bool {
        let number = message.subscription().map(|id| id.trim_matches('"'));
        let call = number.and_then(|id| id.parse().ok()).and_then(|id: u64| self.calls.get(&id));
        let Some(Open { call, .. }) = call else { return false };
        let _ = call.reply.notify(message.edit().finish());
        true
    }

    /// Hands progress to the call that it belongs to, under the caller's token.
    pub(super) fn progress(&self, message: &Message) -> bool {
        let open = message
            .progress_of()
            .and_then(|token| token.parse().ok())
            .and_then(|id: u64| self.calls.get(&id));
        let found = open.and_then(|open| Some((open, &open.call, open.call.token.as_ref()?)));
        let Some((open, call, token)) = found else { return false };
        if open.parked && call.reply.waiting() + message.bytes().len() > WAITING {
            // Nobody may ever come for it.
            return true;
        }
        let told = message.edit().progress_of(token.as_str()).finish();
        let _ = call.reply.send(Outgoing::spare(told));
        true
    }

    /// Progress of a task whose call has been answered: its session, and the notification under
    /// the caller's token.
    pub(super) fn task_progress(&self, message: &Message) -> Option<(u64, Bytes)> {
        let number: u64 = message.progress_of()?.parse().ok()?;
        let made = self.made.iter().find(|made| made.number == number)?;
        let token = made.token.as_deref()?;
        Some((made.session, message.edit().progress_of(token).finish()))
    }

    /// Whose call made the task of this id.
    pub(super) fn task_session(&self, task: &str) -> Option<u64> {
        self.made.iter().rev().find(|made| made.task == task).map(|made| made.session)
    }

    /// Every caller gets the same error under its own id.
    pub(super) fn fail_all(&mut self, text: &str) {
        self.tasks_asked.clear();
        for Open { call, .. } in std::mem::take(&mut self.calls).into_values() {
            let bytes = error_response(Some(&call.id), ErrorCode::Internal, text);
            let _ = call.reply.send(Outgoing::answer(bytes, true));
        }
    }

    /// The stream of the newest call of this session.
    pub(super) fn newest_of(&self, session: u64) -> Option<Sender> {
        let newest = self.newest().find(|open| open.call.session == session)?;
        // Nobody listens to one that waits for its client.
        (!newest.parked).then(|| newest.call.reply.clone())
    }

    /// The session that a question is for, if all calls in flight are of one client. One that
    /// waits for another client of the same principal does not count: it has asked already, and
    /// whoever answers may know what the question says.
    pub(super) fn only_session(&self) -> Option<u64> {
        let working = self.newest().find(|open| !open.parked);
        let known = &working.or_else(|| self.newest().next())?.call;
        let apart = working.is_some();
        let alone = self.newest().all(|open| {
            open.call.client == known.client
                || (apart && open.parked && open.call.owner == known.owner)
        });
        let mine = self.askable(|call| call.client == known.client);
        alone.then(|| mine.map(|call| call.session)).flatten()
    }

    /// The session that a question is for, whoever else has calls in flight.
    pub(super) fn newest_session(&self) -> Option<u64> {
        self.askable(|_| true).map(|call| call.session)
    }

    pub(super) fn sessions(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self.newest().map(|open| open.call.session).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Calls of clients; what the gateway itself asks or listens to does not count.
    pub(super) fn len(&self) -> usize {
        self.newest().count()
    }
}

/// The id of the task that an answer is about to be worked on as.
fn task_made(answer: &Message) -> Option<String> {
    let result = answer.result()?;
    let task = &result[member(result, "task")?];
    string_member(task, "taskId").map(std::borrow::Cow::into_owned)
}

/// A request's line under the gateway's id.
pub(super) fn request_line(message: &Message, id: u64, name: Option<&str>) -> Bytes {
    let number = id.to_string();
    let mut edit = message.edit().id(number.clone());
    if message.progress_token().is_some() {
        edit = edit.progress_token(number);
    }
    if let Some(name) = name {
        edit = edit.name(name);
    }
    edit.line()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::stream::{Bounds, Receiver, stream};

    fn call(id: &str, token: Option<&str>, session: u64) -> (Call, Receiver) {
        let (reply, receiver) = stream(Bounds::REQUEST);
        let (id, token) = (id.into(), token.map(Into::into));
        let call = Call { id, token, session, client: session, owner: 1, may_ask: true, reply };
        (call, receiver)
    }

    fn message(text: &str) -> Message {
        Message::parse(text.to_owned().into()).unwrap()
    }

    #[test]
    fn two_clients_with_the_same_id_get_their_own_answers() {
        let mut pending = Pending::default();
        let (one, mut first) = call("1", None, 1);
        let (two, mut second) = call("1", None, 2);
        let (a, b) = (pending.add(one), pending.add(two));
        assert_ne!(a, b);
        pending.answer(&message(&format!(r#"{{"jsonrpc":"2.0","id":{b},"result":"b"}}"#)));
        pending.answer(&message(&format!(r#"{{"jsonrpc":"2.0","id":{a},"result":"a"}}"#)));
        assert_eq!(first.try_recv().unwrap().bytes, r#"{"jsonrpc":"2.0","id":1,"result":"a"}"#);
        assert_eq!(second.try_recv().unwrap().bytes, r#"{"jsonrpc":"2.0","id":1,"result":"b"}"#);
    }

    #[test]
    fn a_second_or_foreign_answer_goes_nowhere() {
        let mut pending = Pending::default();
        let (one, mut stream) = call("\"x\"", None, 1);
        let id = pending.add(one);
        for _ in 0..2 {
            pending.answer(&message(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":1}}"#)));
        }
        for foreign in ["99", "\"1\"", "-1", "null", "1.5"] {
            let text =
                format!(r#"{{"jsonrpc":"2.0","id":{foreign},"error":{{"code":1,"message":"m"}}}}"#);
            pending.answer(&message(&text));
        }
        assert!(stream.try_recv().unwrap().last);
        assert!(stream.try_recv().is_none());
        assert_eq!(pending.strays, 6);
    }

    #[test]
    fn progress_comes_under_the_clients_token_and_only_where_one_was_given() {
        let mut pending = Pending::default();
        let (with, mut one) = call("1", Some("\"t\""), 1);
        let (without, mut two) = call("2", None, 1);
        let (a, b) = (pending.add(with), pending.add(without));
        let progress = |n: u64| {
            message(&format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progress":1.0,"progressToken":{n}}}}}"#
            ))
        };
        assert!(pending.progress(&progress(a)));
        assert!(!pending.progress(&progress(b)));
        assert!(!pending.progress(&progress(77)));
        let got = one.try_recv().unwrap();
        assert!(!got.last);
        assert!(std::str::from_utf8(&got.bytes).unwrap().contains(r#""progressToken":"t""#));
        assert!(two.try_recv().is_none());
    }

    #[test]
    fn a_tasks_progress_comes_under_the_clients_token_after_the_answer() {
        let mut pending = Pending::default();
        let mut made = |id: &str, asks: bool| {
            let (call, stream) = call(id, Some("\"t\""), 7);
            let number = pending.add(call);
            if asks {
                pending.asks_for_task(number);
            }
            pending.answer(&message(&format!(
                r#"{{"jsonrpc":"2.0","id":{number},"result":{{"task":{{"taskId":"job-{id}"}}}}}}"#
            )));
            drop(stream);
            number
        };
        let (task, plain) = (made("1", true), made("2", false));
        for id in 3..=TASKS + 1 {
            made(&id.to_string(), true);
        }
        let progress = |n: u64| {
            message(&format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{n},"progress":1}}}}"#
            ))
        };
        assert!(!pending.progress(&progress(task)));
        let (session, bytes) = pending.task_progress(&progress(task)).unwrap();
        assert_eq!(session, 7);
        assert!(std::str::from_utf8(&bytes).unwrap().contains(r#""progressToken":"t""#));
        assert!(pending.task_progress(&progress(plain)).is_none());
        assert_eq!(pending.task_session("job-1"), Some(7));
        assert_eq!(pending.task_session("job-2"), None, "its call asked for no task");
        let (call, _stream) = call("last", None, 7);
        let last = pending.add(call);
        pending.asks_for_task(last);
        pending.answer(&message(&format!(
            r#"{{"jsonrpc":"2.0","id":{last},"result":{{"task":{{"taskId":"last"}}}}}}"#
        )));
        assert!(pending.task_progress(&progress(task)).is_none(), "the oldest goes first");
        assert_eq!(pending.task_session("last"), Some(7));
    }

    #[test]
    fn the_only_session_is_known_and_two_are_not() {
        let mut pending = Pending::default();
        assert_eq!(pending.only_session(), None);
        let streams: Vec<Receiver> = [7, 7, 0]
            .into_iter()
            .map(|session| {
                let (call, receiver) = call("1", None, session);
                pending.add(call);
                receiver
            })
            .collect();
        assert_eq!(pending.only_session(), Some(7));
        let (other, _receiver) = call("1", None, 8);
        pending.add(other);
        assert_eq!(pending.only_session(), None);
        assert_eq!(pending.sessions(), [7, 8]);
        drop(streams);
    }

    #[test]
    fn two_requests_of_one_client_are_told_apart_and_belong_to_it() {
        let mut pending = Pending::default();
        let streams: Vec<Receiver> = [7, 8]
            .into_iter()
            .map(|session| {
                let (call, receiver) = call("1", None, session);
                pending.add(Call { client: 3, ..call });
                receiver
            })
            .collect();
        assert_eq!(pending.only_session(), Some(8), "the newest");
        pending.ask(8);
        assert_eq!(pending.only_session(), Some(7), "the newest that was not asked");
        pending.ask(7);
        assert_eq!(pending.only_session(), Some(8), "the newest where all were");
        pending.park(2);
        assert_eq!(pending.only_session(), Some(7), "the other one waits for its client");
        let (list, _list) = call("9", None, 9);
        pending.add(Call { client: 3, may_ask: false, ..list });
        assert_eq!(pending.only_session(), Some(7), "nobody is asked over that one");
        pending.remove(3);
        pending.readdress(2, "2", None, 3);
        assert_eq!(pending.only_session(), Some(8));
        pending.readdress(1, "\"again\"", None, 4);
        assert_eq!(pending.only_session(), None);
        pending.park(1);
        assert_eq!(pending.only_session(), Some(8), "the same principal's other client waits");
        let (foreign, _foreign) = call("5", None, 5);
        let number = pending.add(Call { owner: 2, ..foreign });
        pending.park(number);
        assert_eq!(pending.only_session(), None, "another principal's makes a difference");
        pending.remove(number);
        assert_eq!(pending.newest_session(), Some(8));
        pending.answer(&message(r#"{"jsonrpc":"2.0","id":1,"result":{}}"#));
        let mut streams = streams.into_iter();
        let got = streams.next().unwrap().try_recv().unwrap();
        assert_eq!(got.bytes, r#"{"jsonrpc":"2.0","id":"again","result":{}}"#);
    }

    #[test]
    fn what_a_subscription_brings_goes_to_it_by_number_or_text() {
        let mut pending = Pending::default();
        let (listen, mut stream) = call("0", None, 0);
        let number = pending.add(listen);
        let notice = |id: &str| {
            message(&format!(
                r#"{{"jsonrpc":"2.0","method":"n","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}}}}}"#
            ))
        };
        assert!(pending.subscribed(&notice(&number.to_string())));
        assert!(pending.subscribed(&notice(&format!("\"{number}\""))));
        assert!(!pending.subscribed(&notice("77")) && !pending.subscribed(&notice("null")));
        assert!(stream.try_recv().is_some() && stream.try_recv().is_some());
        assert_eq!(pending.len(), 0, "no call of a client's");
    }

    #[test]
    fn when_the_backend_dies_every_caller_hears_it_once() {
        let mut pending = Pending::default();
        let (one, mut stream) = call("\"k\"", None, 1);
        pending.add(one);
        pending.fail_all("backend \"x\" ended");
        let got = stream.try_recv().unwrap();
        assert!(got.last);
        assert_eq!(
            got.bytes,
            r#"{"jsonrpc":"2.0","id":"k","error":{"code":-32603,"message":"backend \"x\" ended"}}"#
        );
        assert!(pending.calls.is_empty());
    }
}
