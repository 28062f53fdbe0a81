//! Tools that let a test see what came through a gateway, and send something back through it.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use rmcp::{
    ErrorData,
    model::{CallToolResult, ErrorCode},
};
use serde_json::{Value, json};

use crate::{
    answers::{Outcome, json_text, text, tool_error, typed},
    call::Call,
    catalog::tool,
    questions::{Question, Reply, ask},
    resources::WATCHED,
    state::{Change, lock},
};

pub(crate) fn tools() -> Vec<Value> {
    let (string, integer) = (json!({ "type": "string" }), json!({ "type": "integer" }));
    let mut add =
        tool("add", "Adds; has an output schema", json!({ "!a": integer, "!b": integer }));
    add["outputSchema"] = json!({
        "type": "object", "properties": { "sum": { "type": "integer" } }, "required": ["sum"]
    });
    let mut echo = tool("echo", "Returns its text", json!({ "!text": string }));
    echo["title"] = "Echo".into();
    echo["annotations"] = json!({ "title": "Echo", "readOnlyHint": true, "openWorldHint": false });
    echo["_meta"] = json!({ "example.com/tool": { "kept": true } });
    vec![
        echo,
        add,
        tool(
            "slow",
            "Takes a while; reports progress; stops when cancelled",
            json!({ "!ms": integer, "steps": integer }),
        ),
        tool("last_cancelled", "Returns the cancellations seen so far", json!({})),
        tool("whoami_meta", "Returns what the request said about the client", json!({})),
        tool("roots", "Returns the client's roots", json!({})),
        tool("ask", "Asks the user for one field", json!({ "message": string })),
        tool("ask_url", "Sends the user to a page", json!({ "url": string })),
        tool("sample", "Asks the client's model", json!({ "prompt": string })),
        tool("log", "Logs one message", json!({ "!level": string, "data": {} })),
        tool("grow", "Adds a tool", json!({})),
        tool("touch", "Changes a resource", json!({ "uri": string })),
        tool("big", "Returns this many bytes of text", json!({ "!bytes": integer })),
        tool("fail", "Returns an error result", json!({ "message": string })),
        tool(
            "rpc_error",
            "Returns a JSON-RPC error",
            json!({ "code": integer, "message": string, "data": {} }),
        ),
        tool(
            "vendor",
            "Returns a result with _meta, annotations and structured content",
            json!({}),
        ),
        tool("pid", "Returns the process id", json!({})),
    ]
}

pub(crate) async fn call(call: &Call) -> Option<Outcome> {
    Some(match call.params.name.as_ref() {
        "echo" => text(call.text_arg("text").unwrap_or_default()),
        "add" => {
            let number = |name: &str| call.arg(name).and_then(Value::as_i64).unwrap_or(0);
            let sum = json!({ "sum": number("a").wrapping_add(number("b")) });
            Ok(CallToolResult::structured(sum).into())
        }
        "slow" => slow(call).await,
        "last_cancelled" => json_text(&json!(*lock(&call.shared().cancellations))),
        "whoami_meta" => json_text(&json!({
            "_meta": call.context.meta,
            "protocolVersion": call.context.protocol_version(),
            "clientInfo": call.context.client_info(),
            "capabilities": call.context.client_capabilities(),
            "headers": headers(call),
        })),
        "roots" => said(call, Question::roots("answer")).await,
        "ask" => {
            let message = call.text_arg("message").unwrap_or("What is your name?");
            said(call, Question::field("answer", message, "name")).await
        }
        "ask_url" => ask_url(call).await,
        "sample" => {
            let prompt = call.text_arg("prompt").unwrap_or("Say something.");
            said(call, Question::sample("answer", prompt, 100)).await
        }
        "log" => {
            let data = call.arg("data").cloned().unwrap_or(Value::Null);
            call.log(call.text_arg("level").unwrap_or("info"), data).await;
            text("logged, if the level is wanted")
        }
        "grow" => {
            let number = call.shared().grown.fetch_add(1, Relaxed) + 1;
            call.announce(Change::Tools).await;
            text(format!("added grown_{number}"))
        }
        "touch" => {
            let uri = call.text_arg("uri").unwrap_or(WATCHED).to_owned();
            *lock(&call.shared().touched).entry(uri.clone()).or_default() += 1;
            call.announce(Change::Resources).await;
            call.announce(Change::Updated(uri.clone())).await;
            text(format!("touched {uri}"))
        }
        "big" => {
            let bytes = usize::try_from(call.number_arg("bytes").unwrap_or(0)).unwrap_or(0);
            text("0123456789abcdef".chars().cycle().take(bytes).collect::<String>())
        }
        "fail" => tool_error(call.text_arg("message").unwrap_or("this tool failed")),
        "rpc_error" => {
            let code = call.arg("code").and_then(Value::as_i64).unwrap_or(-32000);
            let message = call.text_arg("message").unwrap_or("as asked").to_owned();
            let code = ErrorCode(i32::try_from(code).unwrap_or(-32000));
            Err(ErrorData::new(code, message, call.arg("data").cloned()))
        }
        "vendor" => vendor(),
        "pid" => text(std::process::id().to_string()),
        _ => return None,
    })
}

