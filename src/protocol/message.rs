//! One JSON-RPC message: its bytes, and where in them the parts lie that the gateway looks at.

use std::{borrow::Cow, fmt, ops::Range};

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::value::RawValue;

use super::envelope::Envelope;

/// Where a part lies in its message's bytes.
pub type Span = Range<usize>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request,
    Notification,
    /// A result or an error.
    Response,
}

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// Not JSON.
    Json(String),
    /// JSON, but no JSON-RPC message; with the id where one could be read.
    Message { id: Option<String>, why: &'static str },
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(why) => write!(f, "not valid json: {why}"),
            Self::Message { why, .. } => f.write_str(why),
        }
    }
}

/// A parsed envelope over its own bytes. Cloning shares the bytes.
#[derive(Clone, Debug)]
pub struct Message {
    text: ByteString,
    kind: Kind,
    id: Option<Span>,
    method: Option<Span>,
    params: Params,
    result: Option<Span>,
    has_error: bool,
}

#[derive(Clone, Debug, Default)]
struct Params {
    name: Option<Span>,
    uri: Option<Span>,
    task_id: Option<Span>,
    request_id: Option<Span>,
    token: Option<Span>,
    /// `params.progressToken` itself, of a progress notification.
    progress_of: Option<Span>,
    related_task: Option<Span>,
    has_task: bool,
    request_state: Option<Span>,
    responses: Option<Span>,
    // What `_meta` says of a request of the stateless revision, and of a notification in it.
    version: Option<Span>,
    capabilities: Option<Span>,
    level: Option<Span>,
    subscription: Option<Span>,
}

impl Message {
    /// Scans the bytes once.
    pub fn parse(bytes: Bytes) -> Result<Self, Invalid> {
        let whole = ByteString::try_from(bytes).map_err(|error| {
            Invalid::Json(format!("invalid utf-8 at byte {}", error.valid_up_to()))
        })?;
        let text: &str = &whole;
        let envelope: Envelope<'_> =
            serde_json::from_str(text).map_err(|error| invalid(text, &error))?;
        let span = |raw: &RawValue| span_in(text, raw.get());
        let id = match envelope.id.map(RawValue::get) {
            None | Some("null") => None,
            Some(id)
                if id.starts_with(['"', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) =>
            {
                Some(span_in(text, id))
            }
            Some(_) => {
                return Err(Invalid::Message { id: None, why: "id must be a string or a number" });
            }
        };
        let id_text = || id.clone().map(|id| text[id].to_owned());
        if let Some(why) = envelope.clash() {
            return Err(Invalid::Message { id: id_text(), why });
        }
        if envelope.jsonrpc.map(RawValue::get) != Some("\"2.0\"") {
            return Err(Invalid::Message { id: id_text(), why: "jsonrpc must be \"2.0\"" });
        }
        let outcome = envelope.result.is_some() || envelope.error.is_some();
        let kind = match (&envelope.method, &id, outcome) {
            (Some(method), _, false) if !method.get().starts_with('"') => {
                return Err(Invalid::Message { id: id_text(), why: "method must be a string" });
            }
            (Some(_), Some(_), false) => Kind::Request,
            (Some(_), None, false) if envelope.id.is_some() => {
                return Err(Invalid::Message { id: None, why: "a request's id must not be null" });
            }
            (Some(_), None, false) => Kind::Notification,
            (None, _, true) => Kind::Response,
            _ => {
                return Err(Invalid::Message {
                    id: id_text(),
                    why: "neither a request, a notification nor a response",
                });
            }
        };
        let found = envelope.params.unwrap_or_default();
        let params = Params {
            name: found.name.map(span),
            uri: found.uri.map(span),
            task_id: found.task_id.map(span),
            request_id: found.request_id.map(span),
            token: found.meta.token.map(span),
            progress_of: found.progress_of.map(span),
            related_task: found.meta.related_task.task_id.map(span),
            has_task: found.task.is_some(),
            request_state: found.request_state.map(span),
            responses: found.responses.map(span),
            version: found.meta.version.map(span),
            capabilities: found.meta.capabilities.map(span),
            level: found.meta.level.map(span),
            subscription: found.meta.subscription.map(span),
        };
        let method = envelope.method.map(span);
        let result = envelope.result.map(span);
        let has_error = envelope.error.is_some();
        Ok(Message { kind, id, method, params, result, has_error, text: whole })
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn bytes(&self) -> &Bytes {
        self.text.as_bytes()
    }

    pub fn into_bytes(self) -> Bytes {
        self.text.into_bytes()
    }

    fn raw(&self, span: Option<&Span>) -> Option<&str> {
        span.map(|span| &self.text[span.clone()])
    }

    fn string(&self, span: Option<&Span>) -> Option<Cow<'_, str>> {
        self.raw(span).and_then(unquote)
    }

    /// The id as it was written: JSON text of a string or number.
    pub fn id(&self) -> Option<&str> {
        self.raw(self.id.as_ref())
    }

    /// The method, or the empty string for a response.
    pub fn method(&self) -> Cow<'_, str> {
        self.string(self.method.as_ref()).unwrap_or_default()
    }

