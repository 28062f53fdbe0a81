//! One request at one instance: sent, waited for within its deadlines, cancelled if nobody waits
//! any more.
//!
//! Where client and backend speak the same era, what the backend says is passed on as it is.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Gateway, Session, era,
    error::Failure,
    router::{Backend, Request, Words},
};
use crate::{
    backend::{AskError, Call, Instance, InstanceKey, Lease, Link},
    config::{Share, Timeouts},
    policy::Permit,
    protocol::{
        Era, Message, edited, member, method,
        stream::{self, Bounds, Outgoing, stream},
    },
};

/// How often a call looks whether its client is still thinking.
const THINKING: Duration = Duration::from_secs(1);

/// How long a backend that missed a call's deadline may take for a question that all know.
const DOUBT: Duration = Duration::from_secs(5);

/// How a request ended that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Done,
    /// With an error of the backend's own.
    Failed,
    /// With questions to the client, who makes the request again.
    Asked,
}

impl Ended {
    pub(super) fn of(answer: &Outgoing) -> Self {
        if answer.failed { Self::Failed } else { Self::Done }
    }
}

/// What a backend is asked, and on whose behalf.
pub(super) struct Order<'a, 'b> {
    pub request: &'a Request<'b>,
    /// The client's message, as far as the gateway leaves it alone.
    pub message: &'a Message,
    /// The backend's own name for what is called, where it was shown under another.
    pub name: Option<&'a str>,
    pub server: Arc<str>,
}

impl Order<'_, '_> {
    /// What a state that the client carries is bound to.
    pub(super) fn bound<'c>(
        &'c self,
        who: &'c crate::policy::Principal,
        instance: &'c InstanceKey,
        method: &'c str,
        name: &'c str,
    ) -> era::Bound<'c> {
        let name = self.name.unwrap_or(name);
        let params = self.request.message.raw_params().unwrap_or("{}");
        let arguments = member(params, "arguments").map(|span| &params[span]);
        era::Bound { principal: who.key(), role: who.role(), instance, method, name, arguments }
    }

    /// The name or URI that the client gave.
    pub(super) fn subject(&self) -> std::borrow::Cow<'_, str> {
        let message = self.request.message;
        message.name().or_else(|| message.uri()).unwrap_or_default()
    }
}

/// Sends it and sees to it that the client gets the answer.
pub(super) async fn run(order: &Order<'_, '_>, permit: Permit) -> Result<Ended, Failure> {
    let request = order.request;
    let (session, gateway) = (request.session, request.session.gateway());
    let server = gateway.server(&order.server);
    let server = server.as_deref();
    let sealed = server.is_some_and(|server| server.share == Share::All);
    if session.era() == Era::Modern && request.message.request_state().is_some() {
        let known = server.and_then(|it| gateway.catalog.get(&gateway.key(it, session), it));
        let spoken = match (known.and_then(|listing| listing.era), server) {
            (None, Some(server)) => {
                let method = request.message.method();
                Box::pin(gateway.introduced(session, server, &method)).await?.era
            }
            (known, _) => known,
        };
        // Verbatim only to a backend whose own it must be. Else it is one of ours, and nothing is
        // started for one that is not.
        if sealed || spoken != Some(Era::Modern) {
            return Box::pin(era::resume(order, permit)).await;
        }
    }
    let lease = Exchange::lease(order, permit).await?;
    match (session.era(), lease.link().era()) {
        (Era::Modern, Era::Modern) if sealed => {
            let call = Exchange::send(order, lease, None)?;
            Box::pin(era::carry_sealed(order, call)).await
        }
        (Era::Legacy, Era::Modern) => {
            let said = session.client().unwrap_or_default();
            let level = session.level().map(|level| level.as_str());
            let message = order
                .message
                .with_params(|params| era::modern_request(params, &said.raw, said.modern(), level));
            let message = message.map_err(|why| Failure::InvalidParams(why.to_string()))?;
            Box::pin(era::carry_rounds(order, message, lease)).await
        }
        (Era::Modern, Era::Legacy) => Box::pin(era::begin_parked(order, lease)).await,
        _ => pass(order, Exchange::send(order, lease, None)?).await,
    }
}

/// Everything as it comes.
async fn pass(order: &Order<'_, '_>, mut call: Exchange) -> Result<Ended, Failure> {
    let request = order.request;
    loop {
        match call.next().await? {
            Step::Notice(notice) => drop(request.reply.send(notice)),
            Step::Answer(answer) => {
                let ended = call.ended(request, &answer);
                let private = kept_private(request, &answer);
                let _ = request.reply.send(private.unwrap_or(answer));
                return Ok(ended);
            }
            Step::Asked => {}
        }
    }
}

