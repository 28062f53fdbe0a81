//! A modern client and a legacy backend: what the backend asks in the middle of a call is the
//! call's result, `input_required`. The call is parked until the client makes its request again
//! with the answers (2026-07-28, basic/patterns/mrtr).
//!
//! Parked calls are bounded in number and time, and end with their client's connection.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    state::{Held, States},
    translate::{complete, legacy_request, modern_error, with_error},
};
use crate::{
    backend::{Instance, Lease, Link},
    gateway::{
        Session,
        error::Failure,
        exchange::{Ended, Exchange, Order, Step},
        questions::{Input, able},
        router::Request,
    },
    policy::Permit,
    protocol::{Era, Message, edited, member, members, method, result_response, stream::Outgoing},
};

/// After a question, for those that come with it.
const GATHER: Duration = Duration::from_millis(20);
/// How long a client may think at most.
const PATIENCE: Duration = Duration::from_secs(600);
/// Parked calls of all principals, and of one: then its oldest is given up.
const PARKED: usize = 1024;
const OWN: usize = 64;
/// URL elicitation required, an error of 2025-11-25 alone.
const URL_REQUIRED: i64 = -32042;

/// All parked calls, by the id in their state.
#[derive(Default)]
pub(in crate::gateway) struct Parking(Mutex<HashMap<[u8; 16], Parked>>);

struct Parked {
    call: Exchange,
    kept: Kept,
    principal: Arc<str>,
    client: u64,
    /// The request that was answered with the questions, as JSON text of its id.
    request: String,
    /// What was asked, by the names that the client knows.
    asked: Vec<(String, u64)>,
    since: Instant,
    until: Instant,
}

/// Keeps the session of a parked call; ends it in the end.
pub(in crate::gateway) struct Kept(Arc<Session>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.close();
    }
}

// Calls lock their instances and sessions when they end, so none does while the table is locked.
impl Parking {
    fn all(&self) -> MutexGuard<'_, HashMap<[u8; 16], Parked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::gateway) fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    fn put(&self, id: [u8; 16], parked: Parked) -> Result<(), Failure> {
        let mut all = self.all();
        let own = all.iter().filter(|(_, known)| known.principal == parked.principal);
        let (own, oldest) = (own.clone().count(), own.min_by_key(|(_, known)| known.since));
        let oldest = oldest.map(|(id, _)| *id).filter(|_| own >= OWN || all.len() >= PARKED);
        let given_up = oldest.and_then(|oldest| all.remove(&oldest));
        let full = all.len() >= PARKED;
        if !full {
            all.insert(id, parked);
        }
        drop(all);
        if let Some(given_up) = given_up {
            tracing::info!(
                server = given_up.call.lease.instance().server_name(),
                "a call is given up: more than {OWN} of its principal wait for answers"
            );
        }
        match full {
            true => {
                Err(Failure::TooMany(format!("{PARKED} calls wait for their clients' answers")))
            }
            false => Ok(()),
        }
    }

    fn take(&self, id: &[u8; 16]) -> Option<Parked> {
        self.all().remove(id)
    }

    fn remove_if(&self, gone: impl Fn(&Parked) -> bool) {
        let gone: Vec<Parked> =
            self.all().extract_if(|_, parked| gone(parked)).map(|(_, parked)| parked).collect();
        drop(gone);
    }

    /// The client has taken back this request, or has gone.
    pub(in crate::gateway) fn release(&self, client: u64, request: Option<&str>) {
        self.remove_if(|parked| {
            parked.client == client && request.is_none_or(|request| request == parked.request)
        });
    }

    /// Ends those whose clients have not come back.
    pub(in crate::gateway) fn sweep(&self, now: Instant) {
        self.remove_if(|parked| parked.until <= now || !parked.call.link().is_open());
    }

    pub(in crate::gateway) fn close(&self) {
        self.remove_if(|_| true);
    }
}

