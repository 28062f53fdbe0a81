//! Subscriptions to resources: at the instances, of either era, on behalf of sessions.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    Gateway, Session, call,
    era::{Hearing, Subject},
    error::Failure,
    notices::backend,
    router::{Answer, Request},
    subscriptions::Subscribed,
};
use crate::{
    backend::{AskError, Instance, Link},
    policy::Permit,
    protocol::{Era, Message, method, stream::Outgoing},
};

impl Gateway {
    /// Subscribes to a resource at an instance. A legacy backend's answer, which may be an error;
    /// at a modern one, what keeps the subscription up.
    async fn subscribe_at(
        &self,
        instance: &Arc<Instance>,
        link: &Arc<Link>,
        uri: &str,
        params: &str,
        within: Duration,
    ) -> Result<(Option<Message>, Option<Hearing>), AskError> {
        match link.era() {
            Era::Legacy => {
                let answer = link.ask(method::RESOURCES_SUBSCRIBE, params, within).await?;
                Ok((Some(answer), None))
            }
            Era::Modern => {
                let mut hearing = self.hear(instance, link, Subject::Resource(uri.to_owned()));
                if let Some(hearing) = &mut hearing {
                    hearing.agreed(within).await?;
                }
                Ok((None, hearing))
            }
        }
    }

    /// Subscribes to what its clients were subscribed to at an instance before this one. What
    /// has changed in between nobody knows, so they are told to look.
    pub(super) fn subscribe_again(&self, instance: &Arc<Instance>, link: &Arc<Link>) {
        let server = &instance.key().server;
        let mut lost: BTreeMap<String, Vec<Arc<Session>>> = BTreeMap::new();
        for session in self.users_of(instance) {
            for uri in session.subscriptions.unheard(server) {
                lost.entry(uri).or_default().push(Arc::clone(&session));
            }
        }
        let Some(gateway) = self.me().upgrade().filter(|_| !lost.is_empty()) else { return };
        let (instance, link) = (Arc::clone(instance), Arc::clone(link));
        self.tracker.spawn(async move {
            let (server, within) = (&instance.key().server, instance.server().timeouts.call);
            for (uri, sessions) in lost {
                let wanted = |session: &Arc<Session>| session.subscriptions.has(server, &uri);
                if !sessions.iter().any(wanted) {
                    continue;
                }
                let params = json!({ "uri": uri }).to_string();
                let _until_all_have_theirs =
                    match gateway.subscribe_at(&instance, &link, &uri, &params, within).await {
                    // Who looks sees what is left of it.
                    Ok((Some(answer), _)) if answer.is_error() => {
                        tracing::warn!(server = &**server, "not subscribed again: refused");
                        None
                    }
                    Ok((_, hearing)) => hearing,
                    Err(error @ AskError::Answered(_)) => {
                        tracing::warn!(server = &**server, "not subscribed again: {error}");
                        None
                    }
                    Err(error) => {
                        tracing::warn!(server = &**server, "not subscribed again: {error}");
                        return;
                    }
                };
                let notice =
                    json!({"jsonrpc": "2.0", "method": method::RESOURCE_UPDATED, "params": {"uri": uri}});
                for session in sessions.iter().filter(|session| wanted(session)) {
                    let held = instance.hold().map(|lease| {
                        let modern = link.era() == Era::Modern;
                        let subject = || Subject::Resource(uri.clone());
                        let hearing = modern.then(|| gateway.hear(&instance, &link, subject()));
                        Subscribed::new(lease, hearing.flatten())
                    });
                    session.subscriptions.renew(server, &uri, held);
                    session.tell(notice.to_string().into());
                }
            }
        });
    }

    /// Tells backends that nobody listens to these any more, where that is so.
    pub(super) fn unsubscribe_lost(&self, session: &Session, lost: &[(Arc<str>, String)]) {
        for (name, uri) in lost {
            let Some(server) = self.server(name) else { continue };
            let running = self.supervisor.running(name, session.holder(), session.speak());
            let Some(instance) = running else { continue };
            let others = self.users_of(&instance);
            let others = others.iter().any(|other| other.subscriptions.has(name, uri));
            if let (false, Some(link)) = (others, instance.link()) {
                if link.era() == Era::Modern {
                    // It ends with the last who wants to hear of it.
                    continue;
                }
                let params = json!({ "uri": uri }).to_string();
                let within = server.timeouts.call;
                self.tracker.spawn(async move {
                    let _ = link.ask(method::RESOURCES_UNSUBSCRIBE, &params, within).await;
                });
            }
        }
    }

    /// Enters a session's subscription, with a lease that keeps the instance awake for it. The
    /// backend's own answer, where it has one.
    pub(super) async fn subscribed(
        &self,
        session: &Arc<Session>,
        permit: Permit,
        uri: &str,
        params: &str,
    ) -> Result<Option<Message>, Failure> {
        let server = Arc::clone(permit.server());
        session.subscriptions.may_add(&server, uri)?;
        let timeouts =
            self.server(&server).map(|server| server.timeouts.clone()).unwrap_or_default();
        let deadline = Instant::now() + timeouts.start.max(timeouts.call);
        // Held as long as the subscription is, so that its instance is not reaped meanwhile.
        let (holder, speak) = (session.holder(), session.speak());
        let lease = self.supervisor.acquire(permit, holder, speak, deadline).await?;
        session.uses(&server);
        let (instance, link) = (lease.instance(), Arc::clone(lease.link()));
        let done = self.subscribe_at(instance, &link, uri, params, timeouts.call).await;
        let (answer, hearing) = done.map_err(|error| backend(&server, &error))?;
        if answer.as_ref().is_some_and(Message::is_error) {
            return Ok(answer);
        }
        if let Err(failure) = session.subscriptions.may_add(&server, uri) {
            // Others have filled it meanwhile, or it has closed.
            self.unsubscribe_lost(session, &[(server, uri.to_owned())]);
            return Err(failure);
        }
        session.subscriptions.add(&server, uri, Some(Subscribed::new(lease, hearing)));
        if !link.is_open() {
            session.subscriptions.lost(&server);
        }
        Ok(answer)
    }
}

pub(super) async fn subscribe(request: &Request<'_>) -> Result<Answer, Failure> {
    let permit = call::resource_permit(request).await?;
    let uri = request.message.uri().unwrap_or_default().into_owned();
    let params = request.raw_params().unwrap_or_else(|| "{}".into());
    let gateway = request.session.gateway();
    let answer = gateway.subscribed(request.session, permit, &uri, &params).await?;
    Ok(match answer {
        Some(answer) => {
            let bytes = answer.edit().id(request.id()).finish();
            Answer::Message(Outgoing::answer(bytes, answer.is_error()))
        }
        None => Answer::Result("{}".into()),
    })
}

pub(super) async fn unsubscribe(request: &Request<'_>) -> Result<Answer, Failure> {
    let session = request.session;
    let permit = call::resource_permit(request).await?;
    let server = Arc::clone(permit.server());
    let uri = request.message.uri().unwrap_or_default().into_owned();
    let Some(lease) = session.subscriptions.remove(&server, &uri) else {
        // Nothing to end; the backend says what it thinks of that.
        return call::forward(request, permit, None).await;
    };
    session.gateway().unsubscribe_lost(session, &[(server, uri)]);
    drop(lease);
    Ok(Answer::Result("{}".into()))
}
