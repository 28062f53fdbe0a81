//! One call, told in order: route, permit, lease, pipes, answer, audit.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{
    Gateway, Layer,
    audit::Audit,
    catalog::{Kind, Route},
    error::Failure,
    lists,
    router::{self, Answer, Request},
};
use crate::{
    backend::{AskError, Call, Instance, Lease, Link},
    config::Timeouts,
    policy::{Permit, Target},
    protocol::{
        Message, method,
        stream::{self, Bounds, stream},
    },
};

/// How often a call looks whether its client is still thinking.
const THINKING: Duration = Duration::from_secs(1);

/// How long a backend that missed a call's deadline may take for a ping.
const DOUBT: Duration = Duration::from_secs(5);

pub(super) async fn tool(request: &Request<'_>) -> Result<Answer, Failure> {
    let name = request.message.name();
    let name =
        name.ok_or_else(|| Failure::InvalidParams("tools/call: `name` is missing".into()))?;
    let unknown = || Failure::UnknownTool(name.clone().into_owned());
    let (server, bare, exposed) =
        match route(request, Kind::Tools, &name).await?.ok_or_else(unknown)? {
            (Route::Status, _) => return Ok(router::status(request.session)),
            (Route::Connect { server }, _) => return router::connect(request, &server).await,
            (Route::Backend { server, bare }, exposed) => (server, bare, exposed),
        };
    let target = Target::Tool { server: &server, exposed: &exposed, bare: &bare };
    let permit = permit(request, target).ok_or_else(unknown)?;
    forward(request, permit, (*bare != *name).then_some(bare.as_str())).await
}

pub(super) async fn prompt(request: &Request<'_>) -> Result<Answer, Failure> {
    let name = request.message.name();
    let name =
        name.ok_or_else(|| Failure::InvalidParams("prompts/get: `name` is missing".into()))?;
    let unknown = || Failure::UnknownPrompt(name.clone().into_owned());
    let Some((Route::Backend { server, bare }, exposed)) =
        route(request, Kind::Prompts, &name).await?
    else {
        return Err(unknown());
    };
    let target = Target::Prompt { server: &server, exposed: &exposed, bare: &bare };
    let permit = permit(request, target).ok_or_else(unknown)?;
    forward(request, permit, (*bare != *name).then_some(bare.as_str())).await
}

pub(super) async fn resource(request: &Request<'_>) -> Result<Answer, Failure> {
    let permit = resource_permit(request).await?;
    forward(request, permit, None).await
}

/// The backend that `params.uri` belongs to.
pub(super) async fn resource_permit(request: &Request<'_>) -> Result<Permit, Failure> {
    let uri = request.message.uri();
    let uri = uri.ok_or_else(|| Failure::InvalidParams("`uri` is missing".into()))?;
    let unknown = || Failure::UnknownResource(uri.clone().into_owned());
    let server = locate(request, &uri).await.ok_or_else(unknown)?;
    permit(request, Target::Resource { server: &server, uri: &uri }).ok_or_else(unknown)
}

async fn locate(request: &Request<'_>, uri: &str) -> Option<Arc<str>> {
    // A backend may read what it does not list; with only one to ask, it is asked.
    if let Some(permit) = router::only_backend(request) {
        return Some(Arc::clone(permit.server()));
    }
    if let Some(server) = request.session.view().locate(uri) {
        return Some(Arc::clone(server));
    }
    let met = lists::ensure(request.session, &[Kind::Resources, Kind::Templates]);
    request.while_starting("backends that may have it", met).await;
    request.session.view().locate(uri).cloned()
}

/// Where a name leads; backends that have not been met are met first.
async fn route(
    request: &Request<'_>,
    kind: Kind,
    name: &str,
) -> Result<Option<(Route, String)>, Failure> {
    let session = request.session;
    if let Layer::Server(server) = session.layer() {
        // The backend itself knows its names best, listed or not.
        let route = Route::Backend { server: server.as_str().into(), bare: name.to_owned() };
        // Rules are about qualified names; a bare one might look like another backend's.
        return Ok(Some((route, format!("{server}_{name}"))));
    }
    let find = || {
        let view = session.view();
        let shelf = if kind == Kind::Tools { &view.tools } else { &view.prompts };
        shelf.find(name).map(|shown| (shown.route.clone(), shown.exposed.clone()))
    };
    if let Some(found) = find() {
        return Ok(Some(found));
    }
    // Where only one backend can be meant, it may take its time, and its trouble is the answer.
    if let Some(server) = lists::owner(session, kind, name) {
        let met = lists::meet(session, server, kind);
        request.while_starting(&format!("backend \"{}\"", server.name), met).await?;
        if let Some(found) = find() {
            return Ok(Some(found));
        }
    }
    let kinds = [kind];
    let met = lists::ensure(session, &kinds);
    request.while_starting("backends that may have it", met).await;
    Ok(find())
}

