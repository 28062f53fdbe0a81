//! A legacy client and a modern backend: what the backend wants to know comes as its result,
//! `input_required`. The client is asked by requests, and the backend asked again with what it
//! answered, round after round.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::translate::{legacy_error, legacy_result, with_error};
use crate::{
    backend::Lease,
    gateway::{
        Session,
        error::Failure,
        exchange::{Ended, Exchange, Order, Step},
        questions::{able, own_roots},
        session::random_id,
    },
    protocol::{
        Message, Version, edited, member, members, method, stream::Outgoing, string_member,
    },
};

/// Rounds of one request; a backend that asks more often never ends.
const ROUNDS: usize = 50;
/// Before a backend is asked again that wants to know nothing new, such as whether the user has
/// visited a URL; twice as long each time.
const VISITING: Duration = Duration::from_millis(250);
const VISITING_MOST: Duration = Duration::from_secs(10);

/// Sends `message`, which is in the modern era's words already, and asks until it is answered.
pub(in crate::gateway) async fn carry(
    order: &Order<'_, '_>,
    message: Message,
    lease: Lease,
) -> Result<Ended, Failure> {
    let request = order.request;
    let mut visits = Visits::default();
    let mut call = Exchange::send(order, lease, Some(&message))?;
    for _ in 0..ROUNDS {
        let answer = loop {
            match call.next().await? {
                Step::Notice(notice) => drop(request.reply.send(notice)),
                Step::Answer(answer) => break answer,
                Step::Asked => {}
            }
        };
        let read = Message::parse(answer.bytes.clone());
        let read = read.map_err(|why| failed(order, &why.to_string()))?;
        let kind = read.unfinished().map(std::borrow::Cow::into_owned);
        match kind.as_deref() {
            None => {
                let ended = call.ended(request, &answer);
                visits.over(request.session);
                let _ = request.reply.send(Outgoing::answer(told(order, &read), answer.failed));
                return Ok(ended);
            }
            Some("input_required") => {}
            Some(other) => {
                let why = format!(
                    "its result is of the kind \"{other}\", which this client does not know"
                );
                return Err(failed(order, &why));
            }
        }
        let asked = read.result().unwrap_or("{}");
        // It works on nothing while the client thinks; others may have its place.
        call.lease.release_slot();
        let until = call.last_moment();
        let responses = visits.answers(order, &call, asked, until).await?;
        let mut set = vec![("inputResponses", responses.as_str())];
        let state = member(asked, "requestState").map(|span| &asked[span]);
        set.extend(state.map(|state| ("requestState", state)));
        let next =
            message.with_params(|params| edited(params, &["inputResponses", "requestState"], &set));
        let next = next.map_err(|why| failed(order, &why.to_string()))?;
        call.again(order, &next)?;
    }
    Err(failed(order, &format!("asks again and again ({ROUNDS} times)")))
}

fn failed(order: &Order<'_, '_>, why: &str) -> Failure {
    Failure::Backend { server: order.server.to_string(), reason: why.to_owned() }
}

/// The final answer in the client's words.
fn told(order: &Order<'_, '_>, read: &Message) -> Bytes {
    if let Some(result) = read.result() {
        return read.with_result(&legacy_result(result));
    }
    let uri = order.request.message.uri();
    match read.error() {
        Some((_, error)) => {
            with_error(read, order.request.id(), &legacy_error(error, uri.as_deref()))
        }
        None => read.bytes().clone(),
    }
}

/// URLs that the user was sent to, by what was asked, with the id that the client knows.
#[derive(Default)]
struct Visits {
    sent: HashMap<String, String>,
    waits: u32,
}