/// Sends a modern client's request to a legacy backend.
pub(in crate::gateway) async fn begin(
    order: &Order<'_, '_>,
    lease: Lease,
) -> Result<Ended, Failure> {
    let session = order.request.session;
    let message = order.message.with_params(legacy_request);
    let message = message.map_err(|why| Failure::InvalidParams(why.to_string()))?;
    if let Some(level) = session.level() {
        session.gateway().raise_level(lease.instance(), lease.link(), level).await;
    }
    let call = Exchange::send(order, lease, Some(&message))?;
    carry(order, call, None, false).await
}

/// Hands on what comes until the answer, or until the client has to be asked.
async fn carry(
    order: &Order<'_, '_>,
    mut call: Exchange,
    kept: Option<Kept>,
    mut asked: bool,
) -> Result<Ended, Failure> {
    let reply = order.request.reply;
    let mut gathered = Instant::now() + GATHER;
    loop {
        let step = if asked {
            match tokio::time::timeout_at(gathered.into(), call.next()).await {
                Ok(step) => step?,
                Err(_) => {
                    let inputs = call.session.questions.inputs();
                    if !inputs.is_empty() {
                        return park(order, call, kept, &inputs);
                    }
                    // The backend has taken them back.
                    asked = false;
                    continue;
                }
            }
        } else {
            call.next().await?
        };
        match step {
            Step::Notice(notice) => drop(reply.send(notice)),
            Step::Answer(answer) => {
                let ended = call.ended(order.request, &answer);
                let answer = finish(order, &call, &answer).unwrap_or(answer);
                let asked = !answer.failed && ended == Ended::Failed;
                let _ = reply.send(answer);
                return Ok(if asked { Ended::Asked } else { ended });
            }
            Step::Asked if asked => {}
            Step::Asked => {
                asked = true;
                gathered = Instant::now() + GATHER;
            }
        }
    }
}

/// A legacy backend's answer in a modern client's words, under the id of the request at hand.
fn finish(order: &Order<'_, '_>, call: &Exchange, answer: &Outgoing) -> Option<Outgoing> {
    let (request, link) = (order.request, call.link());
    let message = Message::parse(answer.bytes.clone()).ok()?;
    if let Some(result) = message.result() {
        let scope =
            request.session.gateway().cache_scope(request.session, &request.message.method());
        let whole = complete(result, &server_info(link), scope);
        return Some(Outgoing::answer(result_response(request.id(), &whole), false));
    }
    let (_, error) = message.error()?;
    if message.error_code() == Some(URL_REQUIRED) {
        return Some(visit(order, call, error));
    }
    if let Some(capability) = call.session.questions.take_lacking() {
        return Some(lacks(order, &capability));
    }
    let bytes = with_error(&message, request.id(), &modern_error(error));
    Some(Outgoing::answer(bytes, true))
}

/// Who a backend says that it is, as JSON text.
fn server_info(link: &Link) -> String {
    let raw = link.info().map(|info| Arc::clone(&info.raw)).unwrap_or_default();
    member(&raw, "serverInfo").map_or_else(|| "{}".to_owned(), |span| raw[span].to_owned())
}

/// The backend wants the user to visit URLs and the request to be made again.
fn visit(order: &Order<'_, '_>, call: &Exchange, error: &str) -> Outgoing {
    let session = order.request.session;
    let data = member(error, "data").map_or("{}", |span| &error[span]);
    let all = crate::protocol::array_member(data, "elicitations").unwrap_or_default();
    let able = able(session, method::ELICITATION, &json!({"mode": "url"})).is_ok();
    if !able || all.is_empty() {
        return lacks(order, &json!({"elicitation": {"url": {}}}));
    }
    let inputs: Vec<Input> = (1..)
        .zip(&all)
        .map(|(number, elicitation)| {
            let params = edited(elicitation, &["elicitationId"], &[("mode", "\"url\"")]);
            let question =
                format!("{{\"method\":\"{}\",\"params\":{params}}}", method::ELICITATION);
            Input { number, key: format!("url-{number}"), question }
        })
        .collect();
    let (instance, link) = (call.lease.instance(), call.link());
    let state = seal(order, instance, States::id(), &Held::Again, PATIENCE);
    Outgoing::answer(input_required(order, link, &inputs, &state), false)
}

