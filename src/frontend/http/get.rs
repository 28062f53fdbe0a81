//! `GET` and `DELETE` on a Streamable HTTP session: its event streams, and its end.

use std::{pin::pin, sync::Arc};

use hyper::{HeaderMap, Request, StatusCode, body::Incoming};

use super::{
    answer::{self, Answer},
    connection::Connection,
    events::{Events, Source},
    head,
    replay::{GENERAL, Position},
    route,
    sessions::HttpSession,
};
use crate::{
    policy::Principal,
    protocol::{
        ErrorCode, Version,
        stream::{Bounds, stream},
    },
};

/// What may wait for a general stream that nobody reads, or reads too slowly.
const WAITING: Bounds = Bounds { messages: 256, bytes: 8 << 20 };

/// The session that a request names. `Err`: the answer.
pub(super) fn session(
    connection: &Connection,
    principal: &Principal,
    server: Option<&str>,
    headers: &HeaderMap,
    id: Option<&str>,
) -> Result<Arc<HttpSession>, Box<Answer>> {
    let refuse = |status, why: &str| {
        Err(Box::new(answer::refuse(status, id, ErrorCode::InvalidRequest, why)))
    };
    if !headers.contains_key(head::SESSION_ID) {
        return refuse(StatusCode::BAD_REQUEST, "mcp-session-id is missing; initialize first");
    }
    let shared = &connection.shared;
    let found = head::text(headers, head::SESSION_ID)
        .and_then(|session| shared.http.sessions.find(shared, principal, server, session));
    let Some(session) = found else {
        return refuse(StatusCode::NOT_FOUND, "no such session; initialize anew");
    };
    if let Err(why) = head::check_version(headers, session.session.version()) {
        return refuse(StatusCode::BAD_REQUEST, &why);
    }
    Ok(session)
}

/// The general stream, or with `Last-Event-ID` any stream of the session.
pub(super) async fn answer(
    connection: &Connection,
    principal: &Principal,
    server: Option<&str>,
    request: &Request<Incoming>,
) -> Answer {
    let shared = &connection.shared;
    let headers = request.headers();
    if !head::Accept::read(headers).events {
        return answer::problem(
            StatusCode::NOT_ACCEPTABLE,
            "accept must allow text/event-stream here",
        );
    }
    let session = match session(connection, principal, server, headers, None) {
        Ok(session) => session,
        Err(answer) => return *answer,
    };
    if shared.drain.is_cancelled() {
        return route::draining();
    }
    let last = match headers.get(head::LAST_EVENT_ID) {
        None => None,
        Some(value) => match value.to_str().ok().and_then(Position::parse) {
            Some(position) => Some(position),
            None => return nothing_to_resume(),
        },
    };
    if last.is_none_or(|last| last.stream == GENERAL) {
        if last.is_none() && !is_free(connection, &session).await {
            let why = "this session has a general stream already";
            return answer::problem(StatusCode::CONFLICT, why);
        }
        attach(&session);
    }
    let taken = match last {
        Some(last) => session.replay().resume(last),
        None => session.replay().take(GENERAL),
    };
    let Some((ticket, from)) = taken else {
        return nothing_to_resume();
    };
    let primes = last.is_none() && primes(&session);
    let mark = primes.then(|| session.replay().mark(ticket));
    let from = mark.map_or(from, |mark| mark + 1);
    let mut events = Events::new(shared, Source::Stream { session, ticket, from });
    match mark {
        Some(mark) => events.prime(ticket.stream, mark),
        None => events.comment(),
    }
    answer::events(events)
}

/// Since 2025-11-25 a stream begins with an event to come back to.
pub(super) fn primes(session: &HttpSession) -> bool {
    session.session.version().is_some_and(|version| version >= Version::V2025_11_25)
}

/// Where the former connection has ended, its end may not have been noticed yet.
async fn is_free(connection: &Connection, session: &HttpSession) -> bool {
    let free = async {
        loop {
            let mut gone = pin!(session.gone.notified());
            gone.as_mut().enable();
            if !session.replay().general_is_read() {
                return;
            }
            gone.await;
        }
    };
    tokio::time::timeout(connection.shared.limits.takeover, free).await.is_ok()
}

/// Sees to it that the gateway's messages reach the general stream.
fn attach(session: &HttpSession) {
    let mut replay = session.replay();
    if !replay.general_is_open() {
        let (general, source) = stream(WAITING);
        replay.open_general(source);
        drop(replay);
        session.session.attach(general);
    }
}

fn nothing_to_resume() -> Answer {
    answer::problem(
        StatusCode::BAD_REQUEST,
        "last-event-id names nothing that can be resumed here; open a stream without it",
    )
}

/// Ends a session.
pub(super) fn delete(
    connection: &Connection,
    principal: &Principal,
    server: Option<&str>,
    request: &Request<Incoming>,
) -> Answer {
    match session(connection, principal, server, request.headers(), None) {
        Ok(session) => {
            connection.shared.http.sessions.close(&session);
            answer::empty(StatusCode::NO_CONTENT)
        }
        Err(answer) => *answer,
    }
}