/// A resource that may be kept for others, as its backend says, which does not know that the
/// gateway makes a difference between them (caching, "Security Considerations").
fn kept_private(request: &Request<'_>, answer: &Outgoing) -> Option<Outgoing> {
    let session = request.session;
    let method = request.message.method();
    if session.era() == Era::Legacy || method != method::RESOURCES_READ || answer.failed {
        return None;
    }
    memchr::memmem::find(&answer.bytes, b"\"public\"")?;
    let scope = session.gateway().cache_scope(session, &method)?;
    let message = Message::parse(answer.bytes.clone()).ok()?;
    let result = message.result()?;
    member(result, "cacheScope")?;
    let quoted = format!("\"{scope}\"");
    let result = edited(result, &[], &[("cacheScope", &quoted)]);
    Some(Outgoing::answer(message.with_result(&result), false))
}

/// What comes next of a request.
pub(super) enum Step {
    /// Progress, a log message; a question to a client of the legacy era.
    Notice(Outgoing),
    Answer(Outgoing),
    /// The backend has asked the session, which cannot be told while the request goes on.
    Asked,
}

/// A request that an instance works on. Dropping it cancels it there.
pub(super) struct Exchange {
    pub lease: Lease,
    /// Whom the backend may ask meanwhile.
    pub session: Arc<Session>,
    pub answers: stream::Receiver,
    pub id: u64,
    words: Words,
    timeouts: Timeouts,
    began: Instant,
    until: Instant,
    /// It came while the call was parked.
    early: Option<Outgoing>,
    open: bool,
}

impl Exchange {
    /// The right to use the instance that serves this session; it is started if it sleeps.
    pub(super) async fn lease(order: &Order<'_, '_>, permit: Permit) -> Result<Lease, Failure> {
        let (request, session) = (order.request, order.request.session);
        let gateway = session.gateway();
        let timeouts = gateway.timeouts(&order.server);
        let deadline = Instant::now() + timeouts.start.max(timeouts.call);
        let (holder, speak) = (session.holder(), session.speak());
        let lease = gateway.supervisor.acquire(permit, holder, speak, deadline);
        let lease = request.while_starting(Backend(&order.server), lease).await?;
        session.uses(&order.server);
        Ok(lease)
    }

    /// Sends the client's message, or another one in its place.
    pub(super) fn send(
        order: &Order<'_, '_>,
        lease: Lease,
        instead: Option<&Message>,
    ) -> Result<Self, Failure> {
        let (request, session) = (order.request, order.request.session);
        let (id, answers) = put(order, lease.link(), instead.unwrap_or(order.message))?;
        let timeouts = session.gateway().timeouts(&order.server);
        let began = Instant::now();
        Ok(Exchange {
            lease,
            session: Arc::clone(session),
            answers,
            id,
            words: request.words().clone(),
            began,
            until: began + timeouts.call,
            timeouts,
            early: None,
            open: true,
        })
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        self.lease.link()
    }

    /// When it ends at the latest.
    pub(super) fn last_moment(&self) -> Instant {
        self.began + self.timeouts.max_call
    }

    /// Asks once more, after an answer, within the same time.
    pub(super) fn again(
        &mut self,
        order: &Order<'_, '_>,
        message: &Message,
    ) -> Result<(), Failure> {
        (self.id, self.answers) = put(order, self.lease.link(), message)?;
        self.open = true;
        self.until = (Instant::now() + self.timeouts.call).min(self.last_moment());
        Ok(())
    }

    /// It waits for its client, and works on nothing: others may have its place.
    pub(super) fn park(&mut self) {
        self.lease.release_slot();
        self.lease.link().park(self.id);
    }

    /// From now on for another request of the same client.
    pub(super) fn resumed(&mut self, request: &Request<'_>) {
        let (id, token) = (request.id(), request.message.progress_token());
        let client = request.session.client_number();
        self.lease.link().readdress(self.id, id, token, client);
        self.words = request.words().clone();
        self.until = (Instant::now() + self.timeouts.call).min(self.last_moment());
        // What it said meanwhile was for the request before.
        while let Some(said) = self.answers.try_recv() {
            if said.last {
                self.early = Some(said);
                break;
            }
            if let Some(notice) = retold(said, token) {
                let _ = request.reply.send(notice);
            }
        }
    }

