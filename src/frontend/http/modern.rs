//! The modern era over HTTP (2026-07-28, streamable HTTP): every message is a request of its own,
//! its answer ends it, and leaving takes it back.
//!
//! The header says again what the body says, for those who look no further; that both say the
//! same is checked here, but for what only the tool's definition knows.

use std::sync::Arc;

use hyper::{HeaderMap, StatusCode, header::HeaderName};

use super::{
    answer::{self, Answer},
    connection::Connection,
    events::{Event, Events, Source},
    head::{self, Accept},
    route,
};
use crate::{
    frontend::Shared,
    gateway::Leave,
    policy::Principal,
    protocol::{
        ErrorCode, Kind, Message, Version, decode_field, method,
        stream::{Bounds, Outgoing, Receiver, stream},
    },
};

/// Whether a message is of the modern era: by what it says of itself, or by a revision in its
/// header that no session can have. A session that it names is none of its business.
pub(super) fn is_modern(headers: &HeaderMap, message: &Message) -> bool {
    let named = head::text(headers, head::PROTOCOL_VERSION);
    // Which revision a session is to have `initialize` says, not its header.
    let newer = named.is_some_and(|named| Version::parse(named).is_none())
        && !headers.contains_key(head::SESSION_ID)
        && message.method() != method::INITIALIZE;
    let stateless = named == Some(crate::protocol::MODERN);
    stateless || newer || says_so(message)
}

/// What the message itself says.
pub(super) fn says_so(message: &Message) -> bool {
    let new = matches!(message.method().as_ref(), method::DISCOVER | method::LISTEN);
    message.version().is_some()
        || message.client_capabilities().is_some()
        || (new && message.kind() == Kind::Request)
}

pub(super) async fn answer(
    connection: &Arc<Connection>,
    principal: &Arc<Principal>,
    server: Option<&str>,
    headers: &HeaderMap,
    message: Message,
    accept: Accept,
) -> Answer {
    match message.kind() {
        Kind::Request => {}
        // None has a meaning here: who leaves has taken its request back.
        Kind::Notification => return answer::empty(StatusCode::ACCEPTED),
        Kind::Response => {
            let why = "servers of this revision ask nothing that could be answered";
            return answer::problem(StatusCode::BAD_REQUEST, why);
        }
    }
    if let Err(why) = check(headers, &message) {
        let why = format!("Header mismatch: {why}");
        let status = StatusCode::BAD_REQUEST;
        return answer::refuse(status, message.id(), ErrorCode::HeaderMismatch, &why);
    }
    let shared = &connection.shared;
    if shared.drain.is_cancelled() {
        return route::draining();
    }
    let id = message.id().map(str::to_owned);
    let hello = route::hello(principal, server, connection.transport);
    let (reply, source) = stream(Bounds::REQUEST);
    let (leave, work) = match shared.gateway.single(hello, message, fields(headers), &reply) {
        Ok(taken) => taken,
        Err(error) => return route::not_opened(&error, id.as_deref()),
    };
    drop(reply);
    if let Some(work) = work {
        shared.tracker.spawn(work);
    }
    respond(shared, leave, source, accept).await
}

/// Plain JSON if the response comes first, else an event stream: nobody takes it up again, and
/// some clients take larger answers in one piece. One that lets others wait for long becomes a
/// stream of signs of life.
async fn respond(
    shared: &Arc<Shared>,
    leave: Leave,
    mut source: Receiver,
    accept: Accept,
) -> Answer {
    let first = tokio::select! {
        biased;
        first = source.recv() => first,
        () = tokio::time::sleep(shared.limits.heartbeat), if accept.events => {
            return events(shared, leave, source, None);
        }
    };
    match first {
        Some(response) if response.last && (response.failed || !accept.events_first) => {
            answer::json(status(&response), response.bytes)
        }
        Some(first) => events(shared, leave, source, Some(first)),
        None => answer::empty(StatusCode::ACCEPTED),
    }
}

fn events(shared: &Arc<Shared>, leave: Leave, source: Receiver, first: Option<Outgoing>) -> Answer {
    let mut events = Events::new(shared, Source::Single { source, _leave: leave });
    match first {
        Some(first) => events.message(Event { id: None, bytes: first.bytes }),
        None => events.comment(),
    }
    answer::events(events)
}

/// What HTTP says of a response (streamable HTTP, "Protocol Version Header" and "Server
/// Validation"; basic, `_meta`).
fn status(response: &Outgoing) -> StatusCode {
    if !response.failed {
        return StatusCode::OK;
    }
    let code = Message::parse(response.bytes.clone()).ok().and_then(|error| error.error_code());
    let is = |known: ErrorCode| code == Some(i64::from(known.number()));
    if is(ErrorCode::MethodNotFound) {
        StatusCode::NOT_FOUND
    } else if is(ErrorCode::HeaderMismatch)
        || is(ErrorCode::MissingCapability)
        || is(ErrorCode::UnsupportedVersion)
    {
        StatusCode::BAD_REQUEST
    } else {
        StatusCode::OK
    }
}

