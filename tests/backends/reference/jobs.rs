//! The tools of the tasks extension (SEP-2663). Without the extension they run to their end
//! within the call, and in less time. rmcp has no server side for the experimental tasks of 2025-11-25: `faulty.py
//! tasks` has.

use std::time::Duration;

use rmcp::{
    ErrorData,
    model::{CallToolResponse, CallToolResult, ClientCapabilities, ContentBlock, CreateTaskResult},
    task_manager::{TaskContext, TaskExit, TaskFuture, TaskOptions},
};
use serde_json::{Value, json};

use crate::{
    answers::{Outcome, text, tool_error},
    call::Call,
    catalog::tool,
    questions::{Question, input_request},
};

pub(crate) fn tools() -> Vec<Value> {
    let string = json!({ "type": "string" });
    vec![
        tool("greet", "Says hello at once", json!({ "!name": string })),
        tool(
            "slow_compute",
            "Sleeps, then answers",
            json!({ "seconds": { "type": "number" }, "label": string }),
        ),
        tool("failing_job", "Fails after a second; runs only as a task", json!({})),
        tool("protocol_error_job", "Ends in a protocol error", json!({})),
        tool("confirm_delete", "Asks before it deletes nothing", json!({ "filename": string })),
        tool("multi_input", "Asks two things at once", json!({})),
        tool("test_tool_with_task", "Asks for a name, then becomes a task", json!({})),
    ]
}

pub(crate) async fn call(call: &Call) -> Option<Outcome> {
    let takes_tasks = call.is_modern()
        && call
            .context
            .client_capabilities()
            .is_some_and(|capabilities| capabilities.supports_tasks());
    let name = call.params.name.as_ref();
    Some(match name {
        "greet" => text(format!("Hello, {}!", call.text_arg("name").unwrap_or("stranger"))),
        "slow_compute" => {
            let seconds = call.arg("seconds").and_then(Value::as_f64).unwrap_or(0.0).max(0.0);
            let label = call.text_arg("label").unwrap_or("job").to_owned();
            if takes_tasks {
                spawn(call, move |task| Box::pin(compute(task, seconds, label)))
            } else {
                // Who asks for a minute wants to see a task, not to wait for one.
                tokio::time::sleep(Duration::from_secs_f64(seconds.min(2.0))).await;
                text(format!("{label} took {seconds} s"))
            }
        }
        "failing_job" if takes_tasks => spawn(call, |_| {
            Box::pin(async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok(CallToolResult::error(vec![ContentBlock::text("the job failed")]))
            })
        }),
        "protocol_error_job" if takes_tasks => spawn(call, |_| {
            Box::pin(async { Err(ErrorData::internal_error("the job broke", None).into()) })
        }),
        "confirm_delete" if takes_tasks => {
            let file = call.text_arg("filename").unwrap_or("nothing").to_owned();
            spawn(call, move |task| Box::pin(confirm(task, file)))
        }
        "multi_input" if takes_tasks => spawn(call, |task| Box::pin(two_inputs(task))),
        "test_tool_with_task" if takes_tasks => {
            let question = Question::field("user_name", "What is your name?", "name");
            call.ask(vec![question], |answers| {
                let name = answers["user_name"]["content"]["name"].as_str().unwrap_or("stranger");
                let greeting = format!("Hello, {name}!");
                spawn(call, move |_| Box::pin(async move { Ok(said(greeting)) }))
            })
            .await
        }
        "failing_job" | "test_tool_with_task" if call.is_modern() => {
            let required = ClientCapabilities::builder().enable_tasks().build();
            Err(ErrorData::missing_required_client_capability(required))
        }
        "protocol_error_job" => Err(ErrorData::internal_error("the job broke", None)),
        "failing_job" | "test_tool_with_task" | "confirm_delete" | "multi_input" => {
            tool_error(format!("{name} runs only as a task"))
        }
        _ => return None,
    })
}

fn spawn(call: &Call, make: impl FnOnce(TaskContext) -> TaskFuture) -> Outcome {
    let options = TaskOptions::new().with_poll_interval_ms(100);
    let task = call.shared().jobs.spawn(options, make);
    Ok(CallToolResponse::Task(CreateTaskResult::new(task)))
}

fn said(text: impl Into<String>) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text)])
}

async fn compute(
    task: TaskContext,
    seconds: f64,
    label: String,
) -> Result<CallToolResult, TaskExit> {
    tokio::select! {
        () = tokio::time::sleep(Duration::from_secs_f64(seconds)) => {
            Ok(said(format!("{label} took {seconds} s")))
        }
        () = task.cancelled() => Err(TaskExit::Cancelled),
    }
}

async fn confirm(task: TaskContext, file: String) -> Result<CallToolResult, TaskExit> {
    let schema = json!({
        "type": "object", "properties": { "confirm": { "type": "boolean" } }, "required": ["confirm"]
    });
    let question = Question::form("confirm", &format!("Delete {file}?"), schema);
    let answer = task.request_input("confirm", input_request(&question)).await?;
    Ok(said(format!("{file}: {}", answer["action"].as_str().unwrap_or("no answer"))))
}

async fn two_inputs(task: TaskContext) -> Result<CallToolResult, TaskExit> {
    let first = input_request(&Question::field("first", "The first?", "value"));
    let second = input_request(&Question::field("second", "The second?", "value"));
    let (first, second) =
        tokio::join!(task.request_input("first", first), task.request_input("second", second));
    Ok(said(format!("{} {}", first?, second?)))
}
