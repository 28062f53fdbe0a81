//! The resources, the template, and reading both.

use rmcp::{
    ErrorData, RoleServer,
    model::{
        ReadResourceRequestParams, ReadResourceResponse, ReadResourceResult, Resource,
        ResourceTemplate,
    },
    service::RequestContext,
};
use serde_json::{Value, json};

use crate::{
    answers::{RED_PIXEL, typed},
    questions::{Question, Reply, ask},
    state::{Shared, lock},
};

pub(crate) const WATCHED: &str = "test://watched-resource";
/// Can be read, and is in no list: the conformance suite may read whatever is.
pub(crate) const ASKING: &str = "test://asking-resource";

pub(crate) fn resources() -> Vec<Resource> {
    typed(json!([
        {
            "uri": "test://static-text", "name": "static text",
            "description": "A text that never changes", "mimeType": "text/plain"
        },
        {
            "uri": "test://static-binary", "name": "static binary",
            "description": "An image that never changes", "mimeType": "image/png"
        },
        {
            "uri": WATCHED, "name": "watched resource",
            "description": "Changes when touch is called", "mimeType": "text/plain"
        }
    ]))
}

pub(crate) fn templates() -> Vec<ResourceTemplate> {
    typed(json!([{
        "uriTemplate": "test://template/{id}/data", "name": "template",
        "description": "One document for every id", "mimeType": "application/json"
    }]))
}

/// Asks the user for the resource's text.
pub(crate) async fn ask_for(
    params: &ReadResourceRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<ReadResourceResponse, ErrorData> {
    let question = Question::field("text", "What does it say?", "text");
    Ok(match ask(context, params.input_responses.as_ref(), vec![question], None).await? {
        Reply::NotYet(unfinished) => unfinished.into(),
        Reply::Answers(answers) => {
            let said = answers["text"]["content"]["text"].as_str().unwrap_or("nothing");
            let content = json!({ "uri": ASKING, "mimeType": "text/plain", "text": said });
            ReadResourceResult::new(vec![typed(content)]).into()
        }
    })
}

pub(crate) fn read(shared: &Shared, uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let touched = lock(&shared.touched).get(uri).copied().unwrap_or(0);
    let id = uri.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data"));
    let content: Value = match (uri, id) {
        ("test://static-text", _) => {
            json!({ "mimeType": "text/plain", "text": "This is the content of the static text resource." })
        }
        ("test://static-binary", _) => json!({ "mimeType": "image/png", "blob": RED_PIXEL }),
        (WATCHED, _) => {
            json!({ "mimeType": "text/plain", "text": format!("touched {touched} times") })
        }
        (_, Some(id)) => json!({
            "mimeType": "application/json",
            "text": json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") })
                .to_string()
        }),
        _ => {
            let data = json!({ "uri": uri });
            return Err(ErrorData::resource_not_found("Resource not found", Some(data)));
        }
    };
    let mut whole = json!({ "uri": uri });
    if let (Some(whole), Value::Object(content)) = (whole.as_object_mut(), content) {
        whole.extend(content);
    }
    Ok(ReadResourceResult::new(vec![typed(whole)]))
}
