//! The prompts, and completion of their arguments and of the resource template's.

use std::sync::atomic::Ordering::Relaxed;

use rmcp::{
    ErrorData, RoleServer,
    model::{
        CompleteRequestParams, CompleteResult, CompletionInfo, GetPromptRequestParams,
        GetPromptResponse, GetPromptResult, Prompt,
    },
    service::RequestContext,
};
use serde_json::{Value, json};

use crate::{
    answers::{RED_PIXEL, typed},
    questions::{Question, Reply, ask},
    state::Shared,
};

pub(crate) fn prompts(shared: &Shared) -> Vec<Prompt> {
    let mut prompts = vec![
        json!({ "name": "test_simple_prompt", "description": "One message" }),
        json!({
            "name": "test_prompt_with_arguments",
            "description": "A message with two arguments in it",
            "arguments": [
                { "name": "arg1", "description": "First test argument", "required": true },
                { "name": "arg2", "description": "Second test argument", "required": true }
            ]
        }),
        json!({
            "name": "test_prompt_with_embedded_resource",
            "description": "A message with a resource in it",
            "arguments": [
                { "name": "resourceUri", "description": "URI of the resource", "required": true }
            ]
        }),
        json!({ "name": "test_prompt_with_image", "description": "A message with an image in it" }),
        json!({ "name": "test_input_required_result_prompt", "description": "Asks for a context" }),
    ];
    if shared.extra_prompt.load(Relaxed) {
        prompts.push(json!({
            "name": "test_extra_prompt",
            "description": "Comes and goes with test_trigger_prompt_change"
        }));
    }
    prompts.into_iter().map(typed).collect()
}

pub(crate) async fn get(
    shared: &Shared,
    params: &GetPromptRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<GetPromptResponse, ErrorData> {
    if !prompts(shared).iter().any(|prompt| prompt.name == params.name) {
        return Err(ErrorData::invalid_params(format!("unknown prompt: {}", params.name), None));
    }
    let argument = |name: &str| -> Result<&str, ErrorData> {
        let given = params.arguments.as_ref().and_then(|given| given.get(name)?.as_str());
        given.ok_or_else(|| ErrorData::invalid_params(format!("argument {name} is missing"), None))
    };
    let contents = match params.name.as_str() {
        "test_prompt_with_arguments" => vec![said(&format!(
            "Prompt with arguments: arg1='{}', arg2='{}'",
            argument("arg1")?,
            argument("arg2")?
        ))],
        "test_prompt_with_embedded_resource" => vec![
            json!({ "type": "resource", "resource": {
                "uri": argument("resourceUri")?,
                "mimeType": "text/plain",
                "text": "Embedded resource content for testing."
            } }),
            said("Please process the embedded resource above."),
        ],
        "test_prompt_with_image" => vec![
            json!({ "type": "image", "data": RED_PIXEL, "mimeType": "image/png" }),
            said("Please analyze the image above."),
        ],
        "test_input_required_result_prompt" => {
            let message = "What context should the prompt use?";
            let question = Question::field("user_context", message, "context");
            match ask(context, params.input_responses.as_ref(), vec![question], None).await? {
                Reply::NotYet(unfinished) => return Ok(unfinished.into()),
                Reply::Answers(answers) => {
                    let given = &answers["user_context"]["content"]["context"];
                    vec![said(&format!("Use the context {given}."))]
                }
            }
        }
        _ => vec![said("This is a simple prompt for testing.")],
    };
    let messages: Vec<Value> =
        contents.into_iter().map(|content| json!({ "role": "user", "content": content })).collect();
    Ok(GetPromptResult::new(typed(messages.into())).into())
}

fn said(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

/// Words that begin as the client's text does. `arg2` knows `arg1` from the request's context.
pub(crate) fn complete(params: &CompleteRequestParams) -> CompleteResult {
    let earlier = params.context.as_ref().and_then(|context| context.get_argument("arg1"));
    let known: Vec<String> = match params.argument.name.as_str() {
        "arg1" => ["paris", "park", "party"].map(String::from).to_vec(),
        "arg2" => vec![format!("after-{}", earlier.map_or("nothing", String::as_str))],
        "id" => ["1", "12", "123"].map(String::from).to_vec(),
        _ => Vec::new(),
    };
    let fitting: Vec<String> =
        known.into_iter().filter(|word| word.starts_with(&params.argument.value)).collect();
    let mut info = CompletionInfo::default();
    info.total = u32::try_from(fitting.len()).ok();
    info.has_more = Some(false);
    info.values = fitting;
    CompleteResult::new(info)
}