/// The backend of a template, or of a resource, that is named by its own text.
async fn template(request: &Request<'_>, uri: &str) -> Option<Arc<str>> {
    if let Some(permit) = router::only_backend(request) {
        return Some(Arc::clone(permit.server()));
    }
    let met = lists::ensure(request.session, &[Kind::Templates]);
    request.while_starting("backends that may have it", met).await;
    let view = request.session.view();
    let listed = view.templates.iter().find(|template| template.uri == uri);
    listed.map(|template| &template.server).or_else(|| view.locate(uri)).cloned()
}

/// The prompt or template that is completed tells the backend; `ref.type` says which it is.
pub(super) async fn completion(request: &Request<'_>) -> Result<Answer, Failure> {
    let invalid = |error: String| Failure::InvalidParams(format!("completion/complete: {error}"));
    let params: Value = request.message.params().map_err(|error| invalid(error.to_string()))?;
    let reference = &params["ref"];
    let (kind, key, other) = match reference["type"].as_str() {
        Some(kind @ "ref/prompt") => (kind, "name", "uri"),
        Some(kind @ "ref/resource") => (kind, "uri", "name"),
        _ => return Err(invalid("`ref.type` is neither ref/prompt nor ref/resource".into())),
    };
    let Some(given) = reference[key].as_str() else {
        return Err(invalid(format!("`ref.{key}` is missing")));
    };
    if reference.get(other).is_some() {
        return Err(invalid(format!("a {kind} has no `{other}`")));
    }
    let (permit, own) = if key == "uri" {
        let unknown = || Failure::UnknownResource(given.to_owned());
        let server = template(request, given).await.ok_or_else(unknown)?;
        let target = Target::Resource { server: &server, uri: given };
        (permit(request, target).ok_or_else(unknown)?, given.to_owned())
    } else {
        let unknown = || Failure::UnknownPrompt(given.to_owned());
        let Some((Route::Backend { server, bare }, exposed)) =
            route(request, Kind::Prompts, given).await?
        else {
            return Err(unknown());
        };
        let target = Target::Prompt { server: &server, exposed: &exposed, bare: &bare };
        (permit(request, target).ok_or_else(unknown)?, bare)
    };
    let restricted = request.session.principal().is_restricted();
    if own == given && !restricted {
        return forward(request, permit, None).await;
    }
    // The name stands deeper than the envelope reaches, so these parameters are written anew. For
    // a role from nothing but what it was asked about: another reader might take `Ref` for `ref`.
    let mut anew = if restricted {
        let known = ["argument", "context", "_meta"].into_iter();
        let kept = known.filter_map(|key| Some((key.to_owned(), params.get(key)?.clone())));
        let mut anew: Value = kept.collect();
        anew["ref"] = serde_json::json!({ "type": kind });
        anew
    } else {
        params.clone()
    };
    anew["ref"][key] = own.into();
    let text = serde_json::json!({
        "jsonrpc": "2.0", "id": 0, "method": method::COMPLETE, "params": anew,
    });
    let message =
        Message::parse(text.to_string().into()).map_err(|why| invalid(why.to_string()))?;
    forward_as(request, &message, permit, None).await
}

/// A method that the gateway does not know goes where only one backend can be meant. What it
/// would do there is as unknown, so nobody has it whom a role holds back from anything.
pub(super) async fn unknown(request: &Request<'_>) -> Result<Answer, Failure> {
    let unknown = || request.unknown_method();
    if request.session.principal().is_restricted() {
        return Err(unknown());
    }
    let permit = router::only_backend(request).ok_or_else(unknown)?;
    forward(request, permit, None).await
}

fn permit(request: &Request<'_>, target: Target<'_>) -> Option<Permit> {
    request.session.gateway().policy.authorize(request.session.principal(), target)
}

/// Hands the request to the backend and everything that belongs to it back to the client.
pub(super) async fn forward(
    request: &Request<'_>,
    permit: Permit,
    name: Option<&str>,
) -> Result<Answer, Failure> {
    forward_as(request, request.message, permit, name).await
}

async fn forward_as(
    request: &Request<'_>,
    message: &Message,
    permit: Permit,
    name: Option<&str>,
) -> Result<Answer, Failure> {
    let server = Arc::clone(permit.server());
    let method = request.message.method();
    let subject = request.message.name().or_else(|| request.message.uri()).unwrap_or_default();
    let mut audit = Some(Audit::begin(request.session, &method, &server, name.unwrap_or(&subject)));
    let cancelled = Cancelled(&mut audit);
    let outcome = exchange(request, message, permit, name).await;
    if let Some(audit) = cancelled.0.take() {
        audit.end(outcome.as_ref().copied());
    }
    outcome.map(|_| Answer::Sent)
}

/// Writes the audit line of a call that is dropped before its end.
struct Cancelled<'a, 'b>(&'a mut Option<Audit<'b>>);

