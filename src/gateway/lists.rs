//! Lists, answered from the catalog with every backend asleep; first contact discovers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    Gateway, Layer, Session, call,
    catalog::{Kind, Listing, View},
    era,
    error::Failure,
    router::{Answer, Backend, Request},
};
use crate::{
    backend::{InstanceKey, Lease},
    config::{Discover, Server, Share},
    policy::Target,
    protocol::{Era, array_member, edited},
};

/// In all, for backends that have not been met; who is late is shown by a placeholder.
const DISCOVERY: Duration = Duration::from_secs(10);
/// What one page holds. Many clients never ask for a second one.
const PAGE_ITEMS: usize = 1000;
const PAGE_BYTES: usize = 4 << 20;
const CURSOR: &str = "mcp-gateway:";

pub(super) async fn list(request: &Request<'_>, kind: Kind) -> Result<Answer, Failure> {
    let session = request.session;
    if let Layer::Server(name) = session.layer()
        && let Some(server) = session.gateway().server(name)
    {
        if server.share == Share::Session {
            return own_child(request, &server, kind).await;
        }
        request.while_starting(Backend(name), meet(session, &server, kind)).await?;
        let listing =
            session.gateway().catalog.get(&session.gateway().key(&server, session), &server);
        if listing.is_some_and(|listing| !listing.has(kind.capability())) {
            // It promised no such list; what it says to that is its own business.
            return call::unknown(request).await;
        }
    } else {
        request.while_starting("backends", ensure(session, &[kind])).await;
    }
    let view = session.view();
    session.note_shown(kind, view.mark(kind));
    let cursor = request.param("cursor");
    if cursor.is_none()
        && let Some(whole) = whole(session, kind)
    {
        return Ok(Answer::Result(whole));
    }
    page(&items(&view, kind), kind, cursor.as_deref()).map(Answer::Result)
}

fn items(view: &View, kind: Kind) -> Vec<&str> {
    let located = |all| -> Vec<&str> {
        let all: &[super::catalog::Located] = all;
        all.iter().map(|one| one.raw.as_str()).collect()
    };
    match kind {
        Kind::Tools => view.tools.listed().map(|shown| shown.raw.as_str()).collect(),
        Kind::Prompts => view.prompts.listed().map(|shown| shown.raw.as_str()).collect(),
        Kind::Resources => located(&view.resources),
        Kind::Templates => located(&view.templates),
    }
}

fn page(items: &[&str], kind: Kind, cursor: Option<&str>) -> Result<String, Failure> {
    let from = match cursor {
        None => 0,
        Some(cursor) => cursor
            .strip_prefix(CURSOR)
            .and_then(|at| at.parse().ok())
            .filter(|at| *at <= items.len())
            .ok_or_else(|| Failure::InvalidParams(format!("{}: no such cursor", kind.method())))?,
    };
    let mut text = format!("{{\"{}\":[", kind.member());
    let mut at = from;
    for item in &items[from..] {
        if at - from >= PAGE_ITEMS || (at > from && text.len() + item.len() > PAGE_BYTES) {
            break;
        }
        if at > from {
            text.push(',');
        }
        text.push_str(item);
        at += 1;
    }
    text.push(']');
    if at < items.len() {
        text.push_str(&format!(",\"nextCursor\":\"{CURSOR}{at}\""));
    }
    text.push('}');
    Ok(text)
}

/// A transparent session that may see everything gets the backend's own page, untouched.
fn whole(session: &Session, kind: Kind) -> Option<String> {
    let Layer::Server(name) = session.layer() else { return None };
    let gateway = session.gateway();
    let server = gateway.server(name)?;
    let listing = gateway.catalog.get(&gateway.key(&server, session), &server)?;
    let list = listing.list(kind)?;
    let all = list.items.len() == items(&session.view(), kind).len();
    let whole = list.whole.as_deref().filter(|_| all && listing.era == Some(session.era()))?;
    // It may be days old; how long it can be kept was said to the gateway.
    Some(match session.era() {
        Era::Modern => edited(whole, &[], &[("ttlMs", "0")]),
        Era::Legacy => whole.to_owned(),
    })
}

