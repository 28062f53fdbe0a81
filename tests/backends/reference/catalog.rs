//! The tools by name: what `tools/list` shows, and who answers a call.

use std::sync::atomic::Ordering::Relaxed;

use rmcp::{
    ErrorData,
    model::{ErrorCode, Tool},
};
use serde_json::{Value, json};

use crate::{
    answers::{Outcome, text, typed},
    call::Call,
    conformance, jobs, passthrough, rounds,
    state::Shared,
};

/// A tool with these argument properties; a `!` before a name makes it required.
pub(crate) fn tool(name: &str, description: &str, properties: Value) -> Value {
    let mut schema = json!({ "type": "object", "properties": {} });
    let mut required = Vec::new();
    for (name, property) in properties.as_object().into_iter().flatten() {
        let bare = name.trim_start_matches('!');
        if bare != name {
            required.push(bare.to_owned());
        }
        schema["properties"][bare] = property.clone();
    }
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    json!({ "name": name, "description": description, "inputSchema": schema })
}

/// All tools at this moment, always in the same order.
pub(crate) fn tools(shared: &Shared) -> Vec<Tool> {
    let mut tools = conformance::tools();
    tools.extend(jobs::tools());
    tools.extend(passthrough::tools());
    tools.extend(rounds::tools());
    if shared.extra_tool.load(Relaxed) {
        tools.push(tool(
            "test_extra_tool",
            "Comes and goes with test_trigger_tool_change",
            json!({}),
        ));
    }
    for number in 1..=shared.grown.load(Relaxed) {
        tools.push(tool(&format!("grown_{number}"), "Added by grow", json!({})));
    }
    tools.into_iter().map(typed).collect()
}

pub(crate) async fn call(call: &Call) -> Outcome {
    let name = call.params.name.as_ref();
    if !tools(call.shared()).iter().any(|tool| tool.name == name) {
        return Err(ErrorData::new(
            ErrorCode::INVALID_PARAMS,
            format!("unknown tool: {name}"),
            None,
        ));
    }
    if let Some(outcome) = conformance::call(call).await {
        return outcome;
    }
    if let Some(outcome) = jobs::call(call).await {
        return outcome;
    }
    if let Some(outcome) = passthrough::call(call).await {
        return outcome;
    }
    if let Some(outcome) = rounds::call(call).await {
        return outcome;
    }
    text(format!("{name} was called"))
}
