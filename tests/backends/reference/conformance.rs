//! The `test_*` tools, whose names, arguments and results the conformance package asserts.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use hyper::http::request::Parts;
use serde_json::{Map, Value, json};

use crate::{
    answers::{Outcome, RED_PIXEL, SILENCE, content, text, tool_error},
    call::Call,
    catalog::tool,
    questions::{Question, Reply, ask, input_request, put},
    state::Change,
};

pub(crate) fn tools() -> Vec<Value> {
    let plain = |name: &str, description: &str| tool(name, description, json!({}));
    vec![
        plain("test_simple_text", "Returns one text"),
        plain("test_image_content", "Returns an image"),
        plain("test_audio_content", "Returns a sound"),
        plain("test_embedded_resource", "Returns a resource"),
        plain("test_multiple_content_types", "Returns a text, an image and a resource"),
        plain("test_tool_with_logging", "Logs three times"),
        plain("test_tool_with_progress", "Reports progress three times"),
        plain("test_error_handling", "Always fails"),
        tool(
            "test_sampling",
            "Asks the client's model",
            json!({ "!prompt": { "type": "string" } }),
        ),
        tool("test_elicitation", "Asks the user", json!({ "!message": { "type": "string" } })),
        plain("test_elicitation_sep1034_defaults", "Asks with a default for every primitive type"),
        plain("test_elicitation_sep1330_enums", "Asks with every kind of enumeration"),
        json_schema_tool(),
        plain("test_reconnection", "Drops the reply's stream; the reply waits to be fetched"),
        plain("test_streaming_elicitation", "Asks in the middle of a stream"),
        plain("test_logging_tool", "Logs at every level"),
        plain("test_missing_capability", "Needs the client to sample"),
        plain("test_trigger_tool_change", "Changes the list of tools"),
        plain("test_trigger_prompt_change", "Changes the list of prompts"),
        tool(
            "test_x_mcp_header",
            "Has an argument that HTTP clients repeat in a header",
            json!({ "!region": { "type": "string", "x-mcp-header": "Region" } }),
        ),
        plain("test_input_required_result_elicitation", "Asks for a name"),
        plain("test_input_required_result_sampling", "Asks the client's model for a capital"),
        plain("test_input_required_result_list_roots", "Asks for the roots"),
        plain("test_input_required_result_request_state", "Asks, with state"),
        plain("test_input_required_result_multiple_inputs", "Asks three things at once"),
        plain("test_input_required_result_multi_round", "Asks two things in turn"),
        plain("test_input_required_result_tampered_state", "Asks, with state that is checked"),
        plain("test_input_required_result_capabilities", "Asks only what the client can answer"),
    ]
}

/// JSON Schema 2020-12 keywords that a typed proxy would lose.
fn json_schema_tool() -> Value {
    json!({
        "name": "json_schema_2020_12_tool",
        "description": "Has a schema with JSON Schema 2020-12 features",
        "inputSchema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "$defs": { "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": { "street": { "type": "string" }, "city": { "type": "string" } }
            } },
            "properties": {
                "name": { "type": "string" },
                "address": { "$ref": "#/$defs/address" },
                "contactMethod": { "type": "string", "enum": ["phone", "email"] },
                "phone": { "type": "string" },
                "email": { "type": "string" }
            },
            "allOf": [{ "anyOf": [{ "required": ["phone"] }, { "required": ["email"] }] }],
            "if": { "properties": { "contactMethod": { "const": "phone" } }, "required": ["contactMethod"] },
            "then": { "required": ["phone"] },
            "else": { "required": ["email"] },
            "additionalProperties": false
        }
    })
}

