//! What backends say of their own accord, and who hears it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::Deserialize;

use super::{
    Gateway, Layer, Session,
    catalog::{Kind, Listing, fetch},
    era::Subject,
    error::Failure,
    opening::Level,
    router::{Answer, Request},
};
use crate::{
    backend::{AskError, Host, Instance, InstanceKey, Link, Opening, Scope},
    config::Share,
    protocol::{Era, Message, method, stream::Outgoing, string_member},
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

/// What legacy backends were told to log, as long as they run.
#[derive(Default)]
pub(super) struct Levels(Mutex<HashMap<InstanceKey, Level>>);

impl Levels {
    fn all(&self) -> MutexGuard<'_, HashMap<InstanceKey, Level>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &InstanceKey) -> Option<Level> {
        self.all().get(key).copied()
    }

    fn note(&self, key: &InstanceKey, level: Level) {
        self.all().insert(key.clone(), level);
    }

    fn forget(&self, key: &InstanceKey) {
        self.all().remove(key);
    }
}

/// Backends that did not start in the era that they spoke before: the next start asks again.
#[derive(Default)]
pub(super) struct Doubts(Mutex<HashSet<InstanceKey>>);

impl Doubts {
    fn all(&self) -> MutexGuard<'_, HashSet<InstanceKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has(&self, key: &InstanceKey) -> bool {
        self.all().contains(key)
    }
}

impl Host for Gateway {
    fn notification(&self, from: &Arc<Instance>, link: &Arc<Link>, message: Message) {
        match message.method().as_ref() {
            // Without an id it would take back everything.
            method::CANCELLED => match (message.request_id(), link.era()) {
                (Some(id), Era::Legacy) => self.withdrawn(link, Some(id), Some(&message)),
                // The end of a subscription of ours.
                (Some(id), Era::Modern) => link.dropped(id),
                (None, _) => {}
            },
            method::LOG_MESSAGE => self.logged(from, link, &message),
            method::TOOLS_CHANGED => self.list_changed(from, link, Kind::Tools, &message),
            method::PROMPTS_CHANGED => self.list_changed(from, link, Kind::Prompts, &message),
            method::RESOURCES_CHANGED => self.list_changed(from, link, Kind::Resources, &message),
            method::RESOURCE_UPDATED => self.resource_updated(from, &message),
            method::TASK_STATUS => self.task_status(from, link, &message),
            method::TASK_CHANGED => self.task_changed(from, &message),
            method::ACKNOWLEDGED => {}
            // Of a call that is answered: its task goes on, or nobody asked for progress.
            method::PROGRESS => self.task_progress(link, &message),
            _ => self.unknown_notice(from, link, &message),
        }
    }

    fn request(&self, from: &Arc<Instance>, link: &Arc<Link>, message: Message) {
        self.asked(from, link, &message);
    }

    fn opening(&self, instance: &Instance) -> Opening {
        self.opening_for(instance)
    }

    fn unopened(&self, instance: &Arc<Instance>) {
        self.doubts.all().insert(instance.key().clone());
    }

    fn ready(&self, instance: &Arc<Instance>, link: &Arc<Link>) {
        self.doubts.all().remove(instance.key());
        self.begin_life(instance, link);
        self.subscribe_again(instance, link);
        if instance.server().discover == crate::config::Discover::Placeholder {
            self.changed(instance);
        }
    }

