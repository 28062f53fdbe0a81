//! `subscriptions/listen` of clients: one request that goes on and tells what changes
//! (2026-07-28, basic/patterns/subscriptions).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;

use crate::{
    gateway::{
        Gateway, Layer, Session, call,
        catalog::Kind,
        error::Failure,
        router::{Answer, Request},
    },
    protocol::{Message, method},
};

use super::{
    Hearing,
    translate::{SUBSCRIPTION, with_subscription},
};

/// Resources of one request, and tasks.
const MOST: usize = 1000;
/// How long backends may take to agree; what they have not agreed to by then is left out.
const AGREEING: Duration = Duration::from_secs(5);

/// What a client wants to hear of.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Wanted {
    tools_list_changed: bool,
    prompts_list_changed: bool,
    resources_list_changed: bool,
    resource_subscriptions: Vec<String>,
    task_ids: Vec<String>,
}

/// What is told to one such request, and under which name.
#[derive(Debug)]
pub(in crate::gateway) struct Filter {
    /// The request's id, as JSON text.
    id: String,
    lists: Vec<&'static str>,
    /// By the gateway's own numbers.
    tasks: Vec<u64>,
}

impl Filter {
    pub(in crate::gateway) fn hears_task(&self, number: u64) -> bool {
        self.tasks.contains(&number)
    }

    /// The notification as this request gets it; `None` if it is none of its business. Whether
    /// a resource or a task is, has been looked at before.
    pub(in crate::gateway) fn marked(&self, bytes: Bytes) -> Option<Bytes> {
        let message = Message::parse(bytes).ok()?;
        let method = message.method();
        let wanted = match method.as_ref() {
            method::RESOURCE_UPDATED | method::TASK_CHANGED => true,
            method => self.lists.contains(&method),
        };
        let marked = message.with_params(|params| with_subscription(params, &self.id));
        wanted.then(|| marked.map(Message::into_bytes).ok()).flatten()
    }
}

pub(in crate::gateway) async fn listen(request: &Request<'_>) -> Result<Answer, Failure> {
    #[derive(Deserialize, Default)]
    struct Params {
        notifications: Option<Wanted>,
    }
    let session = request.session;
    let gateway = session.gateway();
    let invalid = |why: &str| Failure::InvalidParams(format!("{}: {why}", method::LISTEN));
    let params: Params = request.message.params().map_err(|error| invalid(&error.to_string()))?;
    let wanted = params.notifications.ok_or_else(|| invalid("`notifications` is missing"))?;
    if wanted.resource_subscriptions.len().max(wanted.task_ids.len()) > MOST {
        return Err(invalid(&format!("more than {MOST} resources or tasks")));
    }
    let mut honoured = Map::new();
    let mut lists = Vec::new();
    for (key, kind, wants) in [
        ("toolsListChanged", Kind::Tools, wanted.tools_list_changed),
        ("promptsListChanged", Kind::Prompts, wanted.prompts_list_changed),
        ("resourcesListChanged", Kind::Resources, wanted.resources_list_changed),
    ] {
        if wants && gateway.tells(session, kind) {
            honoured.insert(key.to_owned(), true.into());
            lists.push(kind.changed());
        }
    }
    let resources = subscribe(request, wanted.resource_subscriptions).await;
    if !resources.is_empty() {
        honoured.insert("resourceSubscriptions".to_owned(), resources.into());
    }
    // Held as long as the request goes on.
    let (ids, heard) = hear_tasks(session, wanted.task_ids).await;
    let (_hearings, tasks): (Vec<Hearing>, Vec<u64>) = heard.into_iter().unzip();
    if !ids.is_empty() {
        honoured.insert("taskIds".to_owned(), ids.into());
    }
    let view = session.view();
    for kind in Kind::ALL.into_iter().filter(|kind| lists.contains(&kind.changed())) {
        session.note_shown(kind, view.mark(kind));
    }
    let id: Value = serde_json::from_str(request.id()).unwrap_or_default();
    let meta = json!({ SUBSCRIPTION: id });
    let acknowledged = json!({
        "jsonrpc": "2.0",
        "method": method::ACKNOWLEDGED,
        "params": {"_meta": meta, "notifications": honoured},
    });
    if request.reply.notify(acknowledged.to_string().into()).is_ok() {
        let filter = Filter { id: request.id().to_owned(), lists, tasks };
        session.listens(filter, request.reply.clone());
        tokio::select! {
            biased;
            () = gateway.ending.cancelled() => {
                // A server that ends a subscription says so (cancellation, "Behavior
                // Requirements"), and answers (subscriptions, "Graceful Closure").
                let cancelled = json!({
                    "jsonrpc": "2.0",
                    "method": method::CANCELLED,
                    "params": {"requestId": id, "reason": "the gateway is shutting down"},
                });
                let _ = request.reply.notify(cancelled.to_string().into());
            }
            () = session.hung_up.cancelled() => {}
            () = request.reply.closed() => {}
        }
    }
    Ok(Answer::Result(json!({ "_meta": meta }).to_string()))
}

