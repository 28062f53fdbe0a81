//! One session over lines: newline-framed JSON-RPC, as on stdio and behind the Unix preface.
//!
//! Reading and writing never wait for each other. A line is taken out of the read buffer without
//! a copy; what waits to be written goes out in one write. Memory for a line is bounded, and a
//! line that is too long is passed over, not the end of the connection.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::task::TaskTracker;

use super::{Shared, awake::Awake, batch};
use crate::{
    gateway::Session,
    protocol::{
        ErrorCode, Kind, Message, error_response, error_response_with,
        stream::{Bounds, Outgoing, Receiver, Sender, stream},
    },
};

/// How much is gathered for one write.
const CHUNK: usize = 32 << 10;
/// Room that a read asks for when little is left. What an idle connection keeps.
const ROOM: usize = 8 << 10;

/// The last line of a connection whose client asked for it: the gateway goes, and has read nothing
/// that it has not answered.
const FAREWELL: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/mcp-gateway/idle"}"#;

/// Told to such a client when `drain` begins: what it asks for now is better asked of the next one.
const CLOSING: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/mcp-gateway/closing"}"#;

/// How a connection began.
#[derive(Default)]
pub(super) struct Options {
    /// The client wants to hear why it is left.
    pub(super) farewell: bool,
    /// Held until what came with the beginning has been looked at.
    pub(super) awake: Option<Awake>,
}

/// Finds lines in what was read. Keeps at most one unfinished line.
pub(super) struct Lines {
    buffer: BytesMut,
    scanned: usize,
    skipping: bool,
    limit: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Text(Bytes),
    /// Said once for each such line, when the limit is passed.
    TooLong,
}

impl Lines {
    pub(super) fn new(limit: usize, start: BytesMut) -> Self {
        Self { buffer: start, scanned: 0, skipping: false, limit }
    }

    /// The next whole line that is not blank, without its end.
    pub(super) fn next(&mut self) -> Option<Line> {
        loop {
            let Some(found) = memchr::memchr(b'\n', &self.buffer[self.scanned..]) else {
                self.scanned = self.buffer.len();
                let too_long = self.buffer.len() > self.limit;
                if self.skipping || too_long {
                    self.buffer = BytesMut::new();
                    self.scanned = 0;
                }
                let told = self.skipping;
                self.skipping |= too_long;
                return (too_long && !told).then_some(Line::TooLong);
            };
            let line = self.buffer.split_to(self.scanned + found);
            self.buffer.advance(1);
            self.scanned = 0;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if line.len() > self.limit {
                return Some(Line::TooLong);
            }
            if !line.trim_ascii().is_empty() {
                return Some(Line::Text(line.freeze()));
            }
        }
    }

    /// Whether nothing of a line has come.
    fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Reads once. `Ok(false)`: end of file.
    pub(super) async fn fill(
        &mut self,
        reader: &mut (impl AsyncRead + Unpin),
    ) -> std::io::Result<bool> {
        if self.buffer.is_empty() && self.buffer.capacity() > 4 * ROOM {
            // The room of a large message is given back.
            self.buffer = BytesMut::new();
        }
        if self.buffer.capacity() - self.buffer.len() < ROOM / 2 {
            // A line that grows makes room for twice its length.
            self.buffer.reserve(ROOM.max(self.buffer.len()));
        }
        Ok(reader.read_buf(&mut self.buffer).await? > 0)
    }
}

/// Carries one session over a pair of byte streams until one of them ends, the gateway exits
/// because it is idle, or `drain` or `kill` comes. Closes the session.
pub(super) async fn run<R, W>(
    shared: &Arc<Shared>,
    session: &Arc<Session>,
    reader: R,
    writer: W,
    lines: Lines,
    options: Options,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let limits = &shared.limits;
    let (replies, waiting) = stream(Bounds::CONNECTION);
    session.attach(replies.clone());
    let works = TaskTracker::new();
    let mut write = pin!(write(waiting, writer, limits.write_stall));
    let read = async {
        let farewell = options.farewell;
        let incoming = Incoming { shared, session, replies: &replies, works: &works, farewell };
        let finished = incoming.run(reader, lines, options.awake).await;
        if farewell && finished {
            let _ = replies.notify(Bytes::from_static(FAREWELL));
        }
        // The client has nothing more to say; what it asked for may still be answered, but what
        // it only listens to ends.
        session.hang_up();
        works.close();
        let _ = tokio::time::timeout(limits.eof_grace, works.wait()).await;
    };
    let written = tokio::select! {
        () = &mut write => true,
        () = read => false,
        () = shared.kill.cancelled() => true,
    };
    session.close();
    drop(replies);
    if !written {
        tokio::select! {
            _ = tokio::time::timeout(limits.linger, write) => {}
            () = shared.kill.cancelled() => {}
        }
    }
}