    pub fn is_error(&self) -> bool {
        self.has_error
    }

    /// `params.name`.
    pub fn name(&self) -> Option<Cow<'_, str>> {
        self.string(self.params.name.as_ref())
    }

    /// `params.uri`.
    pub fn uri(&self) -> Option<Cow<'_, str>> {
        self.string(self.params.uri.as_ref())
    }

    /// `params.taskId`.
    pub fn task_id(&self) -> Option<Cow<'_, str>> {
        self.string(self.params.task_id.as_ref())
    }

    /// The task that `_meta` relates this message to.
    pub fn related_task(&self) -> Option<Cow<'_, str>> {
        self.string(self.params.related_task.as_ref())
    }

    /// True when `params.task` asks for a task.
    pub fn wants_task(&self) -> bool {
        self.params.has_task
    }

    /// `params.requestId` of a cancellation, as JSON text.
    pub fn request_id(&self) -> Option<&str> {
        self.raw(self.params.request_id.as_ref())
    }

    /// `params._meta.progressToken` of a request, as JSON text.
    pub fn progress_token(&self) -> Option<&str> {
        self.raw(self.params.token.as_ref())
    }

    /// `params.progressToken` of a progress notification, as JSON text.
    pub fn progress_of(&self) -> Option<&str> {
        self.raw(self.params.progress_of.as_ref())
    }

    /// `params` as JSON text, found anew.
    pub fn raw_params(&self) -> Option<&str> {
        super::member(&self.text, "params").map(|span| &self.text[span])
    }

    /// `params.requestState`, as JSON text.
    pub fn request_state(&self) -> Option<&str> {
        self.raw(self.params.request_state.as_ref())
    }

    /// `params.inputResponses`, as JSON text.
    pub fn input_responses(&self) -> Option<&str> {
        self.raw(self.params.responses.as_ref())
    }

    /// The revision that `_meta` names, as JSON text. Only requests of the stateless one have it.
    pub fn version(&self) -> Option<&str> {
        self.raw(self.params.version.as_ref())
    }

    /// The client's capabilities in `_meta`, as JSON text.
    pub fn client_capabilities(&self) -> Option<&str> {
        self.raw(self.params.capabilities.as_ref())
    }

    /// The log level that `_meta` asks for, as JSON text.
    pub fn log_level(&self) -> Option<&str> {
        self.raw(self.params.level.as_ref())
    }

    /// The subscription that `_meta` assigns a notification to, as JSON text.
    pub fn subscription(&self) -> Option<&str> {
        self.raw(self.params.subscription.as_ref())
    }

    /// `params` of any shape, scanned anew. For the messages that the gateway answers itself.
    pub fn params<T: DeserializeOwned + Default>(&self) -> Result<T, serde_json::Error> {
        #[derive(Deserialize)]
        struct Whole<T> {
            params: Option<T>,
        }
        let whole: Whole<T> = serde_json::from_str(&self.text)?;
        Ok(whole.params.unwrap_or_default())
    }

    /// `result` as JSON text.
    pub fn result(&self) -> Option<&str> {
        self.raw(self.result.as_ref())
    }

    /// `result.resultType`, where there is one and it is not `complete`. Scans the result only if
    /// it could be one.
    pub fn unfinished(&self) -> Option<Cow<'_, str>> {
        let result = self.result()?;
        memchr::memmem::find(result.as_bytes(), b"resultType")?;
        super::string_member(result, "resultType").filter(|kind| kind != "complete")
    }

    /// The message with another result, JSON text, in place of its own.
    pub fn with_result(&self, result: &str) -> Bytes {
        let mut edit = self.edit();
        edit = edit.cut(self.result.as_ref(), result);
        edit.finish()
    }

    /// The message with other parameters, which `change` makes of these; `{}` where it has none.
    pub fn with_params(&self, change: impl FnOnce(&str) -> String) -> Result<Self, Invalid> {
        let text: &str = &self.text;
        let changed = match super::member(text, "params") {
            Some(span) => {
                let params = change(&text[span.clone()]);
                format!("{}{params}{}", &text[..span.start], &text[span.end..])
            }
            None => super::edited(text, &[], &[("params", &change("{}"))]),
        };
        Message::parse(changed.into())
    }

    /// `error.message` and the whole error as JSON text, scanned anew.
    pub fn error(&self) -> Option<(String, &str)> {
        #[derive(Deserialize)]
        struct Whole<'a> {
            #[serde(borrow)]
            error: Option<&'a RawValue>,
        }
        #[derive(Deserialize)]
        struct Error {
            #[serde(default)]
            message: String,
        }
        let raw = serde_json::from_str::<Whole<'_>>(&self.text).ok()?.error?.get();
        let message = serde_json::from_str::<Error>(raw).map(|error| error.message);
        Some((message.unwrap_or_default(), raw))
    }

    /// `error.code`, scanned anew.
    pub fn error_code(&self) -> Option<i64> {
        let (_, raw) = self.error()?;
        super::member(raw, "code").and_then(|span| raw[span].parse().ok())
    }

    /// The message with some parts replaced, everything else as it was, newlines blanked.
    pub fn edit(&self) -> Edit<'_> {
        Edit { message: self, cuts: Vec::with_capacity(3) }
    }
}

