//! The gateway's own questions to a backend.

use std::{borrow::Cow, time::Duration};

use super::{Call, Link, stderr};
use crate::protocol::{
    Era, MODERN, Message, edited, member, members,
    stream::{self, Bounds, stream},
};

/// Why the gateway's own question to a backend has no result.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("{0}")]
    Answered(String),
    #[error("ended before it answered")]
    Gone,
    #[error("no answer to {method} within {} s", after.as_secs_f32())]
    Late { method: String, after: Duration },
}

/// A request of the gateway's own.
pub struct Asked<'a> {
    link: &'a Link,
    id: u64,
    pub answers: stream::Receiver,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        // One that is answered is not known any more.
        self.link.cancel(self.id, None, "no answer is needed any more");
    }
}

impl Link {
    /// Asks on the gateway's own behalf; the answer may be an error. `params` is JSON text.
    pub async fn ask(
        &self,
        method: &str,
        params: &str,
        within: Duration,
    ) -> Result<Message, AskError> {
        let mut asked = self.open(method, params)?;
        let answer = tokio::time::timeout(within, asked.answers.recv()).await;
        let late = |_| AskError::Late { method: method.to_owned(), after: within };
        let answer = answer.map_err(late)?;
        let answer = answer.and_then(|answer| Message::parse(answer.bytes).ok());
        answer.ok_or(AskError::Gone)
    }

    /// Sends a request of the gateway's own; what belongs to it can be heard from the value, and
    /// dropping that cancels it.
    pub fn open(&self, method: &str, params: &str) -> Result<Asked<'_>, AskError> {
        let (reply, answers) = stream(Bounds::REQUEST);
        let call = Call {
            id: "0".into(),
            token: None,
            session: 0,
            client: 0,
            owner: 0,
            may_ask: false,
            reply,
        };
        let params = match self.info() {
            Some(info) if info.era == Era::Modern => Cow::Owned(with_own_meta(params)),
            _ => Cow::Borrowed(params),
        };
        let text =
            format!("{{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"{method}\",\"params\":{params}}}");
        let request =
            Message::parse(text.into()).map_err(|why| AskError::Answered(why.to_string()))?;
        let id = self.request(&request, None, call).map_err(|_| AskError::Gone)?;
        Ok(Asked { link: self, id, answers })
    }

    /// The backend has ended a request of ours without an answer: a subscription.
    pub fn dropped(&self, id: &str) {
        if let Ok(id) = id.trim_matches('"').parse() {
            self.pending().drop_own(id);
        }
    }

    /// Asks, and takes nothing but a result.
    pub async fn ask_result(
        &self,
        method: &str,
        params: &str,
        within: Duration,
    ) -> Result<Message, AskError> {
        let answer = self.ask(method, params, within).await?;
        match answer.error() {
            // What all who wait are told at a child's end is no answer of its own.
            Some(_) if !self.is_open() => Err(AskError::Gone),
            Some((text, _)) => Err(AskError::Answered(stderr::told(&text))),
            None => Ok(answer),
        }
    }
}

/// What the gateway says of itself in a request of the stateless revision, as members of `_meta`.
/// For its own questions: those of clients carry the client's words.
pub fn own_meta() -> String {
    let client =
        concat!(r#"{"name":"mcp-gateway","version":""#, env!("CARGO_PKG_VERSION"), r#""}"#);
    let capabilities = r#"{"sampling":{},"elicitation":{"form":{},"url":{}},"roots":{},"extensions":{"io.modelcontextprotocol/tasks":{},"io.modelcontextprotocol/ui":{"mimeTypes":["text/html;profile=mcp-app"]}}}"#;
    format!(
        r#"{{"io.modelcontextprotocol/protocolVersion":"{MODERN}","io.modelcontextprotocol/clientInfo":{client},"io.modelcontextprotocol/clientCapabilities":{capabilities}}}"#
    )
}

fn with_own_meta(params: &str) -> String {
    let own = own_meta();
    let meta = member(params, "_meta").map(|span| &params[span]);
    let set = members(&own).unwrap_or_default();
    let set: Vec<(&str, &str)> = set.iter().map(|(key, value)| (key.as_ref(), *value)).collect();
    edited(params, &[], &[("_meta", &edited(meta.unwrap_or("{}"), &[], &set))])
}
