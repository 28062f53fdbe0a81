//! What goes back: response bodies, and the answers that HTTP itself asks for.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::{
    Response, StatusCode,
    body::{Body, Frame, SizeHint},
    header::{self, HeaderValue},
};

use super::{connection::Busy, events::Events};
use crate::protocol::{ErrorCode, error_response};

/// A response before it is bound to its connection.
pub(super) type Answer = Response<Content>;

pub(super) enum Content {
    Empty,
    Whole(Bytes),
    Events(Box<Events>),
}

/// Content, and the mark that its connection is in use.
pub(super) struct Reply {
    pub(super) content: Content,
    /// Dropped with the body: from then on the connection is idle.
    pub(super) _busy: Busy,
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match &mut self.content {
            Content::Empty => return Poll::Ready(None),
            Content::Events(events) => events.poll_next(context),
            Content::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                self.content = Content::Empty;
                Poll::Ready(Some(bytes))
            }
        };
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.content, Content::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Events(_) => SizeHint::default(),
        }
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");

pub(super) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Content::Empty);
    *answer.status_mut() = status;
    answer
}

pub(super) fn json(status: StatusCode, body: Bytes) -> Answer {
    let mut answer = Response::new(Content::Whole(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, JSON);
    answer
}

pub(super) fn text(status: StatusCode, body: &'static str) -> Answer {
    let mut answer = Response::new(Content::Whole(Bytes::from_static(body.as_bytes())));
    *answer.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, plain);
    answer
}

pub(super) fn events(events: Events) -> Answer {
    let mut answer = Response::new(Content::Events(Box::new(events)));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    // Else nginx gathers events before it passes them on.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    answer
}

/// A refusal: the status for HTTP's sake, and a JSON-RPC error that says why.
pub(super) fn refuse(status: StatusCode, id: Option<&str>, code: ErrorCode, why: &str) -> Answer {
    json(status, error_response(id, code, why))
}

/// A refusal of a request that was not read.
pub(super) fn problem(status: StatusCode, why: &str) -> Answer {
    refuse(status, None, ErrorCode::InvalidRequest, why)
}

pub(super) fn method_not_allowed(allowed: &'static str) -> Answer {
    let mut answer = problem(
        StatusCode::METHOD_NOT_ALLOWED,
        &format!("this path takes {allowed} and nothing else"),
    );
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    answer
}
