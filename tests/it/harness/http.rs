//! HTTP/1.1 by hand: what is sent is exactly what a test wrote, and event streams are read as
//! they come.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use super::{
    PATIENCE,
    message::{Client, Msg},
};

type Connection = BufReader<Stream>;

/// A connection. All its clones end with `shut`.
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub(super) fn twin(&self) -> Self {
        match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone().unwrap()),
            Self::Unix(stream) => Self::Unix(stream.try_clone().unwrap()),
        }
    }

    pub(super) fn shut(&self) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Clone)]
enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A client of Streamable HTTP.
pub struct Http {
    address: Address,
    path: String,
    /// The session's id, once there is one.
    pub session: Option<String>,
    /// Header lines to send besides; one that is named here is not sent by itself.
    pub headers: Vec<(String, String)>,
    /// TCP or Unix connections made up to now.
    pub connections: usize,
    connection: Option<Connection>,
    last: u64,
}

impl Http {
    pub fn over_tcp(address: SocketAddr, path: &str) -> Self {
        Self::new(Address::Tcp(address), path)
    }

    pub fn over_unix(socket: &Path, path: &str) -> Self {
        Self::new(Address::Unix(socket.to_owned()), path)
    }

    fn new(address: Address, path: &str) -> Self {
        Http {
            address,
            path: path.to_owned(),
            session: None,
            headers: Vec::new(),
            connections: 0,
            connection: None,
            last: 0,
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A client of the same session with connections of its own.
    pub fn twin(&self) -> Self {
        let mut twin = Self::new(self.address.clone(), &self.path);
        twin.session = self.session.clone();
        twin.last = self.last + 1_000_000;
        twin
    }

    fn connect(&mut self) -> Connection {
        self.connections += 1;
        let stream = match &self.address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_nodelay(true).unwrap();
                Stream::Tcp(stream)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                Stream::Unix(stream)
            }
        };
        BufReader::new(stream)
    }

    /// Sends a request and reads the head of its answer.
    pub fn send(&mut self, method: &str, path: &str, body: Option<&str>) -> Exchange {
        let mut head = format!("{method} {path} HTTP/1.1\r\n");
        let mut field = |name: &str, value: &str| {
            if !self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        };
        field("host", "localhost");
        field("accept", "application/json, text/event-stream");
        if let Some(session) = &self.session {
            field("mcp-session-id", session);
            field("mcp-protocol-version", "2025-11-25");
        }
        if let Some(body) = body {
            field("content-type", "application/json");
            field("content-length", &body.len().to_string());
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        head.push_str(body.unwrap_or_default());
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect(),
        };
        connection.get_mut().write_all(head.as_bytes()).unwrap();
        Exchange::read(connection)
    }

    pub fn get(&mut self, path: &str) -> Exchange {
        self.send("GET", path, None)
    }

    /// The next request goes over a new connection.
    pub fn reconnect(&mut self) {
        self.connection = None;
    }

    /// Posts and reads the whole answer.
    pub fn post(&mut self, path: &str, body: &str) -> Exchange {
        let mut exchange = self.send("POST", path, Some(body));
        exchange.finish();
        self.connection = exchange.connection.take();
        exchange
    }

    /// Posts a message to the session and reads the head of the answer.
    pub fn begin(&mut self, line: &str) -> Exchange {
        let path = self.path.clone();
        self.send("POST", &path, Some(line))
    }

    /// The session's general event stream, on a connection of its own.
    pub fn listen(&self) -> Exchange {
        let mut twin = self.twin().header("accept", "text/event-stream");
        let path = twin.path.clone();
        twin.get(&path)
    }
}

