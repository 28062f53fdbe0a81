//! One call, told in order: route, permit, lease, pipes, answer, audit.

use std::sync::Arc;

use serde_json::Value;

use super::{
    Layer, Session,
    audit::Audit,
    catalog::{Kind, Route},
    error::Failure,
    exchange::{self, Order},
    lists,
    router::{self, Answer, Backend, Request},
};
use crate::{
    policy::{Permit, Target},
    protocol::{Message, method},
};

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
    if let Some(fields) = request.session.take_fields() {
        Box::pin(mirrored(request, &server, &name, &fields)).await?;
    }
    let target = Target::Tool { server: &server, exposed: &exposed, bare: &bare };
    let permit = permit(request, target).ok_or_else(unknown)?;
    forward(request, permit, (*bare != *name).then_some(bare.as_str())).await
}

/// The header fields of a modern HTTP request that repeat arguments say the same as these
/// (streamable HTTP, "Server Behavior for Custom Headers").
async fn mirrored(
    request: &Request<'_>,
    server: &str,
    name: &str,
    fields: &[(String, String)],
) -> Result<(), Failure> {
    let session = request.session;
    if session.view().tools.find(name).is_none()
        && let Some(server) = session.gateway().server(server)
    {
        // Only its definition tells.
        let met = lists::meet(session, &server, Kind::Tools);
        request.while_starting(Backend(&server.name), met).await?;
    }
    let view = session.view();
    let Some(shown) = view.tools.find(name) else { return Ok(()) };
    if shown.mirrored.is_empty() {
        return Ok(());
    }
    let params = request.message.raw_params().unwrap_or("{}");
    for one in &shown.mirrored {
        one.check(params, fields)
            .map_err(|why| Failure::HeaderMismatch(format!("Mcp-Param-{}: {why}", one.name)))?;
    }
    Ok(())
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
    permit_for_resource(request, &uri).await
}

pub(super) async fn permit_for_resource(
    request: &Request<'_>,
    uri: &str,
) -> Result<Permit, Failure> {
    let unknown = || Failure::UnknownResource(uri.to_owned());
    let server = locate(request, uri).await.ok_or_else(unknown)?;
    permit(request, Target::Resource { server: &server, uri }).ok_or_else(unknown)
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
    match find(session, kind, name) {
        Some(found) => Ok(Some(found)),
        None => Box::pin(route_unmet(request, kind, name)).await,
    }
}

fn find(session: &Session, kind: Kind, name: &str) -> Option<(Route, String)> {
    let view = session.view();
    let shelf = if kind == Kind::Tools { &view.tools } else { &view.prompts };
    shelf.find(name).map(|shown| (shown.route.clone(), shown.exposed.clone()))
}

/// Where a name leads that no backend shows that has been met.
async fn route_unmet(
    request: &Request<'_>,
    kind: Kind,
    name: &str,
) -> Result<Option<(Route, String)>, Failure> {
    let session = request.session;
    // Where only one backend can be meant, it may take its time, and its trouble is the answer.
    if let Some(server) = lists::owner(session, kind, name) {
        let met = lists::meet(session, &server, kind);
        request.while_starting(Backend(&server.name), met).await?;
        if let Some(found) = find(session, kind, name) {
            return Ok(Some(found));
        }
    }
    let kinds = [kind];
    let met = lists::ensure(session, &kinds);
    request.while_starting("backends that may have it", met).await;
    Ok(find(session, kind, name))
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
    request.session.gateway().now().policy.authorize(&request.session.principal(), target)
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
    let order = Order { request, message, name, server: Arc::clone(&server) };
    let subject = order.subject();
    let mut audit = Some(Audit::begin(request.session, &method, &server, name.unwrap_or(&subject)));
    let cancelled = Cancelled(&mut audit);
    let outcome = exchange::run(&order, permit).await;
    if let Some(audit) = cancelled.0.take() {
        request.audited();
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