/// With `share: session` the child's own pages go through; what the role hides is cut out.
async fn own_child(request: &Request<'_>, server: &Server, kind: Kind) -> Result<Answer, Failure> {
    let session = request.session;
    let gateway = session.gateway();
    let who = session.principal();
    let permit = gateway.now().policy.authorize(&who, Target::Server { server: &server.name });
    let permit = permit.ok_or_else(|| request.unknown_method())?;
    let deadline = Instant::now() + server.timeouts.start.max(server.timeouts.call);
    let (holder, speak) = (session.holder(), session.speak());
    let lease = gateway.supervisor.acquire(permit, holder, speak, deadline).await?;
    let params = request.raw_params().unwrap_or_else(|| "{}".into());
    let params = match lease.link().era() {
        Era::Legacy => era::legacy_request(&params),
        Era::Modern => params,
    };
    let answer = lease.link().ask(kind.method(), &params, server.timeouts.call).await;
    let answer = answer.map_err(|error| Failure::Backend {
        server: server.name.clone(),
        reason: error.to_string(),
    })?;
    if answer.is_error() {
        let spoken = lease.link().era();
        return Ok(Answer::Message(era::error_between(&answer, spoken, session.era(), request)));
    }
    let result = match (session.era(), answer.result().unwrap_or("{}")) {
        (Era::Legacy, result) if lease.link().era() == Era::Modern => &era::legacy_result(result),
        (_, result) => result,
    };
    let Some(all) = array_member(result, kind.member()) else {
        return Ok(Answer::Result(result.to_owned()));
    };
    let visible = |raw: &&&str| {
        let name = crate::protocol::string_member(raw, kind.key()).unwrap_or_default();
        let server = server.name.as_str();
        let exposed = &format!("{server}_{name}");
        let target = match kind {
            Kind::Tools => Target::Tool { server, exposed, bare: &name },
            Kind::Prompts => Target::Prompt { server, exposed, bare: &name },
            Kind::Resources | Kind::Templates => Target::Resource { server, uri: &name },
        };
        gateway.now().policy.authorize(&who, target).is_some()
    };
    let kept: Vec<&str> = all.iter().filter(visible).copied().collect();
    if kept.len() == all.len() {
        return Ok(Answer::Result(result.to_owned()));
    }
    let kept = format!("[{}]", kept.join(","));
    Ok(Answer::Result(crate::protocol::with_member(result, kind.member(), &kept)))
}

/// Makes sure that one backend's list is known, as it is in the config by then.
pub(super) async fn meet(
    session: &Arc<Session>,
    server: &Server,
    kind: Kind,
) -> Result<(), Failure> {
    let gateway = session.gateway();
    if !gateway.lacks(session, server, kind) {
        return Ok(());
    }
    let began = Instant::now();
    let name = server.name.as_str();
    let mut asked = server.revision;
    loop {
        drop(discover(Arc::clone(session), name.to_owned(), vec![kind]).await?);
        let now = gateway.server(name);
        if now.as_ref().is_none_or(|now| !gateway.lacks(session, now, kind)) {
            // Of one that is in the config no more, nothing is missing.
            return Ok(());
        }
        // Another entry may have come into force meanwhile, and again meanwhile.
        let changed = now.filter(|now| now.revision != asked);
        match changed.filter(|now| began.elapsed() < now.timeouts.start) {
            Some(now) => asked = now.revision,
            None => {
                let (server, reason) =
                    (name.to_owned(), format!("gave no answer to {}", kind.method()));
                return Err(Failure::Backend { server, reason });
            }
        }
    }
}

/// The backend that has not been met and that a name must belong to, if any: the only one there
/// is, or the one whose prefix it has.
pub(super) fn owner(session: &Session, kind: Kind, name: &str) -> Option<Arc<Server>> {
    let unmet = unmet(session, &[kind]);
    if let ([only], 1) = (unmet.as_slice(), visible(session).len()) {
        return Some(Arc::clone(only));
    }
    let owns = |server: &Arc<Server>| {
        let bare = match server.prefix.as_deref() {
            Some("") => None,
            Some(prefix) => name.strip_prefix(prefix),
            None => name.strip_prefix(server.name.as_str()).and_then(|rest| rest.strip_prefix('_')),
        };
        bare.is_some_and(|bare| {
            let (server, exposed) = (server.name.as_str(), name);
            let target = match kind {
                Kind::Prompts => Target::Prompt { server, exposed, bare },
                _ => Target::Tool { server, exposed, bare },
            };
            session.gateway().now().policy.authorize(&session.principal(), target).is_some()
        })
    };
    // Of `git` and `git_hub`, the longer one.
    unmet.into_iter().filter(owns).max_by_key(|server| server.name.len())
}

/// The backends that this session may see.
fn visible(session: &Session) -> Vec<Arc<Server>> {
    let (now, who) = (session.gateway().now(), session.principal());
    let servers = session.gateway().servers();
    let seen = servers.iter().filter(|server| {
        let target = Target::Server { server: &server.name };
        now.policy.authorize(&who, target).is_some()
    });
    seen.cloned().collect()
}

/// Those whose lists are not known yet.
fn unmet(session: &Session, kinds: &[Kind]) -> Vec<Arc<Server>> {
    let gateway = session.gateway();
    visible(session)
        .into_iter()
        .filter(|server| match session.layer() {
            Layer::Aggregate => server.discover == Discover::Auto,
            Layer::Server(name) => *name == server.name,
        })
        .filter(|server| kinds.iter().any(|kind| gateway.lacks(session, server, *kind)))
        .collect()
}

/// Meets the backends whose lists are not known yet, in parallel, within a bounded time.
pub(super) async fn ensure(session: &Arc<Session>, kinds: &[Kind]) {
    let gateway = session.gateway();
    // Late ones go on by themselves; list_changed follows.
    let until = tokio::time::Instant::now() + DISCOVERY;
    let needy: Vec<String> =
        unmet(session, kinds).into_iter().map(|server| server.name.clone()).collect();
    let meetings: Vec<_> =
        needy.into_iter().map(|name| gateway.meeting(session, name, kinds)).collect();
    for mut over in meetings {
        let _ = tokio::time::timeout_at(until, over.wait_for(|over| *over)).await;
    }
}

