//! One request on its way through the gateway: exactly one response, or none if its client has
//! taken it back.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    audit, era,
    error::Failure,
    router::{self, Answer, Request},
    session::Session,
};
use crate::protocol::{Era, ErrorCode, Message, error_response, result_response, stream};

/// Why a request in flight is not waited for any longer.
pub(super) enum Stop {
    /// The client's own words; it wants no answer.
    Cancelled(Box<Message>),
    /// The gateway ends; the client is told.
    Draining,
}

/// One request on a session's books, until it is dropped.
pub(super) struct InFlight {
    books: Arc<Session>,
    /// Which serves it; for a request of the modern era, it alone.
    session: Arc<Session>,
    id: String,
    number: u64,
    reply: stream::Sender,
    /// Or wants no answer any more.
    answered: bool,
}

impl InFlight {
    pub(super) fn new(
        books: Arc<Session>,
        session: Arc<Session>,
        id: String,
        number: u64,
        reply: stream::Sender,
    ) -> Self {
        InFlight { books, session, id, number, reply, answered: false }
    }

    pub(super) async fn serve(mut self, message: Message, stop: oneshot::Receiver<Stop>) {
        let request = Request::new(&self.session, &message, &self.reply);
        let stopped = {
            let answer = router::dispatch(&request);
            tokio::pin!(answer);
            tokio::select! {
                biased;
                stopped = stop => match stopped {
                    Ok(Stop::Cancelled(words)) => { request.cancel(*words); None }
                    Ok(Stop::Draining) => Some(Err(Failure::ShuttingDown)),
                    // The session is closed; nobody listens.
                    Err(_) => None,
                },
                answer = &mut answer => Some(answer),
            }
            // `answer` is dropped here: what it had asked of a backend is cancelled there.
        };
        let (response, failed) = match stopped {
            None | Some(Ok(Answer::Sent)) => {
                self.answered = true;
                return;
            }
            Some(Ok(Answer::Message(response))) => {
                self.answered = true;
                let _ = self.reply.send(response);
                return;
            }
            Some(Ok(Answer::Result(result))) => (self.whole(&request, &result), false),
            Some(Err(failure)) => {
                audit::refused(&request, &failure);
                (failure.response(Some(&self.id), self.session.era()), true)
            }
        };
        self.answered = true;
        let _ = self.reply.send(stream::Outgoing::answer(response, failed));
    }

    /// The response around a result of the gateway's own.
    fn whole(&self, request: &Request<'_>, result: &str) -> Bytes {
        match self.session.era() {
            Era::Legacy => result_response(&self.id, result),
            Era::Modern => {
                let gateway = self.session.gateway();
                let scope = gateway.cache_scope(&self.session, &request.message.method());
                let whole = era::complete(result, &gateway.introduction(), scope);
                result_response(&self.id, &whole)
            }
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // Only a bug of ours, or the end of the process, comes here without an answer.
        if !self.answered {
            let text = "the gateway failed in this request; its log says more";
            let bytes = error_response(Some(&self.id), ErrorCode::Internal, text);
            let _ = self.reply.send(stream::Outgoing::answer(bytes, true));
        }
        self.books.landed(&self.id, self.number);
        self.session.leave();
    }
}