/// The answer to a client that the request needs more of (basic, `_meta`).
fn lacks(order: &Order<'_, '_>, capabilities: &Value) -> Outgoing {
    let failure = Failure::MissingCapability(capabilities.clone());
    Outgoing::answer(failure.response(Some(order.request.id()), Era::Modern), true)
}

fn seal(
    order: &Order<'_, '_>,
    instance: &Instance,
    id: [u8; 16],
    held: &Held,
    lives: Duration,
) -> String {
    let method = order.request.message.method();
    let subject = order.subject();
    let who = order.request.session.principal();
    let bound = order.bound(&who, instance.key(), &method, &subject);
    order.request.session.gateway().states.seal(&bound, id, held, lives)
}

fn input_required(
    order: &Order<'_, '_>,
    link: &Link,
    inputs: &[Input],
    state: &str,
) -> bytes::Bytes {
    let inputs: Vec<String> = inputs
        .iter()
        .map(|input| format!("{}:{}", Value::from(input.key.as_str()), input.question))
        .collect();
    let result = format!(
        "{{\"resultType\":\"input_required\",\"inputRequests\":{{{}}},\"requestState\":\"{state}\"}}",
        inputs.join(",")
    );
    let mut whole = complete(&result, &server_info(link), None).into_bytes();
    crate::protocol::blank_newlines(&mut whole);
    let whole = String::from_utf8(whole).unwrap_or_default();
    result_response(order.request.id(), &whole)
}

/// The client's turn.
fn park(
    order: &Order<'_, '_>,
    mut call: Exchange,
    kept: Option<Kept>,
    inputs: &[Input],
) -> Result<Ended, Failure> {
    let (request, now) = (order.request, Instant::now());
    let gateway = Arc::clone(call.session.gateway());
    let kept = kept.unwrap_or_else(|| {
        call.session.park();
        Kept(Arc::clone(&call.session))
    });
    call.park();
    let until = call.last_moment().min(now + PATIENCE);
    let id = States::id();
    let state =
        seal(order, call.lease.instance(), id, &Held::Parked, until.saturating_duration_since(now));
    let answer = input_required(order, call.link(), inputs, &state);
    let parked = Parked {
        principal: Arc::clone(request.session.principal().key()),
        client: request.session.client_number(),
        request: request.id().to_owned(),
        asked: inputs.iter().map(|input| (input.key.clone(), input.number)).collect(),
        since: now,
        until,
        call,
        kept,
    };
    gateway.parking.put(id, parked)?;
    gateway.watch_questions();
    let _ = request.reply.send(Outgoing::answer(answer, false));
    Ok(Ended::Asked)
}

/// A request that comes with a state which is one of ours, or should be.
pub(in crate::gateway) async fn resume(
    order: &Order<'_, '_>,
    permit: Permit,
) -> Result<Ended, Failure> {
    let (request, session) = (order.request, order.request.session);
    let gateway = session.gateway();
    let server = gateway.server(&order.server).ok_or_else(|| request.unknown_method())?;
    let (instance, method) = (gateway.key(&server, session), request.message.method());
    let subject = order.subject();
    let who = session.principal();
    let bound = order.bound(&who, &instance, &method, &subject);
    let state = request.message.request_state().unwrap_or("null");
    let opened = gateway.states.open(&bound, state)?;
    let lease = Exchange::lease(order, permit).await?;
    match (&opened.held, lease.link().era()) {
        (Held::Parked, _) => {
            // Before it is used up: who answered badly may answer again.
            let responses = responses(request)?;
            let parked = gateway.parking.take(&opened.id);
            let parked = parked.ok_or(Failure::BadState(
                "it was used already, or its call has ended; make the request anew",
            ))?;
            unpark(order, parked, lease, &responses).await
        }
        (Held::Again, Era::Legacy) => {
            gateway.states.consume(&bound, &opened)?;
            begin(order, lease).await
        }
        (Held::Inner(theirs), Era::Modern) => {
            gateway.states.consume(&bound, &opened)?;
            let message =
                Message::parse(order.message.edit().request_state(theirs.as_str()).finish());
            let message = message.map_err(|why| Failure::InvalidParams(why.to_string()))?;
            let call = Exchange::send(order, lease, Some(&message))?;
            carry_sealed(order, call).await
        }
        _ => Err(Failure::BadState("its backend speaks another era now; make the request anew")),
    }
}

