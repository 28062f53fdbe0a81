//! A client that sends and hears messages in any order: stdio, Unix socket, HTTP+SSE.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Instant,
};

use serde_json::{Value, json};

use super::{
    Http, PATIENCE, Running,
    http::Stream,
    message::{Client, Msg, request},
};

type Send = Box<dyn FnMut(&str) -> bool + std::marker::Send>;

pub struct Framed {
    send: Option<Send>,
    lines: Receiver<String>,
    kept: VecDeque<Msg>,
    last: u64,
    process: Option<Running>,
    /// What is closed with us: the reading thread would keep it open.
    stream: Option<Stream>,
}

impl Framed {
    pub(super) fn new(
        mut input: impl Write + std::marker::Send + 'static,
        output: impl Read + std::marker::Send + 'static,
        process: Option<Running>,
    ) -> Self {
        let (into, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if into.send(line).is_err() {
                    break;
                }
            }
        });
        let send = move |line: &str| input.write_all(format!("{line}\n").as_bytes()).is_ok();
        Framed {
            send: Some(Box::new(send)),
            lines,
            kept: VecDeque::new(),
            last: 0,
            process,
            stream: None,
        }
    }

    pub fn over_unix(stream: UnixStream) -> Self {
        let twin = || stream.try_clone().unwrap();
        let mut framed = Self::new(twin(), twin(), None);
        framed.stream = Some(Stream::Unix(stream));
        framed
    }

    pub(super) fn over_sse(mut http: Http) -> Self {
        let mut stream = http.get("/sse");
        assert_eq!(stream.status, 200);
        let whole = stream.stream();
        let path = stream.event().expect("the first event names the path to post to");
        let (into, lines) = channel();
        thread::spawn(move || {
            while let Some(message) = stream.event() {
                if into.send(message).is_err() {
                    break;
                }
            }
        });
        let send = move |line: &str| http.post(&path, line).status == 202;
        Framed {
            send: Some(Box::new(send)),
            lines,
            kept: VecDeque::new(),
            last: 0,
            process: None,
            stream: Some(whole),
        }
    }

    pub fn gateway(&mut self) -> &mut Running {
        self.process.as_mut().unwrap()
    }

    /// A part of a line.
    pub fn send_part(&mut self, part: &str) {
        let Some(Stream::Unix(stream)) = &mut self.stream else { panic!("not over unix") };
        stream.write_all(part.as_bytes()).unwrap();
    }

    pub fn send(&mut self, line: &str) {
        assert!((self.send.as_mut().expect("closed"))(line), "the gateway reads no more");
    }

    /// Nothing more is said.
    pub fn close(&mut self) {
        self.send = None;
    }

    /// Sends a request and does not wait.
    pub fn start(&mut self, method: &str, params: Value) -> u64 {
        let id = self.next_id();
        self.send(&request(id, method, &params));
        id
    }

    /// Starts a call that asks for progress, under its id as the token.
    pub fn start_call(&mut self, tool: &str, arguments: Value) -> u64 {
        let token = self.last + 1;
        let meta = json!({ "progressToken": token });
        self.start("tools/call", json!({"name": tool, "arguments": arguments, "_meta": meta}))
    }

    /// The next message that fits; others are kept.
    pub fn wait(&mut self, what: &str, fits: impl Fn(&Msg) -> bool) -> Msg {
        if let Some(at) = self.kept.iter().position(&fits) {
            return self.kept.remove(at).unwrap();
        }
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let message = Msg(line);
                    if fits(&message) {
                        return message;
                    }
                    self.kept.push_back(message);
                }
                Err(RecvTimeoutError::Timeout) => {
                    panic!("waited in vain for {what}; there were {:?}", self.kept)
                }
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("the gateway has gone before {what}; there were {:?}", self.kept)
                }
            }
        }
    }

    pub fn response(&mut self, id: u64) -> Msg {
        self.wait(&format!("the response to {id}"), |message| message.answers(id))
    }

    pub fn notice(&mut self, method: &str) -> Value {
        self.wait(method, |message| message.method().as_deref() == Some(method)).json()
    }

    /// Answers what the gateway asked.
    pub fn answer(&mut self, question: &Value, result: Value) {
        let id = &question["id"];
        self.send(&json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string());
    }

    /// What came and nobody asked for, up to now.
    pub fn kept(&mut self) -> Vec<Msg> {
        self.kept.extend(self.lines.try_iter().map(Msg));
        self.kept.drain(..).collect()
    }

    /// Everything up to the end of the stream.
    pub fn rest(&mut self) -> Vec<Msg> {
        let until = Instant::now() + PATIENCE;
        while let Ok(line) =
            self.lines.recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            self.kept.push_back(Msg(line));
        }
        assert!(Instant::now() < until, "the stream does not end");
        self.kept.drain(..).collect()
    }
}

impl Drop for Framed {
    fn drop(&mut self) {
        if let Some(stream) = &self.stream {
            stream.shut();
        }
    }
}

impl Client for Framed {
    fn next_id(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn exchange(&mut self, id: u64, line: &str) -> Vec<Msg> {
        self.send(line);
        let answer = self.response(id);
        let mut all: Vec<Msg> = self.kept.iter().cloned().collect();
        all.push(answer);
        all
    }

    fn tell(&mut self, line: &str) {
        self.send(line);
    }
}
