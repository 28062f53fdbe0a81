//! What a request's header fields say, as far as the transport cares.

use hyper::{
    HeaderMap,
    header::{self, HeaderName},
};

use crate::protocol::Version;

pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
pub(super) const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
pub(super) const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

pub(super) const METHOD: HeaderName = HeaderName::from_static("mcp-method");
pub(super) const NAME: HeaderName = HeaderName::from_static("mcp-name");
/// How the names of fields begin that repeat arguments.
pub(super) const PARAM: &str = "mcp-param-";

/// A field as text; `None` where it is missing or no ASCII.
pub(super) fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// True for a body that is declared as plain JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let media = text(headers, header::CONTENT_TYPE).and_then(|value| value.split(';').next());
    let plain = match headers.get(header::CONTENT_ENCODING) {
        None => true,
        Some(coding) => coding.as_bytes().eq_ignore_ascii_case(b"identity"),
    };
    plain && media.is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
}

/// What the client takes as an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Accept {
    pub(super) json: bool,
    pub(super) events: bool,
    /// Event streams are named, and before JSON: the client would rather have a stream.
    pub(super) events_first: bool,
}

impl Accept {
    /// A missing field takes everything.
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let mut accept = Self { json: false, events: false, events_first: false };
        let mut any = false;
        for value in headers.get_all(header::ACCEPT) {
            any = true;
            let ranges = value.to_str().unwrap_or_default().split(',');
            for range in ranges.filter_map(|range| range.split(';').next()) {
                let range = range.trim();
                let is = |name: &str| range.eq_ignore_ascii_case(name);
                if is("text/event-stream") {
                    accept.events_first |= !accept.json;
                    accept.events = true;
                } else if is("application/json") {
                    accept.json = true;
                } else if is("*/*") {
                    accept.json = true;
                    accept.events = true;
                } else if is("application/*") {
                    accept.json = true;
                } else if is("text/*") {
                    accept.events = true;
                }
            }
        }
        if any { accept } else { Self { json: true, events: true, events_first: false } }
    }
}

/// Whether the revision that a request names is the session's. `Err` says why not.
pub(super) fn check_version(
    headers: &HeaderMap,
    negotiated: Option<Version>,
) -> Result<(), String> {
    let Some(value) = headers.get(PROTOCOL_VERSION) else {
        return Ok(());
    };
    let named = value.to_str().ok().and_then(Version::parse);
    match (named, negotiated) {
        (None, _) => {
            let known: Vec<&str> = Version::ALL.iter().map(|version| version.as_str()).collect();
            Err(format!("mcp-protocol-version must be one of {}", known.join(", ")))
        }
        (Some(named), Some(negotiated)) if named != negotiated => Err(format!(
            "mcp-protocol-version is {named}, but this session was opened with {negotiated}"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn headers(name: HeaderName, values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn content_types() {
        for (value, expected) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/json ;x", true),
            ("application/jsonx", false),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
            ("multipart/form-data; application/json", false),
            ("", false),
        ] {
            assert_eq!(is_json(&headers(header::CONTENT_TYPE, &[value])), expected, "{value}");
        }
        assert!(!is_json(&HeaderMap::new()));
        let mut packed = headers(header::CONTENT_TYPE, &["application/json"]);
        packed.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(!is_json(&packed));
    }

    #[test]
    fn accepted_types() {
        let cases = [
            (vec![], true, true, false),
            (vec!["*/*"], true, true, false),
            (vec!["application/json, text/event-stream"], true, true, false),
            (vec!["application/json;q=1.0", "text/event-stream"], true, true, false),
            (vec!["text/event-stream, application/json"], true, true, true),
            (vec!["TEXT/event-stream;q=0.5,application/*"], true, true, true),
            (vec!["application/json"], true, false, false),
            (vec!["text/event-stream"], false, true, true),
            (vec!["text/html, */*"], true, true, false),
            (vec!["text/html"], false, false, false),
            (vec![""], false, false, false),
        ];
        for (values, json, events, events_first) in cases {
            let expected = Accept { json, events, events_first };
            assert_eq!(Accept::read(&headers(header::ACCEPT, &values)), expected, "{values:?}");
        }
    }

    #[test]
    fn versions() {
        let ours = Some(Version::V2025_06_18);
        let check = |value, negotiated| {
            check_version(&headers(PROTOCOL_VERSION, &[value]), negotiated).is_ok()
        };
        assert!(check_version(&HeaderMap::new(), ours).is_ok());
        assert!(check("2025-06-18", ours));
        assert!(check("2025-06-18", None));
        assert!(!check("2025-11-25", ours));
        assert!(!check("2099-01-01", None));
        assert!(!check("", ours));
    }
}