/// Replacements at byte ranges.
#[must_use]
pub struct Edit<'a> {
    message: &'a Message,
    cuts: Vec<(Span, Cow<'a, str>)>,
}

impl<'a> Edit<'a> {
    fn cut(mut self, span: Option<&Span>, with: impl Into<Cow<'a, str>>) -> Self {
        if let Some(span) = span {
            self.cuts.push((span.clone(), with.into()));
        }
        self
    }

    /// Replaces the id by JSON text.
    pub fn id(self, json: impl Into<Cow<'a, str>>) -> Self {
        let span = self.message.id.as_ref();
        self.cut(span, json)
    }

    /// Replaces `params.name` by a string.
    pub fn name(self, name: &str) -> Self {
        let span = self.message.params.name.as_ref();
        self.cut(span, quote(name))
    }

    /// Replaces `params.taskId` by a string.
    pub fn task_id(self, id: &str) -> Self {
        let span = self.message.params.task_id.as_ref();
        self.cut(span, quote(id))
    }

    /// Replaces `params._meta.progressToken` by JSON text.
    pub fn progress_token(self, json: impl Into<Cow<'a, str>>) -> Self {
        let span = self.message.params.token.as_ref();
        self.cut(span, json)
    }

    /// Replaces `params.requestState` by JSON text.
    pub fn request_state(self, json: impl Into<Cow<'a, str>>) -> Self {
        let span = self.message.params.request_state.as_ref();
        self.cut(span, json)
    }

    /// Replaces `params.progressToken` by JSON text.
    pub fn progress_of(self, json: impl Into<Cow<'a, str>>) -> Self {
        let span = self.message.params.progress_of.as_ref();
        self.cut(span, json)
    }

    /// Replaces `params.requestId` by JSON text.
    pub fn request_id(self, json: impl Into<Cow<'a, str>>) -> Self {
        let span = self.message.params.request_id.as_ref();
        self.cut(span, json)
    }

    /// The edited message, without a newline anywhere.
    pub fn finish(self) -> Bytes {
        self.build(0).freeze()
    }

    /// The edited message as one line with its newline at the end.
    pub fn line(self) -> Bytes {
        let mut line = self.build(1);
        line.put_u8(b'\n');
        line.freeze()
    }

    fn build(mut self, spare: usize) -> BytesMut {
        self.cuts.sort_unstable_by_key(|(span, _)| span.start);
        let added: usize = self.cuts.iter().map(|(_, with)| with.len()).sum();
        let source = self.message.text.as_bytes();
        let mut out = BytesMut::with_capacity(source.len() + added + spare);
        let mut at = 0;
        for (span, with) in &self.cuts {
            out.extend_from_slice(&source[at..span.start]);
            out.extend_from_slice(with.as_bytes());
            at = span.end;
        }
        out.extend_from_slice(&source[at..]);
        blank_newlines(&mut out);
        out
    }
}

/// Raw newlines in JSON are always insignificant; on a line-framed transport they would end the
/// message early.
pub fn blank_newlines(json: &mut [u8]) {
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'\n', b'\r', &json[at..]) {
        json[at + found] = b' ';
        at += found + 1;
    }
}

fn quote(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

fn unquote(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(json).ok().map(Cow::Owned)
}

fn span_in(whole: &str, part: &str) -> Span {
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.len()
}

fn invalid(text: &str, error: &serde_json::Error) -> Invalid {
    // Distinguish "not JSON" from "JSON of another shape", which deserves another code.
    if error.is_data() && serde_json::from_str::<IgnoredAny>(text).is_ok() {
        Invalid::Message { id: None, why: "not a json-rpc message" }
    } else {
        Invalid::Json(error.to_string())
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