/// The client's answers by the key of their question, as JSON text.
fn responses(request: &Request<'_>) -> Result<Vec<(String, String)>, Failure> {
    let Some(raw) = request.message.input_responses() else { return Ok(Vec::new()) };
    let invalid = || Failure::InvalidParams("inputResponses: not an object of results".into());
    let all = members(raw).ok_or_else(invalid)?;
    if !all.iter().all(|(_, value)| value.starts_with('{')) {
        return Err(invalid());
    }
    Ok(all.into_iter().map(|(key, value)| (key.into_owned(), value.to_owned())).collect())
}

async fn unpark(
    order: &Order<'_, '_>,
    parked: Parked,
    lease: Lease,
    responses: &[(String, String)],
) -> Result<Ended, Failure> {
    let (request, Parked { mut call, kept, asked, .. }) = (order.request, parked);
    if !Arc::ptr_eq(lease.link(), call.link()) {
        return Err(Failure::BadState("its call has ended; make the request anew"));
    }
    // With a place among the calls.
    call.lease = lease;
    call.session.adopt(request.session);
    call.resumed(request);
    let questions = &call.session.questions;
    let mut missing = false;
    for Input { number, .. } in questions.inputs() {
        let key = asked.iter().find(|(_, known)| *known == number).map(|(key, _)| key);
        match responses.iter().find(|(known, _)| Some(known) == key) {
            Some((_, result)) => questions.input(number, result),
            // It is asked for once more (mrtr, "Error Handling").
            None => missing = true,
        }
    }
    carry(order, call, Some(kept), missing).await
}

/// Between a modern client and a backend that all share: the backend's state travels in ours, so
/// that it is of no use to anybody else.
pub(in crate::gateway) async fn carry_sealed(
    order: &Order<'_, '_>,
    mut call: Exchange,
) -> Result<Ended, Failure> {
    let reply = order.request.reply;
    loop {
        match call.next().await? {
            Step::Notice(notice) => drop(reply.send(notice)),
            Step::Asked => {}
            Step::Answer(answer) => {
                let ended = call.ended(order.request, &answer);
                let sealed = sealed(order, &call, &answer);
                let asked = sealed.is_some();
                let answer = sealed.unwrap_or(answer);
                let _ = reply.send(answer);
                return Ok(if asked { Ended::Asked } else { ended });
            }
        }
    }
}

/// The answer with its state sealed; `None` if it has none.
fn sealed(order: &Order<'_, '_>, call: &Exchange, answer: &Outgoing) -> Option<Outgoing> {
    memchr::memmem::find(&answer.bytes, b"requestState")?;
    let message = Message::parse(answer.bytes.clone()).ok()?;
    message.unfinished().filter(|kind| kind == "input_required")?;
    let result = message.result()?;
    let theirs = Held::Inner(result[member(result, "requestState")?].to_owned());
    let ours = seal(order, call.lease.instance(), States::id(), &theirs, PATIENCE);
    let ours = Value::from(ours).to_string();
    let result = edited(result, &[], &[("requestState", &ours)]);
    Some(Outgoing::answer(message.with_result(&result), false))
}