/// That the header says what the body says. What the body lacks is said by whoever reads it.
fn check(headers: &HeaderMap, message: &Message) -> Result<(), String> {
    let named = only(headers, &head::PROTOCOL_VERSION)?;
    let named = named.ok_or("MCP-Protocol-Version is missing")?;
    let version = message.version().and_then(|raw| serde_json::from_str::<String>(raw).ok());
    if version.is_none() || message.client_capabilities().is_none() {
        // The body is not in order, which is worse.
        return Ok(());
    }
    if version.is_some_and(|version| version != named) {
        return Err(format!("MCP-Protocol-Version is {named}, and the body says another one"));
    }
    if named != crate::protocol::MODERN {
        return Ok(());
    }
    let method = only(headers, &head::METHOD)?.ok_or("Mcp-Method is missing")?;
    if method != message.method() {
        return Err(format!("Mcp-Method is {method}, and the method another one"));
    }
    let (what, required) = match message.method().as_ref() {
        method::TOOLS_CALL | method::PROMPTS_GET => (message.name(), true),
        method::RESOURCES_READ => (message.uri(), true),
        method::TASKS_GET | method::TASKS_UPDATE | method::TASKS_CANCEL => {
            (message.task_id(), false)
        }
        _ => return Ok(()),
    };
    let name = only(headers, &head::NAME)?.map(decode_field).transpose();
    let name = name.map_err(|why| format!("Mcp-Name {why}"))?;
    match (what, name) {
        (Some(what), Some(name)) if what != name => {
            Err(format!("Mcp-Name is {name}, and the body names something else"))
        }
        (Some(_), None) if required => Err("Mcp-Name is missing".to_owned()),
        (None, Some(_)) => Err("Mcp-Name names something, and the body nothing".to_owned()),
        _ => Ok(()),
    }
}

/// A field's text; a field that comes twice might be read as either.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, String> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(format!("{name} comes more than once"));
    }
    let text = value.to_str().map_err(|_| format!("{name} has invalid characters"))?;
    Ok(Some(text))
}

/// The fields that repeat arguments, by the part of their name that the tool has chosen. Which of
/// them mean anything only the tool's definition says; what is no text is said to be none.
fn fields(headers: &HeaderMap) -> Vec<(String, String)> {
    let own = |name: &HeaderName| name.as_str().strip_prefix(head::PARAM).map(str::to_owned);
    let text =
        |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().filter_map(|(name, value)| Some((own(name)?, text(value)))).collect()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn call(method: &str, params: &str) -> Message {
        let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
        let comma = if params.is_empty() { "" } else { "," };
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params}{comma}{meta}}}}}"#
        );
        Message::parse(text.into()).unwrap()
    }

    #[test]
    fn the_header_says_what_the_body_says() {
        const V: (&str, &str) = ("MCP-Protocol-Version", "2026-07-28");
        const CALL: (&str, &str) = ("Mcp-Method", "tools/call");
        let tool = call("tools/call", r#""name":"é t""#);
        let encoded = ("Mcp-Name", "=?base64?w6kgdA==?=");
        let list = call("tools/list", "");
        for (fields, message, fine) in [
            (vec![V, CALL, encoded], &tool, true),
            (vec![V, ("mcp-METHOD", "tools/call"), encoded], &tool, true),
            (vec![V, ("Mcp-Method", "TOOLS/CALL"), encoded], &tool, false),
            (vec![V, CALL], &tool, false),
            (vec![V, encoded], &tool, false),
            (vec![CALL, encoded], &tool, false),
            (vec![("MCP-Protocol-Version", "2025-11-25"), CALL, encoded], &tool, false),
            (vec![V, CALL, ("Mcp-Name", "=?base64?w6kgdA=?=")], &tool, false),
            (vec![V, CALL, ("Mcp-Name", "=?base64?!?=")], &tool, false),
            (vec![V, CALL, ("Mcp-Name", "=?base64?/w==?=")], &tool, false),
            (vec![V, CALL, ("Mcp-Name", "t")], &tool, false),
            (vec![V, CALL, encoded, encoded], &tool, false),
            (vec![V, V, CALL, encoded], &tool, false),
            (vec![V, CALL, ("Mcp-Name", "\u{e9} t")], &tool, false),
            (vec![V, ("Mcp-Method", "tools/list")], &list, true),
            (vec![V, ("Mcp-Method", "tools/list"), ("Mcp-Name", "x")], &list, true),
            (vec![V, CALL], &list, false),
        ] {
            let checked = check(&headers(&fields), message);
            assert_eq!(checked.is_ok(), fine, "{fields:?}: {checked:?}");
        }
    }

    #[test]
    fn which_messages_are_of_the_modern_era() {
        let old =
            Message::parse(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#.into()).unwrap();
        let discover =
            Message::parse(r#"{"jsonrpc":"2.0","id":1,"method":"server/discover"}"#.into())
                .unwrap();
        let initialize =
            Message::parse(r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#.into()).unwrap();
        let new = call("tools/list", "");
        for (fields, message, modern) in [
            (vec![], &old, false),
            (vec![("mcp-protocol-version", "2025-11-25")], &old, false),
            (vec![("mcp-protocol-version", "2026-07-28")], &old, true),
            (vec![("mcp-protocol-version", "2099-01-01")], &old, true),
            (vec![("mcp-protocol-version", "2099-01-01"), ("mcp-session-id", "a")], &old, false),
            (vec![("mcp-protocol-version", "2026-07-28"), ("mcp-session-id", "a")], &old, true),
            (vec![("mcp-protocol-version", "2099-01-01")], &initialize, false),
            (vec![("mcp-protocol-version", "2026-07-28")], &initialize, true),
            (vec![], &discover, true),
            (vec![], &new, true),
            (vec![("mcp-session-id", "a")], &new, true),
        ] {
            assert_eq!(is_modern(&headers(&fields), message), modern, "{fields:?}");
        }
    }
}