/// Meetings with backends that are going on, about these lists, each with the word of its end.
pub(super) type Meetings = Mutex<HashMap<Matter, watch::Receiver<bool>>>;

type Matter = (InstanceKey, Vec<Kind>);

impl Gateway {
    /// The meeting with a backend: the one that is going on, or a new one.
    fn meeting(
        &self,
        session: &Arc<Session>,
        name: String,
        kinds: &[Kind],
    ) -> watch::Receiver<bool> {
        let (done, over) = watch::channel(false);
        let Some(server) = self.server(&name) else {
            done.send_replace(true);
            return over;
        };
        let key = (self.key(&server, session), kinds.to_vec());
        let mut meetings = self.meetings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(going_on) = meetings.get(&key) {
            return going_on.clone();
        }
        meetings.insert(key.clone(), over.clone());
        drop(meetings);
        let (session, kinds) = (Arc::clone(session), kinds.to_vec());
        self.tracker.spawn(async move {
            let _over = Over { session: Arc::clone(&session), key, done };
            match discover(session, name.clone(), kinds).await {
                Ok(lease) => drop(lease),
                Err(failure) => tracing::info!(server = name, "not met: {failure}"),
            }
        });
        over
    }
}

/// Ends a meeting, however it went.
struct Over {
    session: Arc<Session>,
    key: Matter,
    done: watch::Sender<bool>,
}

impl Drop for Over {
    fn drop(&mut self) {
        let meetings = &self.session.gateway().meetings;
        meetings.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        self.done.send_replace(true);
    }
}

/// Starts a backend and waits until its lists have been taken.
pub(super) async fn discover(
    session: Arc<Session>,
    name: String,
    kinds: Vec<Kind>,
) -> Result<Lease, Failure> {
    let gateway = session.gateway();
    let server = gateway.server(&name).ok_or_else(|| Failure::UnknownMethod(name.clone()))?;
    let deadline = Instant::now() + server.timeouts.start;
    let permit = gateway.now().policy.own_work(&name);
    if session.is_over() {
        return Err(Failure::ShuttingDown);
    }
    let (holder, speak) = (session.holder(), session.speak());
    let lease = gateway.supervisor.acquire(permit, holder, speak, deadline).await?;
    // Listing is no call of a client's; it must not take one's place.
    let lease = lease.only_hold();
    session.uses(&name.as_str().into());
    // It may have been fetched first.
    let deadline = deadline.max(Instant::now() + server.timeouts.start / 2);
    let mut again = false;
    loop {
        let grown = gateway.catalog.grown.notified();
        tokio::pin!(grown);
        grown.as_mut().enable();
        if !kinds.iter().any(|kind| gateway.lacks(&session, lease.instance().server(), *kind)) {
            return Ok(lease);
        }
        if !lease.link().is_open() {
            return Err(Failure::Gone(name));
        }
        if session.is_over() {
            gateway.supervisor.end_session(&session.holder().session);
            return Err(Failure::ShuttingDown);
        }
        let late = || Failure::Late {
            server: name.clone(),
            seconds: server.timeouts.start.as_secs_f32(),
            key: "timeouts.start",
        };
        if !lease.link().is_listing() {
            // They were asked for and did not all come; once more, and no more.
            if std::mem::replace(&mut again, true) {
                return Err(late());
            }
            let take = gateway.take(lease.instance(), lease.link(), &kinds);
            tokio::time::timeout_at(deadline.into(), take).await.map_err(|_| late())?;
            continue;
        }
        tokio::time::timeout_at(deadline.into(), grown).await.map_err(|_| late())?;
    }
}

impl Gateway {
    /// Whether this list of a backend has not been taken yet, though it may have one.
    fn lacks(&self, session: &Session, server: &Server, kind: Kind) -> bool {
        let key = self.key(server, session);
        match self.catalog.get(&key, server) {
            None => true,
            Some(listing) => lacks(&listing, kind),
        }
    }
}

fn lacks(listing: &Listing, kind: Kind) -> bool {
    listing.has(kind.capability()) && listing.list(kind).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_end_and_follow_each_other() {
        let all: Vec<String> = (0..2500).map(|n| n.to_string()).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let mut cursor = None;
        let mut seen = Vec::new();
        for _ in 0..4 {
            let text = page(&all, Kind::Tools, cursor.as_deref()).unwrap();
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            seen.extend(value["tools"].as_array().unwrap().iter().map(|n| n.to_string()));
            cursor = value["nextCursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, all);
        assert!(page(&all, Kind::Tools, Some("x")).is_err());
        assert!(page(&all, Kind::Tools, Some("mcp-gateway:2501")).is_err());
        assert_eq!(page(&[], Kind::Prompts, None).unwrap(), r#"{"prompts":[]}"#);
    }
}
