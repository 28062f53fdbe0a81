//! Asking the client something in the middle of a request, in whichever way its era has.
//!
//! Legacy: requests of ours to the client, all at once, answered before we go on. Modern: an
//! `input_required` result; the client calls again with the answers.

use std::collections::BTreeMap;

use rmcp::{
    ErrorData, RoleServer, ServiceError,
    model::{
        ClientCapabilities, CustomRequest, InputRequest, InputRequiredResult, InputResponses,
        ServerRequest,
    },
    service::{PeerRequestOptions, RequestContext},
};
use serde_json::{Value, json};

use crate::{answers::typed, era::AskedAs};

pub(crate) struct Question {
    pub(crate) key: &'static str,
    pub(crate) method: &'static str,
    pub(crate) params: Value,
}

pub(crate) enum Reply {
    Answers(BTreeMap<&'static str, Value>),
    /// Return this to the client, which will come back.
    NotYet(InputRequiredResult),
}

impl Question {
    pub(crate) fn form(key: &'static str, message: &str, schema: Value) -> Self {
        let params = json!({ "message": message, "requestedSchema": schema });
        Self { key, method: "elicitation/create", params }
    }

    /// A form of one required string.
    pub(crate) fn field(key: &'static str, message: &str, field: &str) -> Self {
        let schema = json!({
            "type": "object", "properties": { field: { "type": "string" } }, "required": [field]
        });
        Self::form(key, message, schema)
    }

    pub(crate) fn sample(key: &'static str, prompt: &str, max_tokens: u32) -> Self {
        let params = json!({
            "messages": [{ "role": "user", "content": { "type": "text", "text": prompt } }],
            "maxTokens": max_tokens
        });
        Self { key, method: "sampling/createMessage", params }
    }

    pub(crate) fn roots(key: &'static str) -> Self {
        Self { key, method: "roots/list", params: json!({}) }
    }

    fn capability(&self) -> &'static str {
        match self.method {
            "sampling/createMessage" => "sampling",
            "roots/list" => "roots",
            _ => "elicitation",
        }
    }

    /// Whether the client could answer, going by what it declared.
    pub(crate) fn suits(&self, capabilities: &ClientCapabilities) -> bool {
        match self.capability() {
            "sampling" => capabilities.sampling.is_some(),
            "roots" => capabilities.roots.is_some(),
            _ => capabilities.elicitation.is_some(),
        }
    }

    /// The code for this is of the modern era: the legacy one has none of its own.
    fn missing(&self, modern: bool) -> ErrorData {
        let capability = self.capability();
        if modern {
            ErrorData::missing_required_client_capability(typed(json!({ capability: {} })))
        } else {
            ErrorData::invalid_request(format!("the client did not declare {capability}"), None)
        }
    }

    /// Whether a value has the shape of an answer to this question.
    fn fits(&self, answer: &Value) -> bool {
        match self.capability() {
            "sampling" => answer.get("content").is_some(),
            "roots" => answer["roots"].is_array(),
            _ => answer["action"].is_string(),
        }
    }
}

/// Whether a request is of the era without `initialize`.
pub(crate) fn is_modern(context: &RequestContext<RoleServer>) -> bool {
    context.protocol_version().is_some_and(|version| !version.has_initialize())
}

/// Asks, or collects what an earlier round asked. `state` goes with an unfinished round.
pub(crate) async fn ask(
    context: &RequestContext<RoleServer>,
    given: Option<&InputResponses>,
    questions: Vec<Question>,
    state: Option<String>,
) -> Result<Reply, ErrorData> {
    let capabilities = context.client_capabilities().unwrap_or_default();
    if let Some(question) = questions.iter().find(|question| !question.suits(&capabilities)) {
        return Err(question.missing(is_modern(context)));
    }
    if is_modern(context) {
        collect(given, questions, state)
    } else {
        request(context, questions).await
    }
}

fn collect(
    given: Option<&InputResponses>,
    questions: Vec<Question>,
    state: Option<String>,
) -> Result<Reply, ErrorData> {
    let mut answers = BTreeMap::new();
    let mut open = BTreeMap::new();
    for question in questions {
        match given.and_then(|given| given.get(question.key)).filter(|given| question.fits(given)) {
            Some(answer) => drop(answers.insert(question.key, answer.clone())),
            None => drop(open.insert(question.key.to_owned(), input_request(&question))),
        }
    }
    if open.is_empty() {
        return Ok(Reply::Answers(answers));
    }
    Ok(Reply::NotYet(InputRequiredResult::new(Some(open), state)))
}

pub(crate) fn input_request(question: &Question) -> InputRequest {
    typed(json!({ "method": question.method, "params": question.params }))
}

async fn request(
    context: &RequestContext<RoleServer>,
    questions: Vec<Question>,
) -> Result<Reply, ErrorData> {
    let mut answers = BTreeMap::new();
    for (key, answer) in put(context, questions).await? {
        answers.insert(key, answer?);
    }
    Ok(Reply::Answers(answers))
}

/// Sends all questions to a legacy client, then waits for all its answers.
pub(crate) async fn put(
    context: &RequestContext<RoleServer>,
    questions: Vec<Question>,
) -> Result<Vec<(&'static str, Result<Value, ErrorData>)>, ErrorData> {
    let mut open = Vec::new();
    for question in questions {
        // As a custom request the params go out as written: rmcp's own types would drop the
        // schema keywords they do not know.
        let mut request = CustomRequest::new(question.method, Some(question.params));
        request.extensions.insert(AskedAs(question.key));
        let request = ServerRequest::CustomRequest(request);
        let options = PeerRequestOptions::no_options();
        let sent = context.peer.send_request_with_option(request, options).await;
        open.push((question.key, sent.map_err(refused)?));
    }
    let mut answers = Vec::new();
    for (key, sent) in open {
        let answer = sent.await_response().await.map_err(refused);
        let answer = answer.and_then(|answer| {
            serde_json::to_value(answer)
                .map_err(|error| ErrorData::internal_error(error.to_string(), None))
        });
        answers.push((key, answer));
    }
    Ok(answers)
}

/// The client's own error is passed on as it came.
fn refused(error: ServiceError) -> ErrorData {
    match error {
        ServiceError::McpError(error) => error,
        other => ErrorData::internal_error(format!("no answer from the client: {other}"), None),
    }
}
