//! Messages of one era in the words of the other. Pure.
//!
//! Values stay as they were written; members are set and left out around them.

use serde_json::{Map, Value, json};

use crate::{
    gateway::router::Request,
    protocol::{Era, ErrorCode, MODERN, Message, edited, member, stream::Outgoing, string_member},
};

/// The extension that only the modern era has in this form.
pub(in crate::gateway) const TASKS_EXTENSION: &str = "io.modelcontextprotocol/tasks";

/// What `_meta` of a modern request says for the gateway's ears, and a retry in `params`.
const SAID: [&str; 4] = [
    "io.modelcontextprotocol/protocolVersion",
    "io.modelcontextprotocol/clientInfo",
    "io.modelcontextprotocol/clientCapabilities",
    "io.modelcontextprotocol/logLevel",
];
pub(super) const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";
const RETRIED: [&str; 2] = ["inputResponses", "requestState"];

/// A modern client's parameters for a legacy backend, which may refuse the modern words.
pub(in crate::gateway) fn legacy_request(params: &str) -> String {
    let Some(span) = member(params, "_meta") else { return edited(params, &RETRIED, &[]) };
    let meta = edited(&params[span], &SAID, &[]);
    if meta == "{}" {
        return edited(params, &["_meta", RETRIED[0], RETRIED[1]], &[]);
    }
    edited(params, &RETRIED, &[("_meta", &meta)])
}

/// A legacy client's parameters for a modern backend: with what it said in `initialize` (JSON
/// text of its parameters, and its capabilities in modern words) and its log level.
pub(in crate::gateway) fn modern_request(
    params: &str,
    said: &str,
    capabilities: &str,
    level: Option<&str>,
) -> String {
    let version = format!("\"{MODERN}\"");
    let mut set = vec![(SAID[0], version.as_str()), (SAID[2], capabilities)];
    if let Some(client) = member(said, "clientInfo") {
        set.push((SAID[1], &said[client]));
    }
    let level = level.map(|level| format!("\"{level}\""));
    if let Some(level) = &level {
        set.push((SAID[3], level));
    }
    let meta = member(params, "_meta").map_or("{}", |span| &params[span]);
    edited(params, &[], &[("_meta", &edited(meta, &[], &set))])
}

/// A legacy client's capabilities as the modern era has them. What it cannot have, such as tasks
/// of that form, is not promised.
pub(in crate::gateway) fn modern_capabilities(said: &Value) -> Value {
    let mut capabilities = Map::new();
    for key in ["sampling", "elicitation", "roots", "experimental", "extensions"] {
        if let Some(value) = said.get(key).filter(|value| value.is_object()) {
            capabilities.insert(key.to_owned(), value.clone());
        }
    }
    if let Some(extensions) = capabilities.get_mut("extensions").and_then(Value::as_object_mut) {
        extensions.remove(TASKS_EXTENSION);
    }
    // Where list changes of roots are told, nobody would hear them.
    if let Some(roots) = capabilities.get_mut("roots") {
        *roots = json!({});
    }
    capabilities.into()
}

/// A result for a modern client: `resultType`, who serves it, and how long it may be kept where
/// that has to be said (basic, "ResultType" and `_meta`; caching).
pub(in crate::gateway) fn complete(result: &str, server: &str, scope: Option<&str>) -> String {
    const SERVER: &str = "io.modelcontextprotocol/serverInfo";
    let meta = member(result, "_meta").map_or("{}", |span| &result[span]);
    let meta = match member(meta, SERVER) {
        Some(_) => meta.to_owned(),
        None => edited(meta, &[], &[(SERVER, server)]),
    };
    let mut set = vec![("_meta", meta.as_str())];
    if member(result, "resultType").is_none() {
        set.push(("resultType", "\"complete\""));
    }
    let quoted = scope.map(|scope| format!("\"{scope}\""));
    if let Some(scope) = &quoted {
        if member(result, "ttlMs").is_none() {
            set.push(("ttlMs", "0"));
        }
        if member(result, "cacheScope").is_none() || scope == "\"private\"" {
            set.push(("cacheScope", scope));
        }
    }
    edited(result, &[], &set)
}

