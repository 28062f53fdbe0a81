//! What the gateway listens to at modern backends: `subscriptions/listen` of its own.
//!
//! One for the lists of each instance, one for each resource or task that a client wants to hear
//! of. Who of the clients hears it is decided as for a legacy backend (`notices.rs`).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use serde_json::{Map, Value, json};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{
    backend::{AskError, Host, Instance, InstanceKey, Link},
    gateway::{Gateway, catalog::Kind},
    protocol::{Message, method},
};

/// Before a subscription that the backend has ended is asked for again.
const PAUSE: Duration = Duration::from_secs(1);

/// All subscriptions of ours, by instance and subject.
#[derive(Default)]
pub(in crate::gateway) struct Upstream(Mutex<HashMap<(InstanceKey, Subject), CancellationToken>>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    Lists,
    Resource(String),
    Task(String),
}

impl Upstream {
    fn all(&self) -> MutexGuard<'_, HashMap<(InstanceKey, Subject), CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new one; `None` where there is one already.
    fn begin(&self, key: &InstanceKey, subject: &Subject) -> Option<CancellationToken> {
        let mut all = self.all();
        let key = (key.clone(), subject.clone());
        if all.contains_key(&key) {
            return None;
        }
        let stop = CancellationToken::new();
        all.insert(key, stop.clone());
        Some(stop)
    }

    fn end(&self, key: &InstanceKey, subject: &Subject) {
        if let Some(stop) = self.all().remove(&(key.clone(), subject.clone())) {
            stop.cancel();
        }
    }

    /// The instance has ended.
    pub(in crate::gateway) fn forget(&self, key: &InstanceKey) {
        self.all().retain(|(known, _), stop| {
            if known == key {
                stop.cancel();
            }
            known != key
        });
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
    /// Hears of changes of the lists, as long as the child lives.
    pub(in crate::gateway) fn listen_for_lists(&self, instance: &Arc<Instance>, link: &Arc<Link>) {
        drop(self.listen_upstream(instance, link, Subject::Lists));
    }

    /// Hears of changes of a resource. An error if the backend does not agree to tell.
    pub(in crate::gateway) async fn listen_for_resource(
        &self,
        instance: &Arc<Instance>,
        link: &Arc<Link>,
        uri: &str,
        within: Duration,
    ) -> Result<(), AskError> {
        let heard = self.listen_upstream(instance, link, Subject::Resource(uri.to_owned()));
        agreed(heard, within, uri).await
    }

    /// Hears of a task.
    pub(in crate::gateway) async fn listen_for_task(
        &self,
        instance: &Arc<Instance>,
        link: &Arc<Link>,
        id: &str,
        within: Duration,
    ) -> Result<(), AskError> {
        let heard = self.listen_upstream(instance, link, Subject::Task(id.to_owned()));
        agreed(heard, within, id).await
    }

    pub(in crate::gateway) fn listen_no_more(&self, instance: &Instance, uri: &str) {
        self.upstream.end(instance.key(), &Subject::Resource(uri.to_owned()));
    }

    /// `None`: it is listened to already, or there is nothing to hear.
    fn listen_upstream(
        &self,
        instance: &Arc<Instance>,
        link: &Arc<Link>,
        subject: Subject,
    ) -> Option<oneshot::Receiver<bool>> {
        let filter = subject.filter(link)?;
        let stop = self.upstream.begin(instance.key(), &subject)?;
        let (agreed, heard) = oneshot::channel();
        let ear = Ear {
            gateway: self.me(),
            instance: Arc::clone(instance),
            link: Arc::clone(link),
            subject,
            agreed: Some(agreed),
        };
        let params = json!({"notifications": filter}).to_string();
        self.tracker.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = ear.hear(&params) => {}
            }
        });
        Some(heard)
    }
}

async fn agreed(
    heard: Option<oneshot::Receiver<bool>>,
    within: Duration,
    what: &str,
) -> Result<(), AskError> {
    let Some(heard) = heard else { return Ok(()) };
    match tokio::time::timeout(within, heard).await {
        Ok(Ok(true)) => Ok(()),
        Ok(_) => Err(AskError::Answered(format!("it does not tell of changes of {what}"))),
        Err(_) => Err(AskError::Late { method: method::LISTEN.to_owned(), after: within }),
    }
}

/// One subscription, asked for again until the child ends or nobody wants it any more.
struct Ear {
    gateway: Weak<Gateway>,
    instance: Arc<Instance>,
    link: Arc<Link>,
    subject: Subject,
    agreed: Option<oneshot::Sender<bool>>,
}

impl Ear {
    async fn hear(mut self, params: &str) {
        while self.once(params).await && self.link.is_open() {
            tokio::time::sleep(PAUSE).await;
            let Some(gateway) = self.gateway.upgrade() else { return };
            // What has changed in between nobody has said.
            if self.subject == Subject::Lists {
                gateway.take(&self.instance, &self.link, &Kind::ALL).await;
            }
        }
        if let Some(gateway) = self.gateway.upgrade() {
            gateway.upstream.end(self.instance.key(), &self.subject);
        }
    }

    /// Until the backend ends it. False: it will not have it.
    async fn once(&mut self, params: &str) -> bool {
        let link = Arc::clone(&self.link);
        let Ok(mut asked) = link.open(method::LISTEN, params) else { return false };
        while let Some(said) = asked.answers.recv().await {
            if said.last {
                return !said.failed;
            }
            let Ok(message) = Message::parse(said.bytes) else { continue };
            if message.method() == method::ACKNOWLEDGED {
                let params = message.params::<Value>().unwrap_or_default();
                let honoured = self.subject.is_honoured(&params["notifications"]);
                if let Some(agreed) = self.agreed.take() {
                    let _ = agreed.send(honoured);
                }
                if !honoured {
                    return false;
                }
                continue;
            }
            let Some(gateway) = self.gateway.upgrade() else { return false };
            gateway.notification(&self.instance, &self.link, message);
        }
        true
    }
}
