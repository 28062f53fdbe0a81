//! HTTP+SSE, the transport of 2024-11-05: one event stream, and a path to post messages to.
//!
//! Everything goes back on the stream; a post is only acknowledged. The session lives as long as
//! its stream.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use hyper::{Request, StatusCode, body::Incoming, http::request::Parts};

use super::{
    answer::{self, Answer},
    connection::Connection,
    events::{Events, Source},
    head, post, route,
};
use crate::{
    frontend::batch,
    gateway::{Session, Transport},
    policy::Principal,
    protocol::{
        ErrorCode, Message,
        stream::{Bounds, Sender, stream},
    },
};

/// All open event streams by the id of their session.
#[derive(Default)]
pub(super) struct Clients(Mutex<HashMap<String, Arc<Client>>>);

pub(super) struct Client {
    session: Arc<Session>,
    replies: Sender,
}

impl Clients {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Client>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, principal: &Principal, id: &str) -> Option<Arc<Client>> {
        let client = Arc::clone(self.lock().get(id)?);
        (*client.session.principal() == *principal).then_some(client)
    }

    pub(super) fn end(&self, client: &Client) {
        self.lock().remove(client.session.id());
        client.session.close();
    }
}

/// `GET /sse`: the stream, which begins by naming the path to post to.
pub(super) fn open(
    connection: &Connection,
    principal: &Arc<Principal>,
    server: Option<&str>,
    request: &Request<Incoming>,
) -> Answer {
    let shared = &connection.shared;
    if !head::Accept::read(request.headers()).events {
        return answer::problem(
            StatusCode::NOT_ACCEPTABLE,
            "accept must allow text/event-stream here",
        );
    }
    if shared.drain.is_cancelled() {
        return route::draining();
    }
    let hello = route::hello(principal, server, Transport::Sse);
    let session = match shared.gateway.open(hello) {
        Ok(session) => session,
        Err(error) => return route::not_opened(&error, None),
    };
    let (replies, source) = stream(Bounds::CONNECTION);
    session.attach(replies.clone());
    let path = format!("/messages/?session_id={}", session.id());
    let client = Arc::new(Client { session, replies });
    shared.http.sse.lock().insert(client.session.id().to_owned(), Arc::clone(&client));
    let mut events = Events::new(shared, Source::Client { client, source });
    events.endpoint(&path);
    answer::events(events)
}

/// `POST /messages/?session_id=`.
pub(super) async fn post(
    connection: &Connection,
    principal: &Principal,
    request: Request<Incoming>,
) -> Answer {
    let shared = &connection.shared;
    let (Parts { uri, headers, .. }, body) = request.into_parts();
    let query = uri.query().unwrap_or_default();
    let id = query.split('&').find_map(|pair| pair.strip_prefix("session_id="));
    let Some(id) = id else {
        return answer::problem(StatusCode::BAD_REQUEST, "session_id is missing");
    };
    let Some(client) = shared.http.sse.find(principal, id) else {
        return answer::problem(
            StatusCode::NOT_FOUND,
            "no such session; open an event stream with GET /sse first",
        );
    };
    let body = match post::body(connection, &headers, body).await {
        Ok(body) => body,
        Err(answer) => return *answer,
    };
    let session = &client.session;
    if batch::is_batch(&body) && session.version().is_some_and(|version| version.has_batches()) {
        let batch = match batch::split(&body, shared.limits.batch) {
            Ok(batch) => batch,
            Err(error) => return answer::json(StatusCode::BAD_REQUEST, error),
        };
        for refused in batch.refused {
            // A stream that is lost ends by itself.
            let _ = client.replies.notify(refused);
        }
        for message in batch.messages {
            post::receive(shared, session, message, client.replies.clone());
        }
    } else {
        match Message::parse(body) {
            Ok(message) => post::receive(shared, session, message, client.replies.clone()),
            Err(invalid) => {
                return answer::json(StatusCode::BAD_REQUEST, batch::refusal(&invalid));
            }
        }
    }
    if client.replies.is_closed() {
        let why = "the event stream was not read fast enough and is lost";
        return answer::refuse(StatusCode::NOT_FOUND, None, ErrorCode::Internal, why);
    }
    answer::text(StatusCode::ACCEPTED, "Accepted")
}
