//! `POST`: a message comes in, and what belongs to it goes out.
//!
//! In the legacy era an answer that comes at once is plain JSON. Else it becomes an event stream,
//! which the client can leave and take up again: one that disconnects has not cancelled anything.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hyper::{
    HeaderMap, Request, StatusCode,
    body::{Body, Incoming},
    header::HeaderValue,
    http::request::Parts,
};

use super::{
    answer::{self, Answer},
    connection::Connection,
    events::{Event, Events, Source},
    get,
    head::{self, Accept},
    modern,
    replay::Position,
    route,
    sessions::HttpSession,
};
use crate::{
    frontend::{Shared, batch},
    gateway::Session,
    policy::Principal,
    protocol::{
        ErrorCode, Kind, Message, error_response, method,
        stream::{Bounds, Outgoing, Receiver, Sender, stream},
    },
};

pub(super) async fn answer(
    connection: &Arc<Connection>,
    principal: &Arc<Principal>,
    server: Option<&str>,
    request: Request<Incoming>,
) -> Answer {
    let (Parts { headers, .. }, body) = request.into_parts();
    let accept = Accept::read(&headers);
    if !accept.json || !accept.events {
        return answer::problem(
            StatusCode::NOT_ACCEPTABLE,
            "accept must allow both application/json and text/event-stream",
        );
    }
    let body = match self::body(connection, &headers, body).await {
        Ok(body) => body,
        Err(answer) => return *answer,
    };
    if batch::is_batch(&body) {
        return several(connection, principal, server, &headers, accept, &body).await;
    }
    let message = match Message::parse(body) {
        Ok(message) => message,
        Err(invalid) => return answer::json(StatusCode::BAD_REQUEST, batch::refusal(&invalid)),
    };
    if modern::is_modern(&headers, &message) {
        return modern::answer(connection, principal, server, &headers, message, accept).await;
    }
    let opens = !headers.contains_key(head::SESSION_ID);
    if opens && message.kind() == Kind::Request && message.method() == method::INITIALIZE {
        return open(connection, principal, server, message, accept).await;
    }
    match get::session(connection, principal, server, &headers, message.id()) {
        Ok(session) => one(&connection.shared, session, message, accept).await,
        Err(answer) => *answer,
    }
}

/// `initialize`: a new session, which is forgotten unless the client gets its id.
async fn open(
    connection: &Connection,
    principal: &Arc<Principal>,
    server: Option<&str>,
    message: Message,
    accept: Accept,
) -> Answer {
    let shared = &connection.shared;
    let hello = route::hello(principal, server, connection.transport);
    let session = match shared.gateway.open(hello) {
        Ok(session) => session,
        Err(error) => return route::not_opened(&error, message.id()),
    };
    let mut opening = Opening { shared, entry: None };
    let entry = opening.entry.insert(shared.http.sessions.insert(shared, session, server));
    let entry = Arc::clone(entry);
    let id = HeaderValue::from_str(entry.session.id());
    let mut answer = one(shared, Arc::clone(&entry), message, accept).await;
    // An event stream has begun before its result is there: there the client needs the id.
    let is_stream = matches!(answer.body(), answer::Content::Events(_));
    if let (Ok(id), true) = (id, is_stream || entry.session.version().is_some()) {
        answer.headers_mut().insert(head::SESSION_ID, id);
        opening.entry = None;
    }
    answer
}

/// Closes the session if `initialize` fails, or if the client leaves before it is answered.
struct Opening<'a> {
    shared: &'a Shared,
    entry: Option<Arc<HttpSession>>,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if let Some(entry) = &self.entry {
            self.shared.http.sessions.close(entry);
        }
    }
}

/// Hands a message to the gateway, in the order of the calls.
pub(super) fn receive(shared: &Shared, session: &Arc<Session>, message: Message, reply: Sender) {
    if let Some(work) = session.receive(message, reply) {
        shared.tracker.spawn(work);
    }
}

async fn one(
    shared: &Arc<Shared>,
    session: Arc<HttpSession>,
    message: Message,
    accept: Accept,
) -> Answer {
    let (reply, source) = stream(Bounds::REQUEST);
    let is_request = message.kind() == Kind::Request;
    receive(shared, &session.session, message, reply);
    if !is_request {
        return answer::empty(StatusCode::ACCEPTED);
    }
    respond(shared, session, source, 1, accept).await
}

async fn several(
    connection: &Connection,
    principal: &Principal,
    server: Option<&str>,
    headers: &HeaderMap,
    accept: Accept,
    body: &Bytes,
) -> Answer {
    let shared = &connection.shared;
    let session = match get::session(connection, principal, server, headers, None) {
        Ok(session) => session,
        Err(answer) => return *answer,
    };
    if !session.session.version().is_some_and(|version| version.has_batches()) {
        let why = "this session's protocol version has no batches";
        return answer::problem(StatusCode::BAD_REQUEST, why);
    }
    let batch = match batch::split(body, shared.limits.batch) {
        Ok(batch) => batch,
        Err(error) => return answer::json(StatusCode::BAD_REQUEST, error),
    };
    let expected = batch.requests() + batch.refused.len();
    let (reply, source) = stream(Bounds::REQUEST);
    for bytes in batch.refused {
        // The stream is empty and its reader is here.
        let _ = reply.send(Outgoing::answer(bytes, true));
    }
    for message in batch.messages {
        if message.kind() == Kind::Request && modern::says_so(&message) {
            // It has no header of its own that could be held against it.
            let why = "a request of this revision must come alone";
            let bytes = error_response(message.id(), ErrorCode::InvalidRequest, why);
            let _ = reply.send(Outgoing::answer(bytes, true));
            continue;
        }
        let reply = match message.kind() {
            Kind::Request => reply.clone(),
            Kind::Notification | Kind::Response => stream(Bounds::REQUEST).0,
        };
        receive(shared, &session.session, message, reply);
    }
    drop(reply);
    match expected {
        0 => answer::empty(StatusCode::ACCEPTED),
        1.. => respond_all(shared, session, source, expected, accept).await,
    }
}