pub(crate) async fn call(call: &Call) -> Option<Outcome> {
    Some(match call.params.name.as_ref() {
        "test_simple_text" => text("This is a simple text response for testing."),
        "test_image_content" => content(json!([image()])),
        "test_audio_content" => {
            content(json!([{ "type": "audio", "data": SILENCE, "mimeType": "audio/wav" }]))
        }
        "test_embedded_resource" => content(json!([{ "type": "resource", "resource": {
            "uri": "test://embedded-resource",
            "mimeType": "text/plain",
            "text": "This is an embedded resource content."
        } }])),
        "test_multiple_content_types" => content(json!([
            { "type": "text", "text": "Multiple content types test:" },
            image(),
            { "type": "resource", "resource": {
                "uri": "test://mixed-content-resource",
                "mimeType": "application/json",
                "text": r#"{"test":"data","value":123}"#
            } }
        ])),
        "test_tool_with_logging" => {
            call.log("info", "Tool execution started".into()).await;
            call.pause(50).await;
            call.log("info", "Tool processing data".into()).await;
            call.pause(50).await;
            call.log("info", "Tool execution completed".into()).await;
            text("logged three times")
        }
        "test_tool_with_progress" => {
            for progress in [0.0, 50.0, 100.0] {
                call.progress(progress, 100.0, None).await;
                call.pause(50).await;
            }
            text("progress reported")
        }
        "test_error_handling" => tool_error("This tool intentionally returns an error for testing"),
        "test_reconnection" => reconnection(call).await,
        "test_logging_tool" => {
            for level in crate::state::LOG_LEVELS {
                call.log(level, format!("a message of level {level}").into()).await;
            }
            text("logged at every level")
        }
        "test_trigger_tool_change" => {
            call.shared().extra_tool.fetch_xor(true, Relaxed);
            call.announce(Change::Tools).await;
            text("the list of tools changed")
        }
        "test_trigger_prompt_change" => {
            call.shared().extra_prompt.fetch_xor(true, Relaxed);
            call.announce(Change::Prompts).await;
            text("the list of prompts changed")
        }
        "test_x_mcp_header" => text(call.text_arg("region").unwrap_or_default()),
        name if name.starts_with("test_input_required_result_") => mrtr(call, name).await,
        _ => return asking(call).await,
    })
}

fn image() -> Value {
    json!({ "type": "image", "data": RED_PIXEL, "mimeType": "image/png" })
}

/// The tools that put one question in the middle of a call.
async fn asking(call: &Call) -> Option<Outcome> {
    let question = match call.params.name.as_ref() {
        "test_sampling" | "test_missing_capability" => {
            let prompt = call.text_arg("prompt").unwrap_or("Say something.");
            Question::sample("answer", prompt, 100)
        }
        "test_streaming_elicitation" => {
            call.progress(0.0, 1.0, Some("about to ask")).await;
            Question::field("answer", "What is your name?", "name")
        }
        "test_elicitation" => {
            let message = call.text_arg("message").unwrap_or("Who are you?");
            let schema = json!({
                "type": "object",
                "properties": {
                    "username": { "type": "string", "description": "User's response" },
                    "email": { "type": "string", "description": "User's email address" }
                },
                "required": ["username", "email"]
            });
            Question::form("answer", message, schema)
        }
        "test_elicitation_sep1034_defaults" => Question::form("answer", "Check these", defaults()),
        "test_elicitation_sep1330_enums" => Question::form("answer", "Choose", enumerations()),
        _ => return None,
    };
    let label = match call.params.name.as_ref() {
        "test_sampling" | "test_missing_capability" => "LLM response",
        "test_elicitation" | "test_streaming_elicitation" => "User response",
        _ => "Elicitation completed",
    };
    Some(call.ask(vec![question], |answers| text(describe(label, &answers["answer"]))).await)
}

fn describe(label: &str, answer: &Value) -> String {
    match (answer["content"]["text"].as_str(), answer["action"].as_str()) {
        (Some(said), _) => format!("{label}: {said}"),
        (None, Some(action)) => format!("{label}: action={action}, content={}", answer["content"]),
        (None, None) => format!("{label}: {answer}"),
    }
}

fn defaults() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "default": "John Doe" },
            "age": { "type": "integer", "default": 30 },
            "score": { "type": "number", "default": 95.5 },
            "status": { "type": "string", "enum": ["active", "inactive", "pending"], "default": "active" },
            "verified": { "type": "boolean", "default": true }
        },
        "required": []
    })
}

fn enumerations() -> Value {
    let titled = |stem: &str, noun: &str| {
        let number = ["First", "Second", "Third"];
        (1..=3)
            .map(|n| json!({ "const": format!("{stem}{n}"), "title": format!("{} {noun}", number[n - 1]) }))
            .collect::<Vec<_>>()
    };
    json!({
        "type": "object",
        "properties": {
            "untitledSingle": { "type": "string", "enum": ["option1", "option2", "option3"] },
            "titledSingle": { "type": "string", "oneOf": titled("value", "Option") },
            "legacyEnum": {
                "type": "string",
                "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"]
            },
            "untitledMulti": {
                "type": "array",
                "items": { "type": "string", "enum": ["option1", "option2", "option3"] }
            },
            "titledMulti": { "type": "array", "items": { "anyOf": titled("value", "Choice") } }
        },
        "required": []
    })
}