/// A modern backend's complete result for a legacy client.
pub(in crate::gateway) fn legacy_result(result: &str) -> String {
    edited(result, &["resultType", "ttlMs", "cacheScope"], &[])
}

/// A legacy backend's error for a modern client, which knows other codes; the error's JSON text.
pub(in crate::gateway) fn modern_error(error: &str) -> String {
    recoded(error, ErrorCode::ResourceNotFound, ErrorCode::InvalidParams)
}

/// A modern backend's error for a legacy client that has asked for `uri`, if for any.
pub(in crate::gateway) fn legacy_error(error: &str, uri: Option<&str>) -> String {
    let about = member(error, "data").and_then(|data| string_member(&error[data], "uri"));
    match (uri, about) {
        // A resource that is not there has its URI in `data` (resources, "Error Handling").
        (Some(uri), Some(about)) if uri == about => {
            recoded(error, ErrorCode::InvalidParams, ErrorCode::ResourceNotFound)
        }
        _ => error.to_owned(),
    }
}

fn recoded(error: &str, from: ErrorCode, to: ErrorCode) -> String {
    match member(error, "code") {
        Some(span) if error[span.clone()] == from.number().to_string() => {
            edited(error, &[], &[("code", &to.number().to_string())])
        }
        _ => error.to_owned(),
    }
}

/// A backend's error response for a client of either era, under the id of its request.
pub(in crate::gateway) fn error_between(
    answer: &Message,
    spoken: Era,
    wanted: Era,
    request: &Request<'_>,
) -> Outgoing {
    let raw = answer.error().map(|(_, raw)| raw.to_owned()).unwrap_or_default();
    let error = match (spoken, wanted) {
        (Era::Legacy, Era::Modern) => modern_error(&raw),
        (Era::Modern, Era::Legacy) => legacy_error(&raw, request.message.uri().as_deref()),
        _ => raw,
    };
    Outgoing::answer(with_error(answer, request.id(), &error), true)
}

/// What a modern backend tells on a subscription, without the subscription's name.
pub(super) fn without_subscription(params: &str) -> String {
    without_meta(params, SUBSCRIPTION)
}

/// The parameters of a legacy backend's question without what the modern era has no place for.
pub(in crate::gateway) fn modern_question(params: &str) -> String {
    let params = without_meta(params, "progressToken");
    match member(&params, "elicitationId") {
        Some(_) => edited(&params, &["elicitationId"], &[]),
        None => params,
    }
}

fn without_meta(params: &str, key: &str) -> String {
    let Some(span) = member(params, "_meta") else { return params.to_owned() };
    match edited(&params[span], &[key], &[]) {
        meta if meta == "{}" => edited(params, &["_meta"], &[]),
        meta => edited(params, &[], &[("_meta", &meta)]),
    }
}

/// What a modern server tells on a subscription, under this name of it, JSON text.
pub(super) fn with_subscription(params: &str, id: &str) -> String {
    let meta = member(params, "_meta").map_or("{}", |span| &params[span]);
    edited(params, &[], &[("_meta", &edited(meta, &[], &[(SUBSCRIPTION, id)]))])
}

