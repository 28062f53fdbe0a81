//! What backends say of their own accord, and who hears it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::{
    Gateway, Layer, Session, call,
    catalog::{Kind, Listing, fetch},
    error::Failure,
    opening::Level,
    router::{Answer, Request},
};
use crate::{
    backend::{AskError, Host, Instance, InstanceKey, Link, Opening, Scope},
    config::Share,
    protocol::{Message, method, string_member},
};

/// A list that changes again and again is taken, and told, once in this time.
const QUIET: Duration = Duration::from_secs(1);
/// A burst of changes is taken as one.
const BURST: Duration = Duration::from_millis(50);

/// Which lists are waiting to be taken again, and when each was taken last.
#[derive(Default)]
pub(super) struct Debounce(Mutex<HashMap<(InstanceKey, &'static str), Instant>>);

impl Debounce {
    /// How long to wait before this change is followed; `None` when somebody waits already.
    fn begin(&self, key: &InstanceKey, what: &'static str) -> Option<Duration> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        all.retain(|_, due| *due + QUIET > now);
        let due = all.get(&(key.clone(), what)).copied();
        let next = match due {
            Some(due) if due > now => return None,
            Some(due) => (due + QUIET).max(now + BURST),
            None => now + BURST,
        };
        all.insert((key.clone(), what), next);
        Some(next - now)
    }
}

impl Host for Gateway {
    fn notification(&self, from: &Arc<Instance>, link: &Arc<Link>, message: Message) {
        match message.method().as_ref() {
            method::CANCELLED => self.withdrawn(link, message.request_id(), Some(&message)),
            method::LOG_MESSAGE => self.logged(from, link, &message),
            method::TOOLS_CHANGED => self.list_changed(from, link, Kind::Tools, &message),
            method::PROMPTS_CHANGED => self.list_changed(from, link, Kind::Prompts, &message),
            method::RESOURCES_CHANGED => self.list_changed(from, link, Kind::Resources, &message),
            method::RESOURCE_UPDATED => self.resource_updated(from, &message),
            method::TASK_STATUS => self.task_status(from, link, &message),
            // Progress on a call that is over, or that asked for none.
            method::PROGRESS => {}
            _ => self.unknown_notice(from, link, &message),
        }
    }

    fn request(&self, from: &Arc<Instance>, link: &Arc<Link>, message: Message) {
        self.asked(from, link, &message);
    }

    fn opening(&self, instance: &Instance) -> Opening {
        self.opening_for(instance)
    }

    fn ready(&self, instance: &Arc<Instance>, link: &Arc<Link>) {
        self.begin_life(instance, link);
        if instance.server().discover == crate::config::Discover::Placeholder {
            self.changed(instance);
        }
    }

    fn gone(&self, instance: &Arc<Instance>, link: &Arc<Link>) {
        self.withdrawn(link, None, None);
        // Who waits for its lists waits in vain.
        self.catalog.grown.notify_waiters();
        self.tasks.forget_instance(instance.key());
        for session in self.users_of(instance) {
            session.subscriptions_lost(&instance.key().server);
        }
        if instance.server().discover == crate::config::Discover::Placeholder {
            self.changed(instance);
        }
    }
}

#[derive(Deserialize, Default)]
struct LogParams {
    level: Option<Level>,
}

impl Gateway {
    /// The sessions whose calls go to this instance and that have used it.
    fn users_of(&self, instance: &Instance) -> Vec<Arc<Session>> {
        let key = instance.key();
        let share = instance.server().share;
        let sessions = self.sessions();
        let all = sessions.values().filter(|session| {
            session.holder().scope(share) == key.scope && session.has_used(&key.server)
        });
        all.cloned().collect()
    }

    /// To the newest call of a session here where there is one, so that it comes before that
    /// call's answer; else to where the session hears unsolicited messages.
    fn say(&self, session: &Session, link: &Link, bytes: Bytes) {
        match link.newest_of(session.serial()) {
            Some(stream) if stream.notify(bytes.clone()).is_ok() => {}
            _ => session.tell(bytes),
        }
    }

    fn logged(&self, from: &Instance, link: &Link, message: &Message) {
        let level = message.params::<LogParams>().ok().and_then(|params| params.level);
        let bytes = message.edit().finish();
        for session in self.users_of(from) {
            let wanted = match (session.level(), level) {
                (Some(wanted), Some(level)) => level >= wanted,
                _ => true,
            };
            // Log lines are the first to be left out for a client that does not keep up.
            if wanted && !session.is_crowded() {
                self.say(&session, link, bytes.clone());
            }
        }
    }

    fn unknown_notice(&self, from: &Instance, link: &Link, message: &Message) {
        #[derive(Deserialize, Default)]
        struct Params {
            #[serde(rename = "elicitationId")]
            elicitation: Option<String>,
        }
        let elicitation = message.params::<Params>().ok().and_then(|params| params.elicitation);
        let bytes = message.edit().finish();
        for session in self.users_of(from) {
            let concerned = match &elicitation {
                Some(id) => session.questions.knows_elicitation(id),
                None => matches!(session.layer(), Layer::Server(_)),
            };
            if concerned {
                self.say(&session, link, bytes.clone());
            }
        }
    }

    fn resource_updated(&self, from: &Instance, message: &Message) {
        let Some(uri) = message.uri() else { return };
        let server = &from.key().server;
        let bytes = message.edit().finish();
        for session in self.users_of(from) {
            // A server may report a part of what was subscribed to.
            if session.subscribed(server, &uri) || session.subscribed_above(server, &uri) {
                session.tell(bytes.clone());
            }
        }
    }

    // Lists.

    fn list_changed(&self, from: &Arc<Instance>, link: &Arc<Link>, kind: Kind, message: &Message) {
        let Some(wait) = self.debounce.begin(from.key(), kind.member()) else { return };
        let gateway = self.me();
        let (instance, link) = (Arc::clone(from), Arc::clone(link));
        let bytes = message.edit().finish();
        self.tracker.spawn(async move {
            tokio::time::sleep(wait).await;
            let Some(gateway) = gateway.upgrade() else { return };
            if instance.server().share == Share::Session {
                // Its one client lists for itself on a transparent session.
                for session in gateway.users_of(&instance) {
                    if matches!(session.layer(), Layer::Server(_)) {
                        session.tell(bytes.clone());
                    }
                }
            }
            let kinds: &[Kind] = match kind {
                Kind::Resources => &[Kind::Resources, Kind::Templates],
                Kind::Tools => &[Kind::Tools],
                Kind::Prompts | Kind::Templates => &[Kind::Prompts],
            };
            gateway.take(&instance, &link, kinds).await;
        });
    }

    /// What a fresh child is told and asked: its log level, its lists.
    fn begin_life(&self, instance: &Arc<Instance>, link: &Arc<Link>) {
        // A transparent session with a child of its own lists for itself.
        let for_itself = match &instance.key().scope {
            Scope::Session(id) => {
                let sessions = self.sessions();
                let owner = sessions.values().find(|session| session.id() == id);
                owner.is_some_and(|session| matches!(session.layer(), Layer::Server(_)))
            }
            _ => false,
        };
        let gateway = self.me();
        let (instance, link) = (Arc::clone(instance), Arc::clone(link));
        // From now on, so that nobody asks a second time.
        let listing = link.listing();
        self.tracker.spawn(async move {
            let Some(gateway) = gateway.upgrade() else { return };
            gateway.set_level_at(&instance, &link).await;
            if !for_itself {
                gateway.take(&instance, &link, &Kind::ALL).await;
            }
            drop(listing);
            gateway.catalog.grown.notify_waiters();
        });
    }

    /// Asks a running backend for lists and takes each into the catalog as it comes.
    pub(super) async fn take(&self, instance: &Arc<Instance>, link: &Arc<Link>, kinds: &[Kind]) {
        let Some(info) = link.info().cloned() else { return };
        let listing = link.listing();
        let server = instance.server();
        for kind in kinds {
            let list = if info.capabilities.get(kind.capability()).is_none() {
                None
            } else {
                match fetch(link, *kind, server.timeouts.call).await {
                    Ok(list) => Some(Arc::new(list)),
                    // It promised the list and refuses it; templates are often forgotten.
                    Err(error @ AskError::Answered(_)) => {
                        tracing::warn!(server = server.name, "{}: {error}", kind.method());
                        Some(Arc::default())
                    }
                    // What was known before still holds, and the other lists may come.
                    Err(error) => {
                        tracing::warn!(server = server.name, "{}: {error}", kind.method());
                        continue;
                    }
                }
            };
            let known = self.catalog.get(instance.key(), server);
            let mut listing = Listing {
                info: Arc::clone(&info.raw),
                capabilities: info.capabilities.clone(),
                from_disk: false,
                ..known.map(|known| (*known).clone()).unwrap_or_default()
            };
            listing.set(*kind, list);
            if self.catalog.put(instance.key(), server, listing) {
                self.changed(instance);
            }
        }
        drop(listing);
        self.catalog.grown.notify_waiters();
    }

    /// Every session whose lists look different now is told, and no other.
    pub(super) fn changed(&self, instance: &Instance) {
        self.catalog.touch();
        let key = instance.key();
        let share = instance.server().share;
        let sessions: Vec<Arc<Session>> = self.sessions().values().cloned().collect();
        for session in sessions {
            if session.holder().scope(share) != key.scope {
                continue;
            }
            let view = session.view();
            let mut told = HashSet::new();
            for kind in Kind::ALL {
                if session.looks_new(kind, view.mark(kind)) && told.insert(kind.changed()) {
                    let notice = json!({"jsonrpc": "2.0", "method": kind.changed()});
                    session.tell(notice.to_string().into());
                }
            }
        }
    }

    // Log levels.

    /// The most verbose level that any client of this instance asked for.
    async fn set_level_at(&self, instance: &Arc<Instance>, link: &Arc<Link>) {
        if !link.has("logging") {
            return;
        }
        let key = instance.key();
        let share = instance.server().share;
        let level = {
            let sessions = self.sessions();
            let mine =
                sessions.values().filter(|session| session.holder().scope(share) == key.scope);
            mine.filter_map(|session| session.level()).min()
        };
        let Some(level) = level else { return };
        let params = format!("{{\"level\":\"{}\"}}", level.as_str());
        let within = instance.server().timeouts.call;
        if let Err(error) = link.ask_result(method::SET_LEVEL, &params, within).await {
            tracing::debug!(server = instance.server_name(), "{}: {error}", method::SET_LEVEL);
        }
    }

    // Subscriptions.

    /// Tells backends that nobody listens to these any more, where that is so.
    pub(super) fn unsubscribe_lost(&self, session: &Session, lost: &[(Arc<str>, String)]) {
        for (name, uri) in lost {
            let Some(server) = self.server(name) else { continue };
            let Some(instance) = self.supervisor.running(name, session.holder()) else { continue };
            let others = self.users_of(&instance);
            let others = others.iter().any(|other| other.subscribed(name, uri));
            if let (false, Some(link)) = (others, instance.link()) {
                let params = json!({ "uri": uri }).to_string();
                let within = server.timeouts.call;
                self.tracker.spawn(async move {
                    let _ = link.ask(method::RESOURCES_UNSUBSCRIBE, &params, within).await;
                });
            }
        }
    }
}

pub(super) async fn subscribe(request: &Request<'_>) -> Result<Answer, Failure> {
    let session = request.session;
    let gateway = session.gateway();
    let permit = call::resource_permit(request).await?;
    let server = Arc::clone(permit.server());
    let uri = request.message.uri().unwrap_or_default().into_owned();
    let timeouts =
        gateway.server(&server).map(|server| server.timeouts.clone()).unwrap_or_default();
    let deadline = Instant::now() + timeouts.start.max(timeouts.call);
    // Held as long as the subscription is, so that its instance is not reaped meanwhile.
    let lease = gateway.supervisor.acquire(permit, session.holder(), deadline).await?;
    session.uses(&server);
    let params = request.raw_params().unwrap_or_else(|| "{}".into());
    let answer = lease.link().ask(method::RESOURCES_SUBSCRIBE, &params, timeouts.call).await;
    let answer = answer.map_err(|error| backend(&server, &error))?;
    if answer.is_error() {
        return Ok(Answer::Message(answer.edit().id(request.id()).finish()));
    }
    session.subscribe(server, uri, lease.only_hold());
    Ok(Answer::Message(answer.edit().id(request.id()).finish()))
}

pub(super) async fn unsubscribe(request: &Request<'_>) -> Result<Answer, Failure> {
    let session = request.session;
    let permit = call::resource_permit(request).await?;
    let server = Arc::clone(permit.server());
    let uri = request.message.uri().unwrap_or_default().into_owned();
    let Some(lease) = session.unsubscribe(&server, &uri) else {
        // Nothing to end; the backend says what it thinks of that.
        return call::forward(request, permit, None).await;
    };
    session.gateway().unsubscribe_lost(session, &[(server, uri)]);
    drop(lease);
    Ok(Answer::Result("{}".into()))
}

pub(super) async fn set_level(request: &Request<'_>) -> Result<Answer, Failure> {
    let session = request.session;
    let gateway = session.gateway();
    if let Layer::Server(name) = session.layer()
        && let Some(server) = gateway.server(name)
        && let Some(listing) = gateway.catalog.get(&gateway.key(server, session.holder()), server)
        && !listing.has("logging")
    {
        return Err(request.unknown_method());
    }
    let level =
        request.raw_params().and_then(|params| Level::parse(&string_member(&params, "level")?));
    let level = level.ok_or_else(|| {
        Failure::InvalidParams("logging/setLevel: `level` must be one of debug, info, notice, warning, error, critical, alert, emergency".into())
    })?;
    session.set_level(level);
    // Those that run hear it now, the others when they start.
    for name in session.used() {
        let instance = gateway.supervisor.running(&name, session.holder());
        if let Some((instance, link)) =
            instance.and_then(|instance| Some((instance.clone(), instance.link()?)))
        {
            gateway.set_level_at(&instance, &link).await;
        }
    }
    Ok(Answer::Result("{}".into()))
}

pub(super) fn backend(server: &str, error: &crate::backend::AskError) -> Failure {
    Failure::Backend { server: server.to_owned(), reason: error.to_string() }
}