impl Client for Http {
    fn next_id(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn exchange(&mut self, id: u64, line: &str) -> Vec<Msg> {
        let mut exchange = self.begin(line);
        if let Some(session) = exchange.header("mcp-session-id") {
            self.session = Some(session.to_owned());
        }
        if !exchange.is_events() {
            exchange.finish();
            self.connection = exchange.connection.take();
            return vec![Msg(exchange.body)];
        }
        let mut all = Vec::new();
        while let Some(message) = exchange.event() {
            all.push(Msg(message));
            if all.last().is_some_and(|message| message.answers(id)) {
                exchange.finish();
                self.connection = exchange.connection.take();
                return all;
            }
        }
        panic!("the stream ended before the answer to {line}: {all:?}");
    }

    fn tell(&mut self, line: &str) {
        let path = self.path.clone();
        let exchange = self.post(&path, line);
        assert_eq!(exchange.status, 202, "{}", exchange.body);
    }
}

enum Rest {
    Length(usize),
    Chunked,
    Nothing,
}

/// One answer, as far as it has been read.
pub struct Exchange {
    pub status: u16,
    headers: Vec<(String, String)>,
    /// What was read of a body that is no event stream, after `finish`.
    pub body: String,
    rest: Rest,
    pending: Vec<u8>,
    connection: Option<Connection>,
}

impl Exchange {
    fn read(mut connection: Connection) -> Self {
        let status = line(&mut connection);
        let code = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = code.unwrap_or_else(|| panic!("no status: {status:?}"));
        let mut headers = Vec::new();
        loop {
            let field = line(&mut connection);
            let Some((name, value)) = field.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut exchange = Exchange {
            status,
            headers,
            body: String::new(),
            rest: Rest::Nothing,
            pending: Vec::new(),
            connection: Some(connection),
        };
        if exchange.header("transfer-encoding").is_some() {
            exchange.rest = Rest::Chunked;
        } else if let Some(length) = exchange.header("content-length") {
            exchange.rest = Rest::Length(length.parse().unwrap());
        }
        exchange
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn is_events(&self) -> bool {
        self.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"))
    }

    /// Its connection, to end it from elsewhere.
    pub(super) fn stream(&self) -> Stream {
        self.connection.as_ref().unwrap().get_ref().twin()
    }

    /// Reads some of the body; false at its end.
    fn more(&mut self) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        let size = match self.rest {
            Rest::Nothing | Rest::Length(0) => return false,
            Rest::Length(size) => size,
            Rest::Chunked => usize::from_str_radix(&line(connection), 16).unwrap_or(0),
        };
        let before = self.pending.len();
        self.pending.resize(before + size, 0);
        let whole = connection.read_exact(&mut self.pending[before..]).is_ok();
        match self.rest {
            Rest::Chunked => {
                line(connection);
                if size == 0 {
                    self.rest = Rest::Nothing;
                }
            }
            _ => self.rest = Rest::Nothing,
        }
        whole && size > 0
    }

    /// Reads to the end of the body.
    pub fn finish(&mut self) {
        while self.more() {}
        self.body.push_str(&String::from_utf8_lossy(&std::mem::take(&mut self.pending)));
        if self.header("connection") == Some("close") {
            self.connection = None;
        }
    }

    /// The data of the next event that has any. `None` at the end.
    pub fn event(&mut self) -> Option<String> {
        self.numbered_event().map(|(_, data)| data)
    }

    /// The next event that has data, with its id.
    pub fn numbered_event(&mut self) -> Option<(Option<String>, String)> {
        let mut scanned = 0;
        loop {
            let found = self.pending[scanned..].windows(2).position(|pair| pair == b"\n\n");
            let Some(at) = found else {
                scanned = self.pending.len().saturating_sub(1);
                if !self.more() {
                    return None;
                }
                continue;
            };
            let event: Vec<u8> = self.pending.drain(..scanned + at + 2).collect();
            scanned = 0;
            let event = String::from_utf8(event).unwrap();
            let field = |name: &str| {
                let lines = event.lines().filter_map(|line| line.strip_prefix(name));
                let values: Vec<&str> =
                    lines.map(|value| value.strip_prefix(' ').unwrap_or(value)).collect();
                (!values.is_empty()).then(|| values.join("\n"))
            };
            if let Some(data) = field("data:").filter(|data| !data.is_empty()) {
                return Some((field("id:"), data));
            }
        }
    }
}

/// A line without its end; empty where the connection ends.
fn line(connection: &mut Connection) -> String {
    let mut text = String::new();
    let _ = connection.read_line(&mut text);
    text.trim_end_matches(['\r', '\n']).to_owned()
}