struct Incoming<'a> {
    shared: &'a Arc<Shared>,
    session: &'a Arc<Session>,
    replies: &'a Sender,
    works: &'a TaskTracker,
    farewell: bool,
}

impl Incoming<'_> {
    /// Until the end of the input, `drain` with nothing left in flight, or the gateway's idle end.
    /// True if it is the gateway that ends it, with all answered that was read.
    async fn run(
        &self,
        mut reader: impl AsyncRead + Unpin,
        mut lines: Lines,
        mut awake: Option<Awake>,
    ) -> bool {
        let mut draining = false;
        loop {
            while let Some(line) = lines.next() {
                let taken = match line {
                    Line::Text(line) => self.line(line, draining),
                    Line::TooLong => self.reply(too_long(self.shared.limits.message)),
                };
                if !taken {
                    return false;
                }
            }
            // Half a line is somebody at work.
            match (lines.is_empty(), &awake) {
                (true, _) => drop(awake.take()),
                (false, None) => awake = Some(self.shared.awake()),
                (false, Some(_)) => {}
            }
            // A read that is dropped has read nothing, so no line is lost.
            tokio::select! {
                biased;
                () = self.shared.wakefulness.over() => return true,
                () = self.shared.drain.cancelled(), if !draining => {
                    // Answers to the backends' questions still come in; requests do not.
                    draining = true;
                    if self.farewell {
                        let _ = self.replies.notify(Bytes::from_static(CLOSING));
                    }
                    self.works.close();
                }
                () = self.works.wait(), if draining => return true,
                read = lines.fill(&mut reader) => match read {
                    Ok(true) => {}
                    Ok(false) => return false,
                    Err(error) => {
                        tracing::debug!(%error, "a client's input failed");
                        return false;
                    }
                },
            }
        }
    }

    /// False when the client no longer reads.
    fn line(&self, line: Bytes, draining: bool) -> bool {
        self.shared.wakefulness.note();
        if batch::is_batch(&line) && self.session.version().is_some_and(|v| v.has_batches()) {
            return self.batch(&line, draining);
        }
        match Message::parse(line) {
            Ok(message) => match self.refuses(&message, draining) {
                Some(answer) => self.reply(answer),
                None => {
                    self.receive(message, self.replies.clone());
                    true
                }
            },
            Err(invalid) => self.reply(batch::refusal(&invalid)),
        }
    }

    fn receive(&self, message: Message, reply: Sender) {
        if let Some(work) = self.session.receive(message, reply) {
            self.shared.tracker.spawn(self.works.track_future(work));
        }
    }

    fn refuses(&self, message: &Message, draining: bool) -> Option<Bytes> {
        let most = self.shared.limits.in_flight;
        if message.kind() != Kind::Request {
            None
        } else if draining {
            // A client that can may send it again elsewhere.
            let why = "the gateway is shutting down";
            let data = serde_json::json!({"started": false});
            Some(error_response_with(message.id(), ErrorCode::Internal, why, Some(&data)))
        } else if self.works.len() >= most {
            let why = format!("more than {most} requests in flight on this connection");
            Some(error_response(message.id(), ErrorCode::Internal, &why))
        } else {
            None
        }
    }

    /// The responses of a batch are one array; what else belongs to its requests goes ahead.
    fn batch(&self, line: &Bytes, draining: bool) -> bool {
        let batch = match batch::split(line, self.shared.limits.batch) {
            Ok(batch) => batch,
            Err(answer) => return self.reply(answer),
        };
        let (tx, mut rx) = stream(Bounds::REQUEST);
        let mut responses = batch.refused;
        for message in batch.messages {
            match self.refuses(&message, draining) {
                Some(answer) => responses.push(answer),
                None => self.receive(message, tx.clone()),
            }
        }
        drop(tx);
        let replies = self.replies.clone();
        self.shared.tracker.spawn(self.works.track_future(async move {
            while let Some(message) = rx.recv().await {
                if message.last {
                    responses.push(message.bytes);
                } else if replies.send(message).is_err() {
                    return;
                }
            }
            if !responses.is_empty() {
                let _ = replies.send(Outgoing::answer(batch::join(&responses), false));
            }
        }));
        true
    }

    fn reply(&self, bytes: Bytes) -> bool {
        self.replies.send(Outgoing::answer(bytes, true)).is_ok()
    }
}

fn too_long(limit: usize) -> Bytes {
    let why = format!("a message may have at most {limit} bytes");
    error_response(None, ErrorCode::InvalidRequest, &why)
}

