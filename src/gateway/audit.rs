//! One line per call: who, what, how it ended, how long it took. Never arguments.

use std::time::Instant;

use super::{error::Failure, session::Session};

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
