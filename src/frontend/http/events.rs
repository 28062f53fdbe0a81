//! The body of an event stream: messages as server-sent events, with comments in between.
//!
//! What waits is sent in one piece; a large message goes out as it is, without a copy.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    pulse::Ear,
    replay::{GENERAL, Position, Ticket},
    sessions::HttpSession,
    sse::Client,
};
use crate::{frontend::Shared, gateway::Leave, protocol::stream::Receiver};

/// Smaller messages are copied together.
const COPY: usize = 16 << 10;
const COMMENT: &[u8] = b":\n\n";

pub(super) struct Events {
    shared: Arc<Shared>,
    source: Source,
    ear: Ear,
    ready: VecDeque<Bytes>,
    gathered: BytesMut,
    ended: bool,
}

pub(super) enum Source {
    /// A stream of a Streamable HTTP session, from event number `from` on.
    Stream { session: Arc<HttpSession>, ticket: Ticket, from: u64 },
    /// What belongs to one request of the modern era, which ends when this does.
    Single { source: Receiver, _leave: Leave },
    /// The one stream of an HTTP+SSE client, which lives as long as this does.
    Client { client: Arc<Client>, source: Receiver },
}

pub(super) struct Event {
    pub(super) id: Option<Position>,
    pub(super) bytes: Bytes,
}

impl Source {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        match self {
            Self::Stream { session, ticket, from } => {
                let next = session.replay().poll(*ticket, *from, context);
                next.map(|next| {
                    next.map(|(number, bytes)| {
                        *from = number + 1;
                        Event { id: Some(Position { stream: ticket.stream, number }), bytes }
                    })
                })
            }
            Self::Client { source, .. } | Self::Single { source, .. } => {
                let next = source.poll_recv(context);
                next.map(|next| next.map(|message| Event { id: None, bytes: message.bytes }))
            }
        }
    }

    /// Streams of requests end with their responses; the others go on until somebody ends them.
    fn is_endless(&self) -> bool {
        match self {
            Self::Stream { ticket, .. } => ticket.stream == GENERAL,
            Self::Single { .. } => false,
            Self::Client { .. } => true,
        }
    }
}

impl Events {
    pub(super) fn new(shared: &Arc<Shared>, source: Source) -> Self {
        if let Source::Stream { session, .. } = &source {
            session.reader_comes();
        }
        Self {
            ear: shared.http.pulse.listen(),
            shared: Arc::clone(shared),
            source,
            ready: VecDeque::new(),
            gathered: BytesMut::new(),
            ended: false,
        }
    }

    /// An event without data that gives the client a place to come back to.
    pub(super) fn prime(&mut self, stream: u64, number: u64) {
        let retry = self.shared.limits.retry.as_millis();
        let text = format!("id: {stream}-{number}\nretry: {retry}\ndata:\n\n");
        self.gathered.extend_from_slice(text.as_bytes());
    }

    /// The event that tells an HTTP+SSE client where to send its messages.
    pub(super) fn endpoint(&mut self, path: &str) {
        let text = format!("event: endpoint\ndata: {path}\n\n");
        self.gathered.extend_from_slice(text.as_bytes());
    }

    /// Something to send at once, so that the client sees that the stream is there.
    pub(super) fn comment(&mut self) {
        self.gathered.extend_from_slice(COMMENT);
    }

    pub(super) fn message(&mut self, Event { id, bytes }: Event) {
        let out = &mut self.gathered;
        out.put_slice(b"event: message\n");
        if let Some(Position { stream, number }) = id {
            out.put_slice(format!("id: {stream}-{number}\n").as_bytes());
        }
        out.put_slice(b"data: ");
        if bytes.len() < COPY {
            out.put_slice(&bytes);
        } else {
            self.ready.push_back(out.split().freeze());
            self.ready.push_back(bytes);
        }
        self.gathered.put_slice(b"\n\n");
    }

    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Poll::Ready(Some(bytes));
            }
            let mut waits = false;
            while !self.ended && !waits && self.ready.is_empty() && self.gathered.len() < COPY {
                match self.source.poll(context) {
                    Poll::Ready(Some(event)) => self.message(event),
                    Poll::Ready(None) => self.ended = true,
                    Poll::Pending => waits = true,
                }
            }
            if !self.ready.is_empty() {
                continue;
            }
            if !self.gathered.is_empty() {
                return Poll::Ready(Some(self.gathered.split().freeze()));
            }
            if self.ended {
                return Poll::Ready(None);
            }
            let beat = self.ear.poll(context);
            // After that, so that the beat which tells of `drain` cannot be missed.
            if self.source.is_endless() && self.shared.drain.is_cancelled() {
                return Poll::Ready(None);
            }
            match beat {
                Poll::Ready(()) => self.comment(),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        match &self.source {
            Source::Stream { session, ticket, .. } => {
                session.reader_goes(*ticket, self.shared.now());
            }
            Source::Client { client, .. } => self.shared.http.sse.end(client),
            Source::Single { .. } => {}
        }
    }
}