/// Asks one thing and returns the client's answer as JSON text.
async fn said(call: &Call, question: Question) -> Outcome {
    call.ask(vec![question], |answers| json_text(&answers["answer"])).await
}

async fn slow(call: &Call) -> Outcome {
    let millis = call.number_arg("ms").unwrap_or(0);
    let steps = call.number_arg("steps").unwrap_or(4).max(1);
    for step in 0..steps {
        let done = (step * millis / steps) as f64;
        call.progress(done, millis as f64, Some("still at it")).await;
        tokio::select! {
            () = tokio::time::sleep(Duration::from_micros(millis * 1000 / steps)) => {}
            () = call.context.ct.cancelled() => {
                let stopped = json!({ "stopped": call.context.id, "step": step });
                lock(&call.shared().cancellations).push(stopped);
                return tool_error("cancelled");
            }
        }
    }
    call.progress(millis as f64, millis as f64, Some("done")).await;
    text(format!("slept {millis} ms"))
}

async fn ask_url(call: &Call) -> Outcome {
    let id = "elicitation-1";
    let url = call.text_arg("url").unwrap_or("https://example.com/consent");
    let params =
        json!({ "mode": "url", "message": "Please visit", "url": url, "elicitationId": id });
    let question = Question { key: "answer", method: "elicitation/create", params };
    let given = call.params.input_responses.as_ref();
    match ask(&call.context, given, vec![question], None).await? {
        Reply::NotYet(unfinished) => Ok(unfinished.into()),
        Reply::Answers(answers) => {
            if !call.is_modern() {
                call.notify("notifications/elicitation/complete", json!({ "elicitationId": id }))
                    .await;
            }
            json_text(&answers["answer"])
        }
    }
}

/// The HTTP headers of the request, for tests of what a gateway forwards; null over stdio.
fn headers(call: &Call) -> Value {
    let Some(parts) = call.context.extensions.get::<hyper::http::request::Parts>() else {
        return Value::Null;
    };
    parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or("?").into()))
        .collect::<serde_json::Map<String, Value>>()
        .into()
}

/// As much beyond the ordinary as rmcp's types let through. Unknown fields they drop; the custom
/// request `vendor/echo` and `faulty.py bigints` return those.
fn vendor() -> Outcome {
    let result: CallToolResult = typed(json!({
        "content": [
            {
                "type": "text", "text": "unicode: \u{e9} \u{1f600} \u{2028} \\u0041",
                "annotations": { "audience": ["user"], "priority": 0.5 },
                "_meta": { "example.com/block": [1, 2.5, null] }
            },
            {
                "type": "resource_link", "uri": "test://static-text", "name": "static text",
                "mimeType": "text/plain"
            }
        ],
        "structuredContent": { "z": 1, "a": { "big": 9_007_199_254_740_993_u64, "real": 1.0 } },
        "isError": false,
        "resultType": "complete",
        "_meta": { "example.com/result": { "nested": { "deep": true } } }
    }));
    Ok(result.into())
}
