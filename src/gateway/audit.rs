//! One line per call: who, what, how it ended, how long it took. Never arguments.

use std::{borrow::Cow, time::Instant};

use super::{error::Failure, exchange::Ended, router::Request, session::Session};

/// Characters of a name; a stranger's may be as long as a message.
const LONGEST: usize = 200;

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

    pub(super) fn end(self, outcome: Result<Ended, &Failure>) {
        let outcome = match outcome {
            Ok(Ended::Failed) => "error",
            Ok(Ended::Done) => "ok",
            Ok(Ended::Asked) => "asked",
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
            method = &*cut(self.method),
            server = self.server,
            name = &*shown(self.method, self.name),
            outcome,
            ms = self.began.elapsed().as_millis() as u64,
        );
    }
}

/// The line of a request that led nowhere: a name that is unknown or denied, which look the same.
pub(super) fn refused(request: &Request<'_>, failure: &Failure) {
    let method = request.message.method();
    let name = request.message.name().or_else(|| request.message.uri()).unwrap_or_default();
    // One that has been at a backend has its line.
    if !request.is_audited() {
        Audit::begin(request.session, &method, "", &name).end(Err(failure));
    }
}

/// A name as the log has it: a URI without what may be secret.
fn shown<'a>(method: &str, name: &'a str) -> Cow<'a, str> {
    if method.starts_with("resources/") || name.contains("://") { uri(name) } else { cut(name) }
}

/// Without userinfo, query and fragment.
fn uri(uri: &str) -> Cow<'_, str> {
    let uri = uri.find(['?', '#']).map_or(uri, |end| &uri[..end]);
    let Some((scheme, rest)) = uri.split_once("//") else { return cut(uri) };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    match authority.rsplit_once('@') {
        Some((_, host)) => Cow::Owned(cut(&format!("{scheme}//{host}{path}")).into_owned()),
        None => cut(uri),
    }
}

fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_cut() {
        let long = "é".repeat(1000);
        let cut = shown("tools/call", &long);
        assert_eq!(cut.chars().count(), LONGEST + 1);
        assert!(cut.ends_with('…'));
        let exact = "é".repeat(LONGEST);
        assert_eq!(shown("tools/call", &exact), exact);
        assert_eq!(shown("tools/call", "ask?#@"), "ask?#@");
        assert!(shown("resources/read", &format!("x://u@{long}")).chars().count() <= LONGEST + 1);
    }

    #[test]
    fn a_uri_loses_what_may_be_secret() {
        for (uri, expected) in [
            ("https://me:pass@host:8/a/b?token=1#x", "https://host:8/a/b"),
            ("https://me:p@ss@host", "https://host"),
            ("https://host?me@x", "https://host"),
            ("https://host/a@b", "https://host/a@b"),
            ("file:///a/b#c?d", "file:///a/b"),
            ("//me@host/a", "//host/a"),
            ("note:a?token=1", "note:a"),
            ("", ""),
        ] {
            assert_eq!(shown("resources/read", uri), expected, "{uri}");
        }
        assert_eq!(shown("x/y", "https://me:pass@host/?a"), "https://host/");
    }
}
