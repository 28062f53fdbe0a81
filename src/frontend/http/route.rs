//! From a request line to what answers it. The path is taken as it was sent.

use std::sync::Arc;

use bytes::Bytes;
use hyper::{Method, Request, StatusCode, body::Incoming, header};

use super::{
    answer::{self, Answer},
    connection::Connection,
    control::{self, Word},
    get, origin, post, sse,
};
use crate::{
    gateway::{Hello, Layer, OpenError, Transport},
    policy::Principal,
    protocol::ErrorCode,
};

#[derive(Debug, PartialEq, Eq)]
enum Route {
    Mcp(Option<String>),
    Sse(Option<String>),
    Messages,
    Health,
}

pub(super) async fn answer(connection: &Arc<Connection>, request: Request<Incoming>) -> Answer {
    let checked = origin::check(connection.hosts.as_ref(), request.uri(), request.headers());
    if let Err((status, why)) = checked {
        tracing::debug!(why, "a request is refused");
        return answer::problem(status, &why);
    }
    if connection.transport == Transport::Unix
        && let Some(word) = Word::of(request.uri().path())
    {
        return control::answer(connection, word, request.method()).await;
    }
    let principal = &match connection.principal() {
        Ok(principal) => principal,
        Err(why) => return answer::problem(StatusCode::FORBIDDEN, &why),
    };
    let Some(route) = route(request.uri().path()) else {
        return answer::problem(
            StatusCode::NOT_FOUND,
            "no such path; there are /mcp, /mcp/<server>, /sse and /health",
        );
    };
    match (route, request.method()) {
        (Route::Mcp(server), &Method::POST) => {
            post::answer(connection, principal, server.as_deref(), request).await
        }
        (Route::Mcp(server), &Method::GET) => {
            get::answer(connection, principal, server.as_deref(), &request).await
        }
        (Route::Mcp(server), &Method::DELETE) => {
            get::delete(connection, principal, server.as_deref(), &request)
        }
        (Route::Mcp(_), _) => answer::method_not_allowed("GET, POST, DELETE"),
        (Route::Sse(server), &Method::GET) => {
            sse::open(connection, principal, server.as_deref(), &request)
        }
        (Route::Sse(_), _) => answer::method_not_allowed("GET"),
        (Route::Messages, &Method::POST) => sse::post(connection, principal, request).await,
        (Route::Messages, _) => answer::method_not_allowed("POST"),
        (Route::Health, &Method::GET | &Method::HEAD) => {
            let health = connection.shared.gateway.health();
            answer::json(StatusCode::OK, Bytes::from(health.to_string()))
        }
        (Route::Health, _) => answer::method_not_allowed("GET, HEAD"),
    }
}

fn route(path: &str) -> Option<Route> {
    match path {
        "/mcp" | "/mcp/" => return Some(Route::Mcp(None)),
        "/sse" | "/sse/" => return Some(Route::Sse(None)),
        "/messages" | "/messages/" => return Some(Route::Messages),
        "/health" => return Some(Route::Health),
        _ => {}
    }
    if let Some(name) = path.strip_prefix("/mcp/") {
        return Some(Route::Mcp(Some(decode(name)?)));
    }
    Some(Route::Sse(Some(decode(path.strip_prefix("/sse/")?)?)))
}

/// One path segment, percent-decoded.
fn decode(segment: &str) -> Option<String> {
    if segment.contains('/') {
        return None;
    }
    let mut bytes = segment.bytes();
    let mut out = Vec::with_capacity(segment.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(out).ok()
}

/// What a client of ours says when it opens a session.
pub(super) fn hello(
    principal: &Arc<Principal>,
    server: Option<&str>,
    transport: Transport,
) -> Hello {
    let layer = server.map_or(Layer::Aggregate, |name| Layer::Server(name.to_owned()));
    Hello { principal: Arc::clone(principal), layer, cwd: None, transport }
}

/// The answer to a client for whom no session could be opened.
pub(super) fn not_opened(error: &OpenError, id: Option<&str>) -> Answer {
    let (status, code) = match error {
        OpenError::UnknownServer(_) => (StatusCode::NOT_FOUND, ErrorCode::InvalidRequest),
        OpenError::TooMany => (StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Internal),
        OpenError::Refused(response) => {
            return answer::json(StatusCode::BAD_REQUEST, response.clone());
        }
    };
    answer::refuse(status, id, code, &error.to_string())
}

/// The answer to what would outlive us.
pub(super) fn draining() -> Answer {
    let why = "the gateway is shutting down";
    let mut answer =
        answer::refuse(StatusCode::SERVICE_UNAVAILABLE, None, ErrorCode::Internal, why);
    answer.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let server = |name: &str| Some(Route::Mcp(Some(name.to_owned())));
        for (path, expected) in [
            ("/mcp", Some(Route::Mcp(None))),
            ("/mcp/", Some(Route::Mcp(None))),
            ("/mcp/git", server("git")),
            ("/mcp/a%20b", server("a b")),
            ("/mcp/a%2Fb", server("a/b")),
            ("/mcp/%c3%a9", server("\u{e9}")),
            ("/sse", Some(Route::Sse(None))),
            ("/sse/git", Some(Route::Sse(Some("git".to_owned())))),
            ("/messages", Some(Route::Messages)),
            ("/messages/", Some(Route::Messages)),
            ("/health", Some(Route::Health)),
            ("/", None),
            ("/mcpx", None),
            ("/mcp/a/b", None),
            ("/mcp/a%2", None),
            ("/mcp/a%zz", None),
            ("/mcp/%+1", None),
            ("/mcp/%ff", None),
            ("//mcp", None),
            ("/MCP", None),
            ("/health/", None),
            ("/sse/../mcp", None),
        ] {
            assert_eq!(route(path), expected, "{path}");
        }
    }
}
