//! What the gateway listens to at modern backends: `subscriptions/listen` of its own.
//!
//! One for the lists of each instance, one for each resource or task, as long as somebody wants
//! to hear of it: who does has a [`Hearing`]. Who of the clients is told is decided as for a
//! legacy backend (`notices.rs`).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::translate::without_subscription;
use crate::{
    backend::{AskError, Host, Instance, InstanceKey, Link},
    gateway::{Gateway, catalog::Kind},
    protocol::{Message, method},
};

/// Before a subscription that the backend has ended is asked for again; twice as long each time,
/// unless it has lasted.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MOST: Duration = Duration::from_secs(60);

/// All subscriptions of ours, by instance and subject.
#[derive(Clone, Default)]
pub(in crate::gateway) struct Upstream(Arc<Mutex<HashMap<Matter, Heard>>>);

type Matter = (InstanceKey, Subject);
/// What the one who listens needs.
type ToHear = (CancellationToken, watch::Sender<Option<bool>>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::gateway) enum Subject {
    Lists,
    Resource(String),
    Task(String),
}

struct Heard {
    wanted: usize,
    /// Tells it from another one of the same key.
    number: u64,
    stop: CancellationToken,
    agreed: watch::Receiver<Option<bool>>,
}

/// The wish to hear of something. The last one to be dropped ends the subscription.
pub(in crate::gateway) struct Hearing {
    upstream: Upstream,
    matter: Matter,
    number: u64,
    agreed: watch::Receiver<Option<bool>>,
}

impl Hearing {
    /// An error if the backend does not agree to tell.
    pub(in crate::gateway) async fn agreed(&mut self, within: Duration) -> Result<(), AskError> {
        let answered = self.agreed.wait_for(Option::is_some);
        match tokio::time::timeout(within, answered).await {
            Ok(Ok(agreed)) if *agreed == Some(true) => Ok(()),
            Ok(_) => Err(AskError::Answered("it does not tell of that".to_owned())),
            Err(_) => Err(AskError::Late { method: method::LISTEN.to_owned(), after: within }),
        }
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        let mut all = self.upstream.all();
        let Some(heard) = all.get_mut(&self.matter) else { return };
        if heard.number != self.number {
            return;
        }
        heard.wanted -= 1;
        if heard.wanted == 0 {
            heard.stop.cancel();
            all.remove(&self.matter);
        }
    }
}

impl Upstream {
    fn all(&self) -> MutexGuard<'_, HashMap<Matter, Heard>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more who wants to hear of it; with what the one who is to listen needs, if that is
    /// the first.
    fn wish(&self, matter: Matter) -> (Hearing, Option<ToHear>) {
        let mut all = self.all();
        let mut new = None;
        let number = all.values().map(|heard| heard.number).max().unwrap_or_default() + 1;
        let heard = all.entry(matter.clone()).or_insert_with(|| {
            let (sender, agreed) = watch::channel(None);
            let stop = CancellationToken::new();
            new = Some((stop.clone(), sender));
            Heard { wanted: 0, number, stop, agreed }
        });
        heard.wanted += 1;
        let (number, agreed) = (heard.number, heard.agreed.clone());
        drop(all);
        (Hearing { upstream: self.clone(), matter, number, agreed }, new)
    }

    /// The instance has ended.
    pub(in crate::gateway) fn forget(&self, key: &InstanceKey) {
        self.all().retain(|(known, _), heard| {
            if known == key {
                heard.stop.cancel();
            }
            known != key
        });
    }

    /// Nothing more will be heard of it.
    fn end(&self, matter: &Matter) {
        self.all().remove(matter);
    }
}

impl Subject {
    fn filter(&self, link: &Link) -> Option<Value> {
        match self {
            Subject::Resource(uri) => Some(json!({"resourceSubscriptions": [uri]})),
            Subject::Task(id) => Some(json!({"taskIds": [id]})),
            Subject::Lists => {
                let mut filter = Map::new();
                for (key, list) in [
                    ("toolsListChanged", "tools"),
                    ("promptsListChanged", "prompts"),
                    ("resourcesListChanged", "resources"),
                ] {
                    let capable = link.info().map(|info| &info.capabilities[list]["listChanged"]);
                    if capable == Some(&Value::Bool(true)) {
                        filter.insert(key.to_owned(), true.into());
                    }
                }
                (!filter.is_empty()).then(|| filter.into())
            }
        }
    }