    fn gone(&self, instance: &Arc<Instance>, link: &Arc<Link>) {
        self.withdrawn(link, None, None);
        // Who waits for its lists waits in vain.
        self.catalog.grown.notify_waiters();
        self.catalog.asleep(instance.key());
        self.tasks.forget_instance(instance.key());
        self.upstream.forget(instance.key());
        self.levels.forget(instance.key());
        for session in self.users_of(instance) {
            session.subscriptions.lost(&instance.key().server);
            // One of another revision may have taken its place before it ended.
            let server = &instance.key().server;
            let next = self.supervisor.running(server, session.holder(), session.speak());
            if let Some((next, link)) = next.and_then(|next| Some((next.clone(), next.link()?))) {
                self.subscribe_again(&next, &link);
            }
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
    pub(super) fn users_of(&self, instance: &Instance) -> Vec<Arc<Session>> {
        let sessions = self.sessions();
        let all = sessions
            .values()
            .filter(|session| session.has_used(&instance.key().server) && session.shares(instance));
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
        let mut apart = None;
        for session in self.users_of(from) {
            if session.era() == Era::Modern {
                // Only those who asked, and only about their own request; of two principals'
                // requests nobody can say which it is about.
                let wanted = session.level().is_some_and(|wanted| level >= Some(wanted));
                if wanted
                    && !*apart.get_or_insert_with(|| self.serves_several(link))
                    && let Some(stream) = link.newest_of(session.serial())
                {
                    let _ = stream.send(Outgoing::spare(bytes.clone()));
                }
                continue;
            }
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

    /// Whether calls of several principals are in flight.
    fn serves_several(&self, link: &Link) -> bool {
        let sessions = link.sessions();
        let mut users = sessions.into_iter().filter_map(|serial| self.session(serial));
        let first = users.next();
        first.is_some_and(|first| {
            users.any(|session| session.principal().key() != first.principal().key())
        })
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
            // In the modern era a stream carries what belongs to its request, and nothing else.
            let concerned = session.era() == Era::Legacy;
            let concerned = concerned
                && match &elicitation {
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
            if session.subscriptions.has(server, &uri)
                || session.subscriptions.has_above(server, &uri)
            {
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
                let owner = self.conversation(id);
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
            gateway.met(&instance, &link);
            if link.era() == Era::Modern {
                // First, so that no change of what is taken now goes unheard.
                drop(gateway.hear(&instance, &link, Subject::Lists));
            }
            gateway.set_level_at(&instance, &link).await;
            if !for_itself {
                gateway.take(&instance, &link, &Kind::ALL).await;
            }
            drop(listing);
            gateway.catalog.grown.notify_waiters();
        });
    }

    /// Takes what a child said of itself into the catalog.
    fn met(&self, instance: &Instance, link: &Link) {
        let Some(info) = link.info() else { return };
        let (key, server) = (instance.key(), instance.server());
        let known = self.catalog.get(key, server);
        if known.as_ref().is_none_or(|known| known.info != info.raw) {
            let known = known.filter(|known| known.era == Some(info.era));
            let listing = Listing {
                from_disk: false,
                ..known.map_or_else(
                    || Listing::of(info),
                    |known| Listing {
                        info: Arc::clone(&info.raw),
                        capabilities: info.capabilities.clone(),
                        ..(*known).clone()
                    },
                )
            };
            self.catalog.put(key, server, listing);
        }
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
                era: Some(info.era),
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
        let sessions: Vec<Arc<Session>> = self.sessions().values().cloned().collect();
        for session in sessions.iter().filter(|session| session.shares(instance)) {
            session.tell_what_changed(&Kind::ALL);
        }
    }

    // Log levels.

    /// The most verbose level that any client of this instance asked for.
    async fn set_level_at(&self, instance: &Arc<Instance>, link: &Arc<Link>) {
        let level = {
            let sessions = self.sessions();
            let mine = sessions.values().filter(|session| session.shares(instance));
            mine.filter_map(|session| session.level()).min()
        };
        if let Some(level) = level {
            self.say_level(instance, link, level).await;
        }
    }

    /// Sees to it that a legacy backend tells at least this much.
    pub(super) async fn raise_level(&self, instance: &Instance, link: &Link, level: Level) {
        if self.levels.get(instance.key()).is_none_or(|known| known > level) {
            self.say_level(instance, link, level).await;
        }
    }

    async fn say_level(&self, instance: &Instance, link: &Link, level: Level) {
        // In the modern era each request says its own.
        if !link.has("logging") || link.era() == Era::Modern {
            return;
        }
        let params = format!("{{\"level\":\"{}\"}}", level.as_str());
        let within = instance.server().timeouts.call;
        match link.ask_result(method::SET_LEVEL, &params, within).await {
            Ok(_) => self.levels.note(instance.key(), level),
            Err(error) => {
                // It will not be asked again for this.
                self.levels.note(instance.key(), level);
                tracing::debug!(server = instance.server_name(), "{}: {error}", method::SET_LEVEL);
            }
        }
    }
}

pub(super) async fn set_level(request: &Request<'_>) -> Result<Answer, Failure> {
    let session = request.session;
    let gateway = session.gateway();
    if let Layer::Server(name) = session.layer()
        && let Some(server) = gateway.server(name)
        && let Some(listing) = gateway.catalog.get(&gateway.key(&server, session), &server)
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
        let instance = gateway.supervisor.running(&name, session.holder(), session.speak());
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