/// Ends the reply's SSE stream before the reply is there (SEP-1699); the client fetches it with
/// GET and Last-Event-ID. rmcp does not tell a handler which stream is its own: it is the newest
/// one open, as the suite makes no other call meanwhile. A child on stdio has no stream to drop:
/// it takes longer than the suite listens (10 s), so that the client leaves the stream itself and
/// whoever serves HTTP in front of us has to hand the reply over when it comes back.
async fn reconnection(call: &Call) -> Outcome {
    let mut pause = 11_000;
    let session = call.context.extensions.get::<Parts>();
    let session = session.and_then(|parts| parts.headers.get("mcp-session-id"));
    if let Some(id) = session.and_then(|id| id.to_str().ok()) {
        let handle = call.shared().http_sessions.sessions.read().await.get(id).cloned();
        if let Some(handle) = handle {
            for stream in (0..64).rev() {
                let retry = Some(Duration::from_millis(100));
                if handle.close_sse_stream(stream, retry).await.is_ok() {
                    pause = 100;
                    break;
                }
            }
        }
    }
    call.pause(pause).await;
    text("this reply came after its first stream was gone")
}

/// The tools of the `input_required` scenarios. A legacy client gets the same questions as
/// requests.
async fn mrtr(call: &Call, name: &str) -> Outcome {
    let state = |value: &str| Some(call.shared().seal(value));
    match name.trim_start_matches("test_input_required_result_") {
        "elicitation" => {
            let question = Question::field("user_name", "What is your name?", "name");
            call.ask(vec![question], |answers| {
                let name = answers["user_name"]["content"]["name"].as_str().unwrap_or("stranger");
                text(format!("Hello, {name}!"))
            })
            .await
        }
        "sampling" => {
            let question =
                Question::sample("capital_question", "What is the capital of France?", 100);
            let finish = |said: &Value| text(describe("LLM response", said));
            call.ask(vec![question], |answers| finish(&answers["capital_question"])).await
        }
        "list_roots" => {
            let question = Question::roots("client_roots");
            call.ask(vec![question], |answers| text(answers["client_roots"]["roots"].to_string()))
                .await
        }
        "request_state" | "tampered_state" => {
            let schema = json!({
                "type": "object", "properties": { "ok": { "type": "boolean" } }, "required": ["ok"]
            });
            let question = Question::form("confirm", "Please confirm", schema);
            let modern = call.is_modern();
            let echoed = call.state()?;
            call.ask_with_state(vec![question], state("confirm"), |_| match echoed {
                None if modern => tool_error("requestState is missing"),
                _ => text("state-ok"),
            })
            .await
        }
        "multiple_inputs" => {
            call.state()?;
            let questions = vec![
                Question::field("user_name", "What is your name?", "name"),
                Question::sample("greeting", "Generate a greeting", 50),
                Question::roots("client_roots"),
            ];
            call.ask_with_state(questions, state("multiple"), |answers| {
                text(json!(answers).to_string())
            })
            .await
        }
        "multi_round" => multi_round(call).await,
        _ => only_what_suits(call).await,
    }
}

async fn multi_round(call: &Call) -> Outcome {
    let step1 = Question::field("step1", "Step 1: What is your name?", "name");
    let step2 = Question::field("step2", "Step 2: What is your favorite color?", "color");
    let done = |answers: &Value| text(format!("both steps are done: {answers}"));
    let seal = |state: &str| Some(call.shared().seal(state));
    if !call.is_modern() {
        let mut said = Vec::new();
        for step in [step1, step2] {
            match ask(&call.context, None, vec![step], None).await? {
                Reply::Answers(answers) => said.extend(answers),
                Reply::NotYet(_) => unreachable!("a legacy client has answered"),
            }
        }
        return done(&said.into_iter().collect::<Value>());
    }
    match call.state()? {
        Some("round-2") => {
            call.ask_with_state(vec![step2], seal("round-2"), |answers| done(&json!(answers))).await
        }
        _ => {
            let mut name = None;
            let first = call
                .ask_with_state(vec![step1], seal("round-1"), |answers| {
                    name = answers.get("step1").cloned();
                    text("")
                })
                .await?;
            if name.is_none() {
                return Ok(first);
            }
            let open = [("step2".to_owned(), input_request(&step2))].into();
            Ok(rmcp::model::InputRequiredResult::new(Some(open), seal("round-2")).into())
        }
    }
}

/// A legacy client declared once what it can; what it then refuses is left out of the answer.
async fn only_what_suits(call: &Call) -> Outcome {
    let capabilities = call.context.client_capabilities().unwrap_or_default();
    let mut questions = vec![
        Question::field("user_name", "What is your name?", "name"),
        Question::sample("greeting", "Generate a greeting", 50),
        Question::roots("client_roots"),
    ];
    questions.retain(|question| question.suits(&capabilities));
    if call.is_modern() {
        return call.ask(questions, |answers| text(json!(answers).to_string())).await;
    }
    let answers = put(&call.context, questions).await?.into_iter();
    let given: Map<_, _> =
        answers.filter_map(|(key, answer)| Some((key.to_owned(), answer.ok()?))).collect();
    text(Value::from(given).to_string())
}