/// A message with this error, JSON text, in place of its own.
pub(super) fn with_error(message: &Message, id: &str, error: &str) -> bytes::Bytes {
    debug_assert!(message.is_error());
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modern_request_loses_its_modern_words_and_nothing_else() {
        let params = r#"{"name":"t","arguments":{"big":12345678901234567890},"inputResponses":{},"requestState":"s","_meta":{"progressToken":1,"traceparent":"00-a","io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}"#;
        assert_eq!(
            legacy_request(params),
            r#"{"name":"t","arguments":{"big":12345678901234567890},"_meta":{"progressToken":1,"traceparent":"00-a"}}"#
        );
        let bare = r#"{"uri":"u","_meta":{"io.modelcontextprotocol/logLevel":"info"}}"#;
        assert_eq!(legacy_request(bare), r#"{"uri":"u"}"#);
        assert_eq!(legacy_request("{}"), "{}");
    }

    #[test]
    fn a_legacy_request_says_what_its_client_said() {
        let said = r#"{"protocolVersion":"2025-11-25","capabilities":{"roots":{"listChanged":true},"elicitation":{"url":{}},"tasks":{},"extensions":{"io.modelcontextprotocol/tasks":{},"io.modelcontextprotocol/ui":{"mimeTypes":["a"]}}},"clientInfo":{"name":"c","x":1.0}}"#;
        let capabilities: Value =
            serde_json::from_str(&said[member(said, "capabilities").unwrap()]).unwrap();
        let capabilities = modern_capabilities(&capabilities).to_string();
        let params = r#"{"name":"t","_meta":{"traceparent":"00-a"}}"#;
        let params = modern_request(params, said, &capabilities, Some("info"));
        let params: Value = serde_json::from_str(&params).unwrap();
        assert_eq!(
            params,
            json!({"name": "t", "_meta": {
                "traceparent": "00-a",
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientInfo": {"name": "c", "x": 1.0},
                "io.modelcontextprotocol/clientCapabilities": {
                    "roots": {}, "elicitation": {"url": {}},
                    "extensions": {"io.modelcontextprotocol/ui": {"mimeTypes": ["a"]}},
                },
                "io.modelcontextprotocol/logLevel": "info",
            }})
        );
        let empty: Value = serde_json::from_str(&modern_request("{}", "", "{}", None)).unwrap();
        assert_eq!(empty["_meta"]["io.modelcontextprotocol/clientCapabilities"], json!({}));
    }

    #[test]
    fn a_subscriptions_name_comes_and_goes() {
        let plain = r#"{"uri":"u","x":1.0}"#;
        let named = with_subscription(plain, "\"a\"");
        assert_eq!(
            named,
            r#"{"uri":"u","x":1.0,"_meta":{"io.modelcontextprotocol/subscriptionId":"a"}}"#
        );
        assert_eq!(with_subscription(&named, "7"), named.replace("\"a\"", "7"));
        assert_eq!(without_subscription(&named), plain);
        assert_eq!(without_subscription(plain), plain);
        assert_eq!(without_subscription(r#"{"_meta":{"k":1}}"#), r#"{"_meta":{"k":1}}"#);
    }

    #[test]
    fn results_and_errors_change_their_marks_and_keep_their_contents() {
        let server = r#"{"name":"s"}"#;
        let modern = complete(r#"{"content":[1.0],"_meta":{"x":1}}"#, server, None);
        assert_eq!(
            modern,
            r#"{"content":[1.0],"_meta":{"x":1,"io.modelcontextprotocol/serverInfo":{"name":"s"}},"resultType":"complete"}"#
        );
        assert_eq!(complete(&modern, "0", None), modern, "what is there stays");
        let read =
            complete(r#"{"contents":[],"cacheScope":"public","ttlMs":5}"#, server, Some("private"));
        assert!(read.contains(r#""cacheScope":"private","ttlMs":5"#), "{read}");
        assert!(legacy_result(&read).starts_with(r#"{"contents":[],"_meta""#));
        assert!(!legacy_result(&read).contains("resultType"));

        let missing = r#"{"code":-32002,"message":"no","data":{"uri":"u"}}"#;
        let other = r#"{"code":-32602,"message":"no","data":{"uri":"u"}}"#;
        assert_eq!(modern_error(missing), other);
        assert_eq!(legacy_error(other, Some("u")), missing);
        for uri in [None, Some("v")] {
            assert_eq!(legacy_error(other, uri), other);
        }
        assert_eq!(modern_error(r#"{"code":-5}"#), r#"{"code":-5}"#);
    }
}