impl Drop for Cancelled<'_, '_> {
    fn drop(&mut self) {
        if let Some(audit) = self.0.take() {
            audit.cancelled();
        }
    }
}

/// True when the answer is an error of the backend's own.
async fn exchange(
    request: &Request<'_>,
    message: &Message,
    permit: Permit,
    name: Option<&str>,
) -> Result<bool, Failure> {
    let session = request.session;
    let gateway = session.gateway();
    let server = Arc::clone(permit.server());
    let timeouts =
        gateway.server(&server).map(|server| server.timeouts.clone()).unwrap_or_default();
    let lease = acquire(request, permit, &timeouts).await?;
    session.uses(&server);
    let (reply, mut answers) = stream(Bounds::REQUEST);
    let call = Call {
        id: request.id().to_owned(),
        token: request.message.progress_token().map(str::to_owned),
        session: session.serial(),
        reply,
    };
    let gone = || Failure::Gone(server.to_string());
    let id = lease.link().request(message, name, call).map_err(|_| gone())?;
    let mut pending = Pending { link: lease.link(), id, request, open: true };
    let began = Instant::now();
    let last_moment = began + timeouts.max_call;
    let mut until = began + timeouts.call;
    let timer = tokio::time::sleep_until(until.into());
    tokio::pin!(timer);
    loop {
        tokio::select! {
            biased;
            answer = answers.recv() => match answer {
                Some(answer) if answer.last => {
                    pending.open = false;
                    let failed = ended(request, &lease, &answer);
                    let _ = request.reply.send(answer);
                    return Ok(failed);
                }
                Some(notice) => {
                    // Progress, or a question to the client: the backend is at work.
                    until = (Instant::now() + timeouts.call).min(last_moment);
                    let _ = request.reply.send(notice);
                }
                // Its stream was lost: to the backend's end, or to a flood of its own messages.
                None if lease.link().is_open() => {
                    return Err(Failure::Flooded(server.to_string()));
                }
                None => {
                    pending.open = false;
                    return Err(gone());
                }
            },
            () = &mut timer => {
                let now = Instant::now();
                if session.questions.any_for(lease.link()) && now < last_moment {
                    // The client is thinking, not the backend.
                    until = (now + THINKING).min(last_moment);
                }
                if now < until {
                    timer.as_mut().reset(until.into());
                    continue;
                }
                pending.open = false;
                lease.link().cancel(id, None, "timed out");
                gateway.doubt(lease.instance(), lease.link(), began);
                let (key, limit) = if until == last_moment {
                    ("timeouts.max_call", timeouts.max_call)
                } else {
                    ("timeouts.call", timeouts.call)
                };
                return Err(Failure::Late { server: server.to_string(), seconds: limit.as_secs_f32(), key });
            }
        }
    }
}

/// A request that is dropped before its answer is cancelled at the backend.
struct Pending<'a, 'b> {
    link: &'a Arc<Link>,
    id: u64,
    request: &'a Request<'b>,
    open: bool,
}

impl Drop for Pending<'_, '_> {
    fn drop(&mut self) {
        if self.open {
            self.link.cancel(self.id, self.request.words().as_ref(), "the client has gone");
        }
    }
}

/// What an answer means to the gateway itself. True for an error of the backend's own.
fn ended(request: &Request<'_>, lease: &Lease, answer: &stream::Outgoing) -> bool {
    let Ok(message) = Message::parse(answer.bytes.clone()) else { return false };
    let gateway = request.session.gateway();
    if request.message.wants_task()
        && let Some(result) = message.result()
    {
        gateway.remember_task(request, lease, result);
    }
    gateway.task_answered(request.message, lease, &message);
    message.is_error()
}

async fn acquire(
    request: &Request<'_>,
    permit: Permit,
    timeouts: &Timeouts,
) -> Result<Lease, Failure> {
    let session = request.session;
    let what = format!("backend \"{}\"", permit.server());
    let deadline = Instant::now() + timeouts.start.max(timeouts.call);
    let lease = session.gateway().supervisor.acquire(permit, session.holder(), deadline);
    Ok(request.while_starting(&what, lease).await?)
}

impl Gateway {
    /// After a call that timed out: a backend that has said nothing since and does not answer a
    /// ping either is replaced.
    fn doubt(&self, instance: &Arc<Instance>, link: &Arc<Link>, since: Instant) {
        if link.heard() > since || !link.begin_doubt() {
            return;
        }
        let (instance, link) = (Arc::clone(instance), Arc::clone(link));
        self.tracker.spawn(async move {
            let answer = link.ask(method::PING, "{}", DOUBT).await;
            if matches!(answer, Err(AskError::Late { .. })) && link.heard() <= since {
                instance.give_up("answers neither a call nor a ping");
            }
            link.end_doubt();
        });
    }
}