/// Plain JSON if the response comes first and soon, else an event stream.
async fn respond(
    shared: &Arc<Shared>,
    session: Arc<HttpSession>,
    mut source: Receiver,
    expected: usize,
    accept: Accept,
) -> Answer {
    if accept.events_first {
        return events(shared, session, source, expected, Vec::new());
    }
    // Where a stream can be primed, a slow answer becomes one before it comes.
    let first = if get::primes(&session) {
        tokio::select! {
            biased;
            first = source.recv() => first,
            () = shared.http.priming.wait() => {
                return events(shared, session, source, expected, Vec::new());
            }
        }
    } else {
        source.recv().await
    };
    match first {
        Some(message) if message.last => {
            session.touch(shared.now());
            answer::json(StatusCode::OK, message.bytes)
        }
        Some(message) => events(shared, session, source, expected, vec![message]),
        // Cancelled: there is no response.
        None => answer::empty(StatusCode::ACCEPTED),
    }
}

/// The same for a batch: one array, if nothing but responses comes.
async fn respond_all(
    shared: &Arc<Shared>,
    session: Arc<HttpSession>,
    mut source: Receiver,
    expected: usize,
    accept: Accept,
) -> Answer {
    let mut first = Vec::with_capacity(expected);
    let mut plain = !accept.events_first;
    while plain && first.len() < expected {
        match source.recv().await {
            Some(message) => {
                plain = message.last;
                first.push(message);
            }
            None => break,
        }
    }
    if !plain {
        return events(shared, session, source, expected, first);
    }
    session.touch(shared.now());
    let responses: Vec<Bytes> = first.into_iter().map(|message| message.bytes).collect();
    match responses.as_slice() {
        [] => answer::empty(StatusCode::ACCEPTED),
        responses => answer::json(StatusCode::OK, batch::join(responses)),
    }
}

/// An event stream that begins with what has come already.
fn events(
    shared: &Arc<Shared>,
    session: Arc<HttpSession>,
    source: Receiver,
    expected: usize,
    first: Vec<Outgoing>,
) -> Answer {
    let mut replay = session.replay();
    let ticket = replay.open(source, expected);
    let mark = get::primes(&session).then(|| replay.mark(ticket));
    let first: Vec<(u64, Bytes)> = first
        .into_iter()
        .map(|message| {
            (replay.push(ticket.stream, message.bytes.clone(), message.last), message.bytes)
        })
        .collect();
    drop(replay);
    let from = first.last().map(|(number, _)| *number).or(mark).map_or(0, |number| number + 1);
    let mut events = Events::new(shared, Source::Stream { session, ticket, from });
    if let Some(mark) = mark {
        events.prime(ticket.stream, mark);
    }
    for (number, bytes) in first {
        let id = Some(Position { stream: ticket.stream, number });
        events.message(Event { id, bytes });
    }
    answer::events(events)
}

/// The whole body, not copied if it came in one piece. `Err`: the answer.
pub(super) async fn body(
    connection: &Connection,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Bytes, Box<Answer>> {
    let refuse = |status, why: &str| Err(Box::new(answer::problem(status, why)));
    if !head::is_json(headers) {
        let why = "content-type must be application/json, without content-encoding";
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, why);
    }
    let limits = &connection.shared.limits;
    let body = collect(body, limits.message);
    match tokio::time::timeout(limits.body_time, body).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(Unread::TooLong)) => {
            let why = format!("a message may have at most {} bytes", limits.message);
            refuse(StatusCode::PAYLOAD_TOO_LARGE, &why)
        }
        Ok(Err(Unread::Broken)) => refuse(StatusCode::BAD_REQUEST, "the body did not come whole"),
        Err(_) => refuse(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"),
    }
}

enum Unread {
    TooLong,
    Broken,
}

async fn collect(mut body: Incoming, limit: usize) -> Result<Bytes, Unread> {
    // What the client announces is believed only so far.
    const AHEAD: usize = 1 << 20;
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced / 2 > limit {
        return Err(Unread::TooLong);
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut len = 0_usize;
    while let Some(data) = next(&mut body).await? {
        len = len.saturating_add(data.len());
        if len > limit {
            // A client that still writes would not see the answer; a limited while it is heard.
            rest = BytesMut::new();
            first = Bytes::new();
            if len / 2 > limit {
                return Err(Unread::TooLong);
            }
        } else if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if rest.is_empty() {
                rest.reserve(announced.min(AHEAD).max(first.len() + data.len()));
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&data);
        }
    }
    if len > limit {
        return Err(Unread::TooLong);
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

async fn next(body: &mut Incoming) -> Result<Option<Bytes>, Unread> {
    loop {
        let frame =
            std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context));
        match frame.await {
            None => return Ok(None),
            Some(Err(_)) => return Err(Unread::Broken),
            // Trailers say nothing here.
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}
