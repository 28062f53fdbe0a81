//! The eras this server speaks, and what a server of one era says to a client of the other.
//!
//! rmcp serves both eras and lets versions be left out, which is not the same as a server that has
//! never heard of the other era: [`Stdio`] and [`refuse`] make up the difference.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use hyper::{
    HeaderMap, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use rmcp::{
    ErrorData, RoleServer,
    model::{
        ClientJsonRpcMessage, ClientRequest, DiscoverRequestMethod, GetMeta, PingRequestMethod,
        ProtocolVersion, RequestId, ServerJsonRpcMessage, ServerNotification, ServerRequest,
    },
    transport::Transport,
};
use serde_json::json;
use tokio_util::task::TaskTracker;

use crate::state::Shared;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Era {
    /// Both, as the client opens
    Dual,
    /// 2024-11-05 to 2025-11-25, with `initialize`
    Legacy,
    /// 2026-07-28, without
    Modern,
}

impl Era {
    /// The versions of this era up to `newest`, oldest first.
    pub(crate) fn versions(self, newest: &ProtocolVersion) -> Cow<'static, [ProtocolVersion]> {
        let known = ProtocolVersion::known_up_to(newest);
        let legacy = known.iter().take_while(|version| version.has_initialize()).count();
        Cow::Borrowed(match self {
            Self::Dual => known,
            Self::Legacy => &known[..legacy],
            Self::Modern => &known[legacy..],
        })
    }
}

/// The name that a question to the client has as its JSON-RPC id on stdio, in place of rmcp's
/// number. It is the key that the same question has in an `input_required` result.
#[derive(Clone)]
pub(crate) struct AskedAs(pub(crate) &'static str);

/// rmcp's transport over stdin and stdout, for a server of one era.
pub(crate) struct Stdio<T> {
    inner: T,
    era: Era,
    /// A modern request has come, so rmcp has left its start-up, in which it takes only requests.
    open: bool,
    /// rmcp's number of each question that went out under a name.
    asked: HashMap<RequestId, RequestId>,
    replies: TaskTracker,
    shared: Arc<Shared>,
}

impl<T: Transport<RoleServer>> Stdio<T> {
    pub(crate) fn new(inner: T, era: Era, shared: Arc<Shared>) -> Self {
        let (asked, replies) = (HashMap::new(), TaskTracker::new());
        Self { inner, era, open: false, asked, replies, shared }
    }

    /// What this server says to a message of the other era, if it is one.
    fn foreign(&self, message: &ClientJsonRpcMessage) -> Option<ErrorData> {
        let ClientJsonRpcMessage::Request(message) = message else { return None };
        match (self.era, &message.request) {
            (Era::Legacy, ClientRequest::DiscoverRequest(_)) => {
                Some(ErrorData::method_not_found::<DiscoverRequestMethod>())
            }
            (Era::Modern, ClientRequest::InitializeRequest(asked)) => {
                let asked = asked.params.protocol_version.clone();
                Some(ErrorData::unsupported_protocol_version(asked, &self.shared.versions))
            }
            (Era::Modern, ClientRequest::PingRequest(_)) => {
                Some(ErrorData::method_not_found::<PingRequestMethod>())
            }
            _ => None,
        }
    }

    /// Whether the message means something to nobody: a notification before any request.
    fn early(&mut self, message: &ClientJsonRpcMessage) -> bool {
        match message {
            ClientJsonRpcMessage::Request(message) => {
                let newest = ProtocolVersion::NO_INITIALIZE;
                let complete = message.request.get_meta().missing_required_keys(&newest).is_empty();
                let probe = matches!(message.request, ClientRequest::DiscoverRequest(_));
                self.open |= complete && !probe;
                false
            }
            _ => self.era == Era::Modern && !self.open,
        }
    }

    /// The id under which a question goes out: its name, with a number if that is taken.
    fn rename(&mut self, id: &RequestId, name: &str) -> RequestId {
        let free = (1..)
            .map(|number| match number {
                1 => RequestId::String(name.into()),
                _ => RequestId::String(format!("{name}-{number}").into()),
            })
            .find(|named| !self.asked.contains_key(named));
        let named = free.unwrap_or_else(|| id.clone());
        self.asked.insert(named.clone(), id.clone());
        named
    }
}

impl<T: Transport<RoleServer> + 'static> Transport<RoleServer> for Stdio<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        mut message: ServerJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        match &mut message {
            ServerJsonRpcMessage::Request(question) => {
                if let ServerRequest::CustomRequest(request) = &question.request
                    && let Some(AskedAs(name)) = request.extensions.get().cloned()
                {
                    question.id = self.rename(&question.id, name);
                }
            }
            ServerJsonRpcMessage::Notification(message) => {
                if let ServerNotification::CancelledNotification(cancelled) =
                    &mut message.notification
                {
                    let id = &mut cancelled.params.request_id;
                    let named = self.asked.iter().find(|(_, number)| Some(*number) == id.as_ref());
                    if let Some((named, _)) = named {
                        *id = Some(named.clone());
                    }
                }
            }
            _ => {}
        }
        self.inner.send(message)
    }

    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            let Some(mut message) = self.inner.receive().await else {
                self.shared.ending.cancel();
                self.replies.close();
                self.replies.wait().await;
                return None;
            };
            if let Some(error) = self.foreign(&message) {
                if let ClientJsonRpcMessage::Request(request) = message {
                    // rmcp drops this future when it has something to send; a reply must not go
                    // with it.
                    let reply = ServerJsonRpcMessage::error(error, Some(request.id));
                    self.replies.spawn(self.inner.send(reply));
                }
                continue;
            }
            if self.early(&message) {
                continue;
            }
            let answered = match &mut message {
                ClientJsonRpcMessage::Response(answer) => Some(&mut answer.id),
                ClientJsonRpcMessage::Error(error) => error.id.as_mut(),
                _ => None,
            };
            if let Some(id) = answered
                && let Some(number) = self.asked.remove(id)
            {
                *id = number;
            }
            return Some(message);
        }
    }

    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.inner.close()
    }
}

/// What a legacy server says over HTTP to a version that came after it: a status and a body that
/// tell a client of both eras to go back to `initialize`.
pub(crate) fn refuse(era: Era, headers: &HeaderMap) -> Option<Response<String>> {
    let version = headers.get("mcp-protocol-version")?.to_str().ok()?;
    let known = ProtocolVersion::KNOWN_VERSIONS.iter();
    let legacy: Vec<_> =
        known.filter(|known| known.has_initialize()).map(ProtocolVersion::as_str).collect();
    if era != Era::Legacy || legacy.contains(&version) {
        return None;
    }
    let message = format!(
        "Bad Request: Unsupported protocol version: {version} (supported versions: {})",
        legacy.join(", ")
    );
    let error =
        json!({ "jsonrpc": "2.0", "id": null, "error": { "code": -32000, "message": message } });
    let mut response = Response::new(error.to_string());
    *response.status_mut() = StatusCode::BAD_REQUEST;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Some(response)
}