/// Those of the resources that can be subscribed to, all at once: one backend that takes its time
/// must not keep the rest from being told.
async fn subscribe(request: &Request<'_>, uris: Vec<String>) -> Vec<String> {
    let session = request.session;
    let mut asked = Vec::new();
    for uri in uris {
        let Ok(permit) = call::permit_for_resource(request, &uri).await else { continue };
        let (session, named) = (Arc::clone(session), uri.clone());
        let work = async move {
            let params = json!({ "uri": named }).to_string();
            let gateway = Arc::clone(session.gateway());
            match gateway.subscribed(&session, permit, &named, &params).await {
                Ok(answer) => !answer.is_some_and(|answer| answer.is_error()),
                Err(failure) => {
                    tracing::debug!("not subscribed: {failure}");
                    false
                }
            }
        };
        asked.push((uri, Task(request.session.gateway().tracker.spawn(work))));
    }
    let until = tokio::time::Instant::now() + AGREEING;
    let mut done = Vec::new();
    for (uri, mut task) in asked {
        if let Ok(Ok(true)) = tokio::time::timeout_at(until, &mut task.0).await {
            done.push(uri);
        }
    }
    done
}

/// Work that ends with who waits for it.
struct Task(JoinHandle<bool>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Those of the tasks that are this client's and that their backends tell of.
async fn hear_tasks(
    session: &Arc<Session>,
    ids: Vec<String>,
) -> (Vec<String>, Vec<(Hearing, u64)>) {
    let (mut heard, mut hearings) = (Vec::new(), Vec::new());
    let until = tokio::time::Instant::now() + AGREEING;
    for id in ids {
        let hearing = session.gateway().hear_task(session, &id);
        if let Ok(Some(hearing)) = tokio::time::timeout_at(until, hearing).await {
            heard.push(id);
            hearings.push(hearing);
        }
    }
    (heard, hearings)
}

impl Gateway {
    /// Whether changes of this list can be told to the session.
    fn tells(&self, session: &Session, kind: Kind) -> bool {
        let Layer::Server(name) = session.layer() else { return true };
        let listing = self
            .server(name)
            .and_then(|server| self.catalog.get(&self.key(&server, session), &server));
        let capability = |listing: &super::super::catalog::Listing| {
            listing.capabilities[kind.capability()]["listChanged"] == Value::Bool(true)
        };
        // One that has not been met may have it.
        listing.is_none_or(|listing| capability(&listing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_told_and_under_the_requests_id() {
        let filter =
            Filter { id: "\"a\"".into(), lists: vec![method::TOOLS_CHANGED], tasks: vec![7] };
        let marked = |text: &'static str| {
            filter.marked(text.into()).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
        };
        assert_eq!(
            marked(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#).unwrap(),
            r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"a"}}}"#
        );
        assert_eq!(
            marked(r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"u","x":1.0,"_meta":{"io.modelcontextprotocol/subscriptionId":7,"k":2}}}"#).unwrap(),
            r#"{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"u","x":1.0,"_meta":{"io.modelcontextprotocol/subscriptionId":"a","k":2}}}"#
        );
        assert!(filter.hears_task(7) && !filter.hears_task(8));
        assert!(
            marked(r#"{"jsonrpc":"2.0","method":"notifications/tasks","params":{"taskId":"t"}}"#)
                .is_some()
        );
        for other in [
            r#"{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}"#,
            r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info"}}"#,
        ] {
            assert!(marked(other).is_none(), "{other}");
        }
    }
}