    /// Whether the backend has agreed to it.
    fn is_honoured(&self, acknowledged: &Value) -> bool {
        let has = |key: &str, value: &str| {
            let all = acknowledged[key].as_array();
            all.is_some_and(|all| all.iter().any(|one| one == value))
        };
        match self {
            Subject::Lists => true,
            Subject::Resource(uri) => has("resourceSubscriptions", uri),
            Subject::Task(id) => has("taskIds", id),
        }
    }
}

impl Gateway {
    /// Hears of something at a modern backend, as long as the value lives; of its lists, as long
    /// as the instance does. `None`: there is no more to it.
    pub(in crate::gateway) fn hear(
        &self,
        instance: &Arc<Instance>,
        link: &Arc<Link>,
        subject: Subject,
    ) -> Option<Hearing> {
        let filter = subject.filter(link)?;
        let matter = (instance.key().clone(), subject.clone());
        let (hearing, new) = self.upstream.wish(matter);
        let mut hearing = Some(hearing);
        if let Some((stop, agreed)) = new {
            // Nobody but the gateway wants to hear of the lists, until the instance ends.
            let own = if subject == Subject::Lists { hearing.take() } else { None };
            let ear = Ear {
                gateway: self.me(),
                instance: Arc::clone(instance),
                link: Arc::clone(link),
                subject,
                agreed,
            };
            let params = json!({"notifications": filter}).to_string();
            self.tracker.spawn(async move {
                let _own = own;
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = ear.hear(&params) => {}
                }
            });
        }
        hearing
    }
}

/// One subscription, asked for again until the child ends or nobody wants it any more.
struct Ear {
    gateway: Weak<Gateway>,
    instance: Arc<Instance>,
    link: Arc<Link>,
    subject: Subject,
    agreed: watch::Sender<Option<bool>>,
}

impl Ear {
    async fn hear(self, params: &str) {
        let mut pause = PAUSE;
        loop {
            let began = Instant::now();
            let again = self.once(params).await;
            // A task that nothing more is told of is over.
            if !again || !self.link.is_open() || matches!(self.subject, Subject::Task(_)) {
                break;
            }
            pause = if began.elapsed() > PAUSE_MOST { PAUSE } else { pause };
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MOST);
            let Some(gateway) = self.gateway.upgrade() else { return };
            // What has changed in between nobody has said.
            if self.subject == Subject::Lists {
                gateway.take(&self.instance, &self.link, &Kind::ALL).await;
            }
        }
        self.agreed.send_if_modified(|agreed| agreed.is_none() && agreed.replace(false).is_none());
        if let Some(gateway) = self.gateway.upgrade() {
            gateway.upstream.end(&(self.instance.key().clone(), self.subject.clone()));
        }
    }

    /// Until the backend ends it. False: it will not have it.
    async fn once(&self, params: &str) -> bool {
        let Ok(mut asked) = self.link.open(method::LISTEN, params) else { return false };
        while let Some(said) = asked.answers.recv().await {
            if said.last {
                return !said.failed;
            }
            let Ok(message) = Message::parse(said.bytes) else { continue };
            if message.method() == method::ACKNOWLEDGED {
                let params = message.params::<Value>().unwrap_or_default();
                let honoured = self.subject.is_honoured(&params["notifications"]);
                self.agreed.send_replace(Some(honoured));
                if !honoured {
                    return false;
                }
                continue;
            }
            let Some(gateway) = self.gateway.upgrade() else { return false };
            // Ours is nobody else's business, and legacy clients pass such messages over.
            let Ok(message) = message.with_params(without_subscription) else { continue };
            gateway.notification(&self.instance, &self.link, message);
        }
        true
    }
}