    /// What comes next. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Step, Failure> {
        let server = || self.lease.instance().server_name().to_owned();
        if let Some(answer) = self.early.take() {
            self.open = false;
            return Ok(Step::Answer(answer));
        }
        let waits = self.session.era() == Era::Modern && self.link().era() == Era::Legacy;
        loop {
            tokio::select! {
                biased;
                answer = self.answers.recv() => return match answer {
                    Some(answer) if answer.last => {
                        self.open = false;
                        Ok(Step::Answer(answer))
                    }
                    Some(notice) => {
                        // Progress, or a question to the client: the backend is at work.
                        self.until =
                            (Instant::now() + self.timeouts.call).min(self.last_moment());
                        Ok(Step::Notice(notice))
                    }
                    // Its stream was lost: to the backend's end, or to a flood of its own messages.
                    None if self.link().is_open() => Err(Failure::Flooded(server())),
                    None => {
                        self.open = false;
                        Err(Failure::Gone(server()))
                    }
                },
                () = self.session.questions.waiting.notified(), if waits => {
                    return Ok(Step::Asked);
                }
                () = tokio::time::sleep_until(self.until.into()) => {
                    let now = Instant::now();
                    let client = self.session.client_number();
                    let gateway = self.session.gateway();
                    if now < self.last_moment() && gateway.is_thinking(client, self.link()) {
                        // The client is thinking, not the backend.
                        self.until = (now + THINKING).min(self.last_moment());
                        continue;
                    }
                    self.open = false;
                    self.link().cancel(self.id, None, "timed out");
                    let (instance, link) = (self.lease.instance(), self.link());
                    self.session.gateway().doubt(instance, link, self.began);
                    let (key, limit) = if self.until == self.last_moment() {
                        ("timeouts.max_call", self.timeouts.max_call)
                    } else {
                        ("timeouts.call", self.timeouts.call)
                    };
                    let seconds = limit.as_secs_f32();
                    return Err(Failure::Late { server: server(), seconds, key });
                }
            }
        }
    }

    /// What an answer means to the gateway itself.
    pub(super) fn ended(&self, request: &Request<'_>, answer: &Outgoing) -> Ended {
        let asked = request.message;
        let task = asked.wants_task()
            || asked.task_id().is_some()
            // A modern backend makes a task of any call that it likes.
            || (self.link().era() == Era::Modern
                && memchr::memmem::find(&answer.bytes, b"taskId").is_some());
        if task && let Ok(message) = Message::parse(answer.bytes.clone()) {
            let gateway = request.session.gateway();
            if let Some(result) = message.result() {
                gateway.remember_task(request, &self.lease, result);
            }
            gateway.task_answered(asked, &self.lease, &message);
        }
        Ended::of(answer)
    }
}

fn put(
    order: &Order<'_, '_>,
    link: &Link,
    message: &Message,
) -> Result<(u64, stream::Receiver), Failure> {
    let (request, session) = (order.request, order.request.session);
    let (reply, answers) = stream(Bounds::REQUEST);
    let call = Call {
        id: request.id().to_owned(),
        token: request.message.progress_token().map(str::to_owned),
        session: session.serial(),
        client: session.client_number(),
        owner: session.owner_number(),
        // The modern era asks over these, and no others (mrtr, "Supported Requests").
        may_ask: session.era() == Era::Legacy
            || matches!(
                request.message.method().as_ref(),
                method::TOOLS_CALL | method::PROMPTS_GET | method::RESOURCES_READ
            ),
        reply,
    };
    let id = link.request(message, order.name, call);
    Ok((id.map_err(|_| Failure::Gone(order.server.to_string()))?, answers))
}

/// A notice for a request with this progress token; `None` if it is progress, and it has none.
fn retold(notice: Outgoing, token: Option<&str>) -> Option<Outgoing> {
    let message = Message::parse(notice.bytes.clone()).ok()?;
    if message.progress_of().is_none() {
        return Some(notice);
    }
    Some(Outgoing::spare(message.edit().progress_of(token?).finish()))
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.open {
            let words = self.words.take();
            self.lease.link().cancel(self.id, words.as_ref(), "the client has gone");
        }
    }
}

impl Gateway {
    pub(super) fn timeouts(&self, server: &str) -> Timeouts {
        self.server(server).map(|server| server.timeouts.clone()).unwrap_or_default()
    }

    /// After a call that timed out: a backend that has said nothing since and does not answer a
    /// question that all know either is replaced.
    fn doubt(&self, instance: &Arc<Instance>, link: &Arc<Link>, since: Instant) {
        if link.heard() > since || !link.begin_doubt() {
            return;
        }
        let (instance, link) = (Arc::clone(instance), Arc::clone(link));
        let question = match link.era() {
            Era::Legacy => method::PING,
            Era::Modern => method::DISCOVER,
        };
        self.tracker.spawn(async move {
            let answer = link.ask(question, "{}", DOUBT).await;
            if matches!(answer, Err(AskError::Late { .. })) && link.heard() <= since {
                instance.give_up("answers neither a call nor a ping");
            }
            link.end_doubt();
        });
    }
}