/// Writes until every sender is gone, the stream is lost, or the client stops reading.
async fn write(mut waiting: Receiver, mut writer: impl AsyncWrite + Unpin, stall: Duration) {
    let mut gathered = BytesMut::new();
    while let Some(mut next) = waiting.recv().await {
        let outcome = loop {
            if next.bytes.len() < CHUNK {
                gathered.extend_from_slice(&next.bytes);
                gathered.extend_from_slice(b"\n");
            } else {
                let mut whole = gathered.split().freeze().chain(next.bytes).chain(&b"\n"[..]);
                if let Err(error) = write_all(&mut writer, &mut whole, stall).await {
                    break Err(error);
                }
            }
            match waiting.try_recv() {
                Some(more) if gathered.len() < CHUNK => next = more,
                more => {
                    let outcome = write_all(&mut writer, &mut gathered, stall).await;
                    match (outcome, more) {
                        (Ok(()), Some(more)) => next = more,
                        (outcome, _) => break outcome,
                    }
                }
            }
        };
        let outcome = match outcome {
            Ok(()) => flush(&mut writer, stall).await,
            error => error,
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "a client does not take its replies");
            return;
        }
        if gathered.capacity() > ROOM {
            gathered = BytesMut::new();
        }
    }
}

/// The deadline starts anew with every byte that goes.
async fn write_all(
    writer: &mut (impl AsyncWrite + Unpin),
    bytes: &mut impl Buf,
    stall: Duration,
) -> std::io::Result<()> {
    while bytes.has_remaining() {
        if tokio::time::timeout(stall, writer.write_buf(bytes)).await?? == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

async fn flush(writer: &mut (impl AsyncWrite + Unpin), stall: Duration) -> std::io::Result<()> {
    tokio::time::timeout(stall, writer.flush()).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(lines: &mut Lines, chunks: &[&[u8]]) -> Vec<Line> {
        let mut found = Vec::new();
        for chunk in chunks {
            lines.buffer.extend_from_slice(chunk);
            found.extend(std::iter::from_fn(|| lines.next()));
        }
        found
    }

    fn text(line: &'static str) -> Line {
        Line::Text(Bytes::from_static(line.as_bytes()))
    }

    #[test]
    fn lines_come_whole_however_they_were_cut() {
        let input = b"{\"a\":1}\n\n  \r\n{\"b\":2}\r\nrest";
        let expected = vec![text("{\"a\":1}"), text("{\"b\":2}\r")];
        for size in 1..=input.len() {
            let chunks: Vec<&[u8]> = input.chunks(size).collect();
            let mut lines = Lines::new(100, BytesMut::new());
            assert_eq!(all(&mut lines, &chunks), expected, "{size}");
            assert_eq!(&lines.buffer[..], b"rest");
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_told_once_and_passed_over() {
        let input = b"ok\n12345678901234567890123456789012345\nok\n12345678901\nok\n";
        let expected = vec![text("ok"), Line::TooLong, text("ok"), Line::TooLong, text("ok")];
        for size in 1..=input.len() {
            let chunks: Vec<&[u8]> = input.chunks(size).collect();
            let mut lines = Lines::new(10, BytesMut::new());
            assert_eq!(all(&mut lines, &chunks), expected, "{size}");
            assert!(lines.buffer.is_empty());
        }
    }

    #[test]
    fn a_long_line_needs_no_more_memory_than_the_limit() {
        let mut lines = Lines::new(1000, BytesMut::new());
        let mut told = 0;
        for _ in 0..10_000 {
            lines.buffer.extend_from_slice(&[b'x'; 500]);
            told += std::iter::from_fn(|| lines.next()).count();
            assert!(lines.buffer.capacity() < 8000);
        }
        assert_eq!(told, 1);
    }

    #[tokio::test]
    async fn replies_are_written_in_order_and_in_one_piece() {
        let (tx, rx) = stream(Bounds::CONNECTION);
        let mut expected = Vec::new();
        for len in [1, 100, CHUNK, 5, CHUNK * 3, CHUNK - 1, CHUNK - 1, 7] {
            let message = vec![b'x'; len];
            expected.extend_from_slice(&message);
            expected.push(b'\n');
            tx.notify(message.into()).unwrap();
        }
        drop(tx);
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        write(rx, ours, Duration::from_secs(1)).await;
        let mut got = Vec::new();
        theirs.read_to_end(&mut got).await.unwrap();
        assert!(got == expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_given_up() {
        let (tx, rx) = stream(Bounds::CONNECTION);
        tx.notify(vec![b'x'; 1 << 20].into()).unwrap();
        let (ours, _theirs) = tokio::io::duplex(16);
        write(rx, ours, Duration::from_secs(30)).await;
        assert!(tx.is_closed());
    }
}
