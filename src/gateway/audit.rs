//! One line per call: who, what, how it ended, how long it took. Never arguments.

use std::time::Instant;

use super::{error::Failure, router::Request, session::Session};

pub(super) struct Audit<'a> {
    session: &'a Session,
    method: &'a str,
    server: &'a str,
    name: &'a str,
    began: Instant,
}

impl<'a> Audit<'a> {
    pub(super) fn begin(
        session: &'a Session,
        method: &'a str,
        server: &'a str,
        name: &'a str,
    ) -> Self {
        Audit { session, method, server, name, began: Instant::now() }
    }

    pub(super) fn end(self, outcome: Result<bool, &Failure>) {
        let outcome = match outcome {
            Ok(true) => "error",
            Ok(false) => "ok",
            Err(failure) => failure.outcome(),
        };
        self.line(outcome);
    }

    pub(super) fn cancelled(self) {
        self.line("cancelled");
    }

    fn line(self, outcome: &str) {
        tracing::info!(
            target: "audit",
            session = self.session.id().get(..8),
            uid = self.session.principal().uid(),
            role = self.session.principal().role(),
            method = self.method,
            server = self.server,
            name = self.name,
            outcome,
            ms = self.began.elapsed().as_millis() as u64,
        );
    }
}

/// The line of a request that led nowhere: a name that is unknown or denied, which look the same.
pub(super) fn refused(request: &Request<'_>, failure: &Failure) {
    let method = request.message.method();
    let name = request.message.name().or_else(|| request.message.uri()).unwrap_or_default();
    match failure {
        // These had a line of their own when they ended.
        Failure::Acquire(_) | Failure::Gone(_) | Failure::Late { .. } => {}
        failure => Audit::begin(request.session, &method, "", &name).end(Err(failure)),
    }
}