impl Visits {
    /// The client's answers to all that is asked, as JSON text of `inputResponses`.
    async fn answers(
        &mut self,
        order: &Order<'_, '_>,
        call: &Exchange,
        asked: &str,
        until: Instant,
    ) -> Result<String, Failure> {
        let inputs = member(asked, "inputRequests").map_or("{}", |span| &asked[span]);
        let inputs = members(inputs).ok_or_else(|| failed(order, "asks for nothing readable"))?;
        let mut asking = Vec::with_capacity(inputs.len());
        let mut visiting = false;
        for (key, input) in &inputs {
            let known = self.sent.contains_key(*input);
            visiting |= known;
            let answer = match known {
                // The user has agreed to go there; whether all is done the backend knows.
                true => Answer::Known(r#"{"action":"accept"}"#.to_owned()),
                false => self.ask(order, call, input, until)?,
            };
            asking.push((key, answer));
        }
        let idle = asking.iter().all(|(_, answer)| matches!(answer, Answer::Known(_)));
        if idle && (visiting || asking.is_empty()) {
            let pause = VISITING.saturating_mul(1 << self.waits.min(8)).min(VISITING_MOST);
            self.waits += 1;
            tokio::time::sleep_until((Instant::now() + pause).min(until).into()).await;
        }
        let mut responses = Vec::new();
        for (key, answer) in asking {
            let result = match answer {
                Answer::Known(result) => result,
                Answer::Asked(asked) => asked.result(order, until).await?,
            };
            responses.push(format!("{}:{result}", Value::from(key.as_ref())));
        }
        Ok(format!("{{{}}}", responses.join(",")))
    }

    fn ask(
        &mut self,
        order: &Order<'_, '_>,
        call: &Exchange,
        input: &str,
        until: Instant,
    ) -> Result<Answer, Failure> {
        let session = order.request.session;
        let method = string_member(input, "method").unwrap_or_default().into_owned();
        let params = member(input, "params").map_or("{}", |span| &input[span]);
        let read: Value = serde_json::from_str(params).unwrap_or_default();
        if method == method::ROOTS_LIST
            && let Some(roots) = own_roots(call.lease.instance())
        {
            return Ok(Answer::Known(roots.to_string()));
        }
        if !matches!(method.as_str(), method::ROOTS_LIST | method::SAMPLING | method::ELICITATION) {
            return Err(failed(order, &format!("asks for \"{method}\", which there is not")));
        }
        able(session, &method, &read).map_err(|missing| {
            failed(order, &format!("asks the client for what it does not declare: {missing}"))
        })?;
        let mut params = params.to_owned();
        if read["mode"] == "url" {
            let id = random_id();
            params = edited(&params, &[], &[("elicitationId", &json!(id).to_string())]);
            self.sent.insert(input.to_owned(), id);
        }
        Asked::ask(order, session, method, &params, until).map(Answer::Asked)
    }

    /// The request is answered: what the user had to do is done.
    fn over(&self, session: &Session) {
        if session.version().is_some_and(|version| version >= Version::V2025_11_25) {
            for id in self.sent.values() {
                let params = json!({"elicitationId": id});
                let notice =
                    json!({"jsonrpc": "2.0", "method": method::ELICITED, "params": params});
                session.tell(notice.to_string().into());
            }
        }
    }
}

enum Answer {
    Known(String),
    Asked(Asked),
}

/// A question that the client has been asked. Dropping it takes it back.
struct Asked {
    session: Arc<Session>,
    method: String,
    number: u64,
    answer: oneshot::Receiver<Message>,
}

impl Asked {
    fn ask(
        order: &Order<'_, '_>,
        session: &Arc<Session>,
        method: String,
        params: &str,
        until: Instant,
    ) -> Result<Self, Failure> {
        let opened = session.questions.open_own(until);
        let too_many = || Failure::TooMany("too many questions to this client are open".into());
        let (number, answer) = opened.ok_or_else(too_many)?;
        let params = params.replace(['\n', '\r'], " ");
        let question = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":{number},\"method\":\"{method}\",\"params\":{params}}}"
        );
        let asked = Asked { session: Arc::clone(session), method, number, answer };
        if order.request.reply.notify(question.clone().into()).is_err() {
            session.tell(question.into());
        }
        Ok(asked)
    }

    /// The client's result, as JSON text. An error has no place in the modern era; that a user
    /// does not want to answer has.
    async fn result(mut self, order: &Order<'_, '_>, until: Instant) -> Result<String, Failure> {
        let answer = tokio::time::timeout_at(until.into(), &mut self.answer).await;
        let Ok(Ok(message)) = answer else {
            return Err(failed(order, "the client gave no answer in time (timeouts.max_call)"));
        };
        if let Some(result) = message.result() {
            return Ok(result.replace(['\n', '\r'], " "));
        }
        if self.method == method::ELICITATION {
            return Ok(r#"{"action":"cancel"}"#.to_owned());
        }
        let why = message.error().map(|(text, _)| text).unwrap_or_default();
        Err(failed(order, &format!("the client refused {}: {why}", self.method)))
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if self.session.questions.forget(self.number) {
            let params =
                json!({"requestId": self.number, "reason": "no answer is needed any more"});
            let notice = json!({"jsonrpc": "2.0", "method": method::CANCELLED, "params": params});
            self.session.tell(notice.to_string().into());
        }
    }
}
