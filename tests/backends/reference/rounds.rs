//! Tools that ask the client again and again, or send the user to a page first. In the modern era
//! they keep nothing between the rounds: what was said is in the state that the client brings back.

use std::sync::atomic::Ordering::Relaxed;

use rmcp::{ErrorData, model::ErrorCode};
use serde_json::{Value, json};

use crate::{
    answers::{Outcome, json_text, text, tool_error},
    call::Call,
    catalog::tool,
    questions::{Question, Reply, ask},
};

/// What the questions of a round are called; the same in every round.
const KEYS: [&str; 4] = ["first", "second", "third", "fourth"];
const PAGE: &str = "page-1";

pub(crate) fn tools() -> Vec<Value> {
    let asks = json!({
        "type": "array",
        "items": { "enum": ["elicitation", "sampling", "roots"] },
        "maxItems": KEYS.len()
    });
    vec![
        tool(
            "interview",
            "Asks several things at once, in several rounds; returns the answers of each",
            json!({ "rounds": { "type": "integer" }, "asks": asks }),
        ),
        tool("need_page", "Works once the user has been to a page", json!({})),
        tool("visit_page", "Says that the user has been there", json!({})),
    ]
}

pub(crate) async fn call(call: &Call) -> Option<Outcome> {
    Some(match call.params.name.as_ref() {
        "interview" => interview(call).await,
        "need_page" => need_page(call).await,
        "visit_page" => {
            call.shared().visited.store(true, Relaxed);
            if !call.is_modern() {
                let gone = json!({ "elicitationId": PAGE });
                call.notify("notifications/elicitation/complete", gone).await;
            }
            text("the user has been there")
        }
        _ => return None,
    })
}

async fn interview(call: &Call) -> Outcome {
    let rounds = call.number_arg("rounds").unwrap_or(2);
    let asks = call.arg("asks").cloned().unwrap_or_else(|| json!(["elicitation"]));
    let broken = |_| ErrorData::invalid_params("requestState is no list", None);
    let mut said: Vec<Value> = match call.state()? {
        Some(state) => serde_json::from_str(state).map_err(broken)?,
        None => Vec::new(),
    };
    let mut given = call.params.input_responses.as_ref();
    for round in said.len() as u64 + 1..=rounds {
        let asks = asks.as_array().into_iter().flatten();
        let questions =
            KEYS.iter().zip(asks).map(|(key, kind)| question(key, kind, round)).collect();
        let state = Some(call.shared().seal(&json!(said).to_string()));
        match ask(&call.context, given.take(), questions, state).await? {
            Reply::Answers(answers) => said.push(json!(answers)),
            Reply::NotYet(unfinished) => return Ok(unfinished.into()),
        }
    }
    json_text(&json!(said))
}

fn question(key: &'static str, kind: &Value, round: u64) -> Question {
    let message = format!("Round {round}, the {key}?");
    match kind.as_str() {
        Some("sampling") => Question::sample(key, &message, 50),
        Some("roots") => Question::roots(key),
        _ => Question::field(key, &message, "value"),
    }
}

/// A legacy client is told with an error that it has to send its user somewhere, and calls again
/// when it hears that this is done; a modern one is asked.
async fn need_page(call: &Call) -> Outcome {
    let page = json!({
        "mode": "url", "message": "Please visit", "url": "https://example.com/page",
        "elicitationId": PAGE
    });
    if call.shared().visited.swap(false, Relaxed) {
        return text("welcome");
    }
    if !call.is_modern() {
        let data = json!({ "elicitations": [page] });
        return Err(ErrorData::new(
            ErrorCode(-32042),
            "a page has to be visited first",
            Some(data),
        ));
    }
    let question = Question { key: "page", method: "elicitation/create", params: page };
    call.ask(vec![question], |answers| match answers["page"]["action"].as_str() {
        Some("accept") => text("welcome"),
        _ => tool_error("the user did not go"),
    })
    .await
}
