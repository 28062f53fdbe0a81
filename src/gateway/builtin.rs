//! The gateway's own tools: `gateway_status` and the placeholders.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{
    Gateway, Session,
    catalog::{Kind, Route},
    error::Failure,
    lists,
    router::{Answer, Backend, Request},
};
use crate::{
    backend::{InstanceStatus, Phase},
    launcher::Layer,
    policy::Target,
};

/// The answer to `gateway_status`.
pub(super) fn status(session: &Session) -> Answer {
    let status = session.gateway().status(session);
    Answer::Result(text_result(&status, false))
}

/// The answer to a placeholder: the backend is started and its tools are looked up.
pub(super) async fn connect(request: &Request<'_>, server: &Arc<str>) -> Result<Answer, Failure> {
    let session = request.session;
    let gateway = session.gateway();
    // Discovery is a call like any other: the role must let this principal see the backend.
    let target = Target::Server { server };
    if gateway.now().policy.authorize(&session.principal(), target).is_none() {
        let name = request.message.name().unwrap_or_default();
        return Err(Failure::UnknownTool(name.into_owned()));
    }
    let met = lists::discover(Arc::clone(session), server.to_string(), vec![Kind::Tools]);
    let met = request.while_starting(Backend(server), met).await;
    let result = match met {
        Ok(lease) => {
            drop(lease);
            let mut names: Vec<String> = session
                .view()
                .tools
                .listed()
                .filter(|shown| matches!(&shown.route, Route::Backend { server: of, .. } if of == server))
                .map(|shown| shown.exposed.clone())
                .collect();
            names.sort();
            let hint = "Tools are now available. Call them directly by name.";
            text_result(
                &json!({"connected": &**server, "tools_discovered": names.len(), "tool_names": names, "hint": hint}),
                false,
            )
        }
        Err(failure) => text_result(
            &json!({"error": format!("Failed to connect to {server}"), "reason": failure.to_string()}),
            true,
        ),
    };
    Ok(Answer::Result(result))
}

fn text_result(value: &Value, is_error: bool) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    let mut result = json!({
        "content": [{"type": "text", "text": text}],
        "structuredContent": value,
    });
    if is_error {
        result["isError"] = true.into();
    }
    result.to_string()
}

impl Gateway {
    /// What runs, sleeps and fails, as far as this session may see it.
    fn status(&self, session: &Session) -> Value {
        let visible = |name: &str| {
            let target = Target::Server { server: name };
            self.now().policy.authorize(&session.principal(), target).is_some()
        };
        let running = self.supervisor.status();
        let servers: Vec<Value> = self
            .servers()
            .iter()
            .filter(|server| visible(&server.name))
            .map(|server| {
                let own = self.key(server, session);
                let listing = self.catalog.get(&own, server);
                let instances: Vec<Value> = running
                    .iter()
                    .filter(|instance| *instance.server == *server.name)
                    .map(instance)
                    .collect();
                let mut told = json!({
                    "name": server.name,
                    "tools": listing.as_ref().and_then(|listing| listing.tools.as_ref()).map(|tools| tools.items.len()),
                    "known_from": listing.as_ref().map(|listing| if listing.from_disk { "disk" } else { "backend" }),
                    "sandbox": server.sandbox.profile.word(),
                    "instances": instances,
                });
                if server.code.is_some() {
                    let problems = listing.map(|listing| listing.problems());
                    told["problems"] = problems.unwrap_or_default().into();
                }
                told
            })
            .collect();
        let mut connected: Vec<&str> = running
            .iter()
            .filter(|instance| instance.phase == Phase::Ready && visible(&instance.server))
            .map(|instance| &*instance.server)
            .collect();
        connected.dedup();
        json!({
            "uptime_s": self.began.elapsed().as_secs(),
            "plugins": self.now().config.plugins.len(),
            "servers_configured": servers.len(),
            "servers_connected": connected,
            "tools_total": session.view().tools.listed().count(),
            "idle_timeout": self.now().config.idle_timeout.map_or(0, |idle| idle.as_secs()),
            "version": env!("CARGO_PKG_VERSION"),
            "sessions": self.sessions().len(),
            "role": session.principal().role(),
            "config": self.now().config.path,
            "orphans_found": self.supervisor.orphans_found(),
            "memory_limits": self.supervisor.best_effort().map_or_else(
                || "held by cgroups".to_owned(),
                |why| format!("best effort: {why}"),
            ),
            "servers": servers,
        })
    }

    /// The short form for `/health`: no names of backends, since anyone who reaches the port asks.
    pub fn health(&self) -> Value {
        let running = self.supervisor.status();
        let count =
            |wanted: &[Phase]| running.iter().filter(|one| wanted.contains(&one.phase)).count();
        json!({
            "status": if self.draining() { "draining" } else { "ok" },
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_s": self.began.elapsed().as_secs(),
            "sessions": self.sessions().len(),
            "servers_configured": self.servers().len(),
            "instances_ready": count(&[Phase::Ready]),
            "instances_starting": count(&[Phase::Starting]),
            "instances_failed": count(&[Phase::Backoff]),
            "orphans_found": self.supervisor.orphans_found(),
        })
    }
}

/// One instance, as everybody may see it who may see its backend.
pub(super) fn instance(instance: &InstanceStatus) -> Value {
    json!({
        "for": instance.scope,
        "state": phase(instance.phase),
        "protocol": instance.version,
        "pid": instance.pid,
        "calls": instance.calls,
        "starts": instance.starts,
        "failures": instance.failures,
        "trouble": instance.trouble,
        "junk_lines": instance.junk,
        "stray_answers": instance.strays,
        "enforced": layers(&instance.layers, true),
        "not_enforced": layers(&instance.layers, false),
    })
}

/// The names of the layers that are on, or those that are not, each with its reason.
fn layers(all: &[Layer], on: bool) -> Vec<String> {
    let of = all.iter().filter(|layer| layer.on == on);
    of.map(|layer| match on {
        true => layer.name.clone(),
        false => format!("{}: {}", layer.name, layer.evidence),
    })
    .collect()
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Stopped => "asleep",
        Phase::Starting => "starting",
        Phase::Ready => "ready",
        Phase::Draining => "draining",
        Phase::Stopping => "stopping",
        Phase::Backoff => "failed",
    }
}
