//! A small HTTP client that shows everything.

use std::path::Path;

use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::UnixStream,
};

use super::{ACCEPT, JSON, within};

pub(super) struct Client<T> {
    pub(super) stream: T,
    buffer: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Reply {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn is_events(&self) -> bool {
        self.header("content-type") == Some("text/event-stream")
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(super) fn code(&self) -> i64 {
        self.json()["error"]["code"].as_i64().unwrap()
    }
}

#[derive(Debug, Default)]
pub(super) struct Event {
    pub(super) id: Option<String>,
    pub(super) name: Option<String>,
    pub(super) data: Option<String>,
    pub(super) retry: Option<String>,
    comment: bool,
}

impl Event {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(self.data.as_deref().unwrap()).unwrap()
    }
}

pub(super) async fn unix_client(path: &Path) -> Client<UnixStream> {
    Client::new(within(UnixStream::connect(path)).await.unwrap())
}

impl<T: AsyncRead + AsyncWrite + Unpin> Client<T> {
    pub(super) fn new(stream: T) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub(super) async fn post(&mut self, path: &str, headers: &str, body: &str) -> Reply {
        self.send("POST", path, &format!("{ACCEPT}{JSON}{headers}"), body).await;
        self.reply().await
    }

    /// Begins a POST in a session.
    pub(super) async fn ask(&mut self, session: &str, body: &str) {
        let headers = format!("{ACCEPT}{JSON}mcp-session-id: {session}\r\n");
        self.send("POST", "/mcp", &headers, body).await;
    }

    /// A POST in a session.
    pub(super) async fn say(&mut self, session: &str, body: &str) -> Reply {
        self.ask(session, body).await;
        self.reply().await
    }

    pub(super) async fn get(&mut self, path: &str, headers: &str) -> Reply {
        self.send("GET", path, headers, "").await;
        self.reply().await
    }

    pub(super) async fn delete(&mut self, headers: &str) -> Reply {
        self.send("DELETE", "/mcp", headers, "").await;
        self.reply().await
    }

    pub(super) async fn listen(&mut self, session: &str, headers: &str) -> Reply {
        let headers =
            format!("accept: text/event-stream\r\nmcp-session-id: {session}\r\n{headers}");
        self.get("/mcp", &headers).await
    }

    pub(super) async fn send(&mut self, method: &str, path: &str, headers: &str, body: &str) {
        let length = match method {
            "POST" => format!("content-length: {}\r\n", body.len()),
            _ => String::new(),
        };
        let text =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n{headers}{length}\r\n{body}");
        self.raw(text.as_bytes()).await;
    }

    pub(super) async fn raw(&mut self, bytes: &[u8]) {
        within(self.stream.write_all(bytes)).await.unwrap();
    }

    /// Sends a line.
    pub(super) async fn tell(&mut self, text: &str) {
        self.raw(format!("{text}\n").as_bytes()).await;
    }

    async fn more(&mut self) -> bool {
        within(self.stream.read_buf(&mut self.buffer)).await.is_ok_and(|len| len > 0)
    }

    /// True when nothing follows.
    pub(super) async fn ends(&mut self) -> bool {
        self.buffer.is_empty() && !self.more().await
    }

    pub(super) async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(String::from_utf8(line).unwrap().trim_end().to_owned());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// The next line as a message.
    pub(super) async fn heard(&mut self) -> Value {
        let line = self.line().await.expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    async fn exactly(&mut self, len: usize) -> Vec<u8> {
        while self.buffer.len() < len {
            assert!(self.more().await, "the end, too early");
        }
        self.buffer.drain(..len).collect()
    }

    /// Head and, unless it is an event stream, body.
    pub(super) async fn reply(&mut self) -> Reply {
        let status = self.line().await.expect("an answer");
        let status = status.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = Vec::new();
        loop {
            let line = self.line().await.expect("the rest of the head");
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").unwrap();
            headers.push((name.to_lowercase(), value.to_owned()));
        }
        let mut reply = Reply { status, headers, body: String::new() };
        let len = reply.header("content-length").map_or(0, |len| len.parse().unwrap());
        reply.body = String::from_utf8(self.exactly(len).await).unwrap();
        reply
    }

    async fn stream_line(&mut self, chunk: &mut Vec<u8>) -> Option<String> {
        loop {
            if let Some(end) = chunk.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = chunk.drain(..=end).collect();
                return Some(String::from_utf8(line).unwrap().trim_end().to_owned());
            }
            let len = usize::from_str_radix(&self.line().await?, 16).unwrap();
            chunk.extend(self.exactly(len).await);
            self.exactly(2).await;
            if len == 0 {
                assert!(chunk.is_empty(), "an event is cut off");
                return None;
            }
        }
    }

    /// The next event or comment of a stream, `None` at its end. Events must end with chunks.
    async fn any_event(&mut self, chunk: &mut Vec<u8>) -> Option<Event> {
        let mut event = Event::default();
        let mut some = false;
        loop {
            let line = self.stream_line(chunk).await?;
            if line.is_empty() {
                if some {
                    return Some(event);
                }
                continue;
            }
            some = true;
            let (field, value) = line.split_once(':').unwrap();
            let value = Some(value.trim_start().to_owned());
            match field {
                "id" => event.id = value,
                "event" => event.name = value,
                "data" => event.data = value,
                "retry" => event.retry = value,
                "" => event.comment = true,
                _ => panic!("{line}"),
            }
        }
    }
}

/// An event stream without its comments.
pub(super) struct Events<T> {
    pub(super) client: Client<T>,
    chunk: Vec<u8>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Events<T> {
    pub(super) fn new(client: Client<T>) -> Self {
        Self { client, chunk: Vec::new() }
    }

    pub(super) async fn next(&mut self) -> Option<Event> {
        loop {
            let event = self.client.any_event(&mut self.chunk).await;
            if !event.as_ref().is_some_and(|event| event.comment) {
                return event;
            }
        }
    }

    /// The message of the next event.
    pub(super) async fn message(&mut self) -> Value {
        self.next().await.expect("an event").json()
    }

    pub(super) async fn progress(&mut self) -> Value {
        let message = self.message().await;
        assert_eq!(message["method"], "notifications/progress", "{message}");
        message["params"]["progress"].clone()
    }

    pub(super) async fn comment(&mut self) -> bool {
        self.client.any_event(&mut self.chunk).await.is_some_and(|event| event.comment)
    }

    /// All messages up to the end.
    pub(super) async fn rest(&mut self) -> Vec<Value> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await {
            if event.data.as_deref() != Some("") {
                all.push(event.json());
            }
        }
        all
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Client<T> {
    /// A request in a session.
    pub(super) async fn done(mut self, session: &str, body: &str) -> (Self, Value) {
        self.ask(session, body).await;
        self.answer().await
    }

    /// An answer that comes at once or as the last of a stream.
    pub(super) async fn answer(mut self) -> (Self, Value) {
        let reply = self.reply().await;
        if !reply.is_events() {
            return (self, reply.json());
        }
        let mut events = Events::new(self);
        let answer = events.rest().await.pop().expect("an answer");
        (events.client, answer)
    }
}
