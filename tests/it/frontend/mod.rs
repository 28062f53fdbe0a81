//! The doors, in this process, over real sockets, with short limits and a backend that waits until
//! the test lets it go on.

mod bounds;
mod client;
mod ends;
mod framed;
mod sessions;
mod sse;
mod statuses;
mod streams;
mod unix;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use client::Client;
use mcp_gateway::{
    backend::Supervisor,
    config::{Config, Mode, RoleRule, Server, Share},
    frontend::{
        Limits, Shared,
        http::{self, Access, Options},
        unix as unix_door,
    },
    gateway::{Gateway, Hello, Keys, Layer, Transport},
    policy::{Credential, Policy},
    protocol::{
        Message,
        stream::{Bounds, stream},
    },
    spawner::Spawner,
    sys::peer,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::harness::{PATIENCE, python};

const ACCEPT: &str = "accept: application/json, text/event-stream\r\n";
const JSON: &str = "content-type: application/json\r\n";
const PING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;

/// Streams open and beat soon.
fn quick() -> Limits {
    Limits {
        heartbeat: Duration::from_millis(20),
        prime_after: Duration::from_millis(5),
        ..Limits::default()
    }
}

/// No stream opens only because a client has waited.
fn patient() -> Limits {
    Limits { prime_after: Duration::from_secs(600), ..Limits::default() }
}

/// What a house is built with.
struct Plan {
    limits: Limits,
    session_timeout: Duration,
    /// Names of backends; all are the same program.
    servers: Vec<&'static str>,
    share: Share,
    owner: u32,
    address: &'static str,
}

impl Plan {
    fn with(limits: Limits) -> Self {
        Plan {
            limits,
            session_timeout: Duration::from_secs(60),
            servers: vec!["gate"],
            share: Share::User,
            owner: peer::own_uid(),
            address: "127.0.0.1:0",
        }
    }

    /// `warm`: the first backend runs before the first client comes.
    async fn build(self, warm: bool) -> House {
        let dir = TempDir::with_prefix("mcp-gateway-front-").unwrap();
        let gate_path = dir.path().join("gate");
        let gate = UnixListener::bind(&gate_path).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/frontend/gate.py");
        let socket = gate_path.to_str().unwrap();
        let server = |name: &&str| Server {
            command: python().to_owned(),
            args: ["-S", "-E", "-B", script, "gate,elicit", socket].map(str::to_owned).into(),
            share: self.share,
            ..Server::named(*name)
        };
        let config = Config {
            servers: self.servers.iter().map(server).collect(),
            roles: Some(vec![("dev".to_owned(), RoleRule::All)]),
            session_timeout: self.session_timeout,
            ..Config::default()
        };
        let policy = Policy::new(&config, self.owner, None).unwrap();
        let backends = TaskTracker::new();
        let supervisor = {
            let spawner = Spawner::new(&config, Mode::Foreground);
            Supervisor::new(&config.servers, spawner, backends.clone())
        };
        let gateway = Gateway::new(config, policy, supervisor, None, Keys::random(), backends);
        let (tracker, drain, kill) =
            (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
        let shared = Shared::new(
            Arc::clone(&gateway),
            self.limits,
            tracker.clone(),
            drain.clone(),
            kill.clone(),
        );
        let listener = TcpListener::bind(self.address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let options = Options { access: Access::OwnUid, hosts: vec![] };
        let served = tokio::spawn(http::serve(Arc::clone(&shared), listener, options));
        let gate = Some((gate, gate_path));
        let house = House {
            shared,
            gateway,
            drain,
            kill,
            tracker,
            address,
            served,
            gate,
            held: vec![],
            dir,
        };
        if warm {
            assert_eq!(house.run("echo", json!({"text": "warm"})).await["text"], "warm");
        }
        house
    }
}

struct House {
    shared: Arc<Shared>,
    gateway: Arc<Gateway>,
    drain: CancellationToken,
    kill: CancellationToken,
    tracker: TaskTracker,
    address: SocketAddr,
    served: JoinHandle<()>,
    /// Where calls of the backend report and wait.
    gate: Option<(UnixListener, PathBuf)>,
    held: Vec<UnixStream>,
    dir: TempDir,
}

impl House {
    async fn open() -> Self {
        Self::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Self {
        Plan::with(limits).build(true).await
    }

    /// A Unix socket beside the TCP port.
    async fn unix(&self) -> PathBuf {
        let path = self.dir.path().join("s");
        let listener = unix_door::bind(&path).await.unwrap();
        tokio::spawn(unix_door::serve(Arc::clone(&self.shared), listener));
        path
    }

    async fn client(&self) -> Client<TcpStream> {
        Client::new(within(TcpStream::connect(self.address)).await.unwrap())
    }

    /// A session of a version.
    async fn session(&self, version: &str) -> (Client<TcpStream>, String) {
        let mut client = self.client().await;
        let reply = client.post("/mcp", "", &initialize(version)).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        let id = reply.header("mcp-session-id").unwrap().to_owned();
        (client, id)
    }

    /// Waits until a `slow` or `quiet` call has begun.
    async fn begun(&mut self) {
        let (gate, _) = self.gate.as_ref().expect("calls are held up");
        let (held, _) = within(gate.accept()).await.unwrap();
        self.held.push(held);
    }

    /// Lets all `slow` and `quiet` calls go on, now and later.
    fn go(&mut self) {
        if let Some((_, path)) = self.gate.take() {
            std::fs::remove_file(path).unwrap();
        }
        self.held.clear();
    }

    /// Sessions that are open.
    fn sessions(&self) -> u64 {
        self.gateway.health()["sessions"].as_u64().unwrap()
    }

    async fn until_sessions(&self, number: u64) {
        until(&format!("{number} sessions"), || self.sessions() == number).await;
    }

    /// Calls a tool by no door at all; gives the first block of the result.
    async fn run(&self, tool: &str, arguments: Value) -> Value {
        let principal = self.gateway.identify(Credential::Own, None).unwrap();
        let (layer, transport) = (Layer::Aggregate, Transport::Stdio);
        let hello = Hello { principal, layer, cwd: None, transport };
        let session = self.gateway.open(hello).unwrap();
        let params = json!({"name": tool, "arguments": arguments}).to_string();
        let call = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#);
        let mut last = Value::Null;
        for text in [initialize("2025-11-25"), call] {
            let (reply, mut answers) = stream(Bounds::REQUEST);
            let message = Message::parse(text.into()).unwrap();
            within(session.receive(message, reply).unwrap()).await;
            while let Some(answer) = within(answers.recv()).await {
                last = serde_json::from_slice(&answer.bytes).unwrap();
            }
        }
        session.close();
        assert!(last.get("result").is_some(), "{last}");
        last["result"]["content"][0].take()
    }

    /// What `gateway_status` says.
    async fn status(&self) -> Value {
        let block = self.run("gateway_status", json!({})).await;
        serde_json::from_str(block["text"].as_str().unwrap()).unwrap()
    }

    /// The backend says of its own accord that `gate:///n` has changed.
    async fn tell(&self, n: u64) {
        self.run("tell", json!({"n": n})).await;
    }

    /// Waits until the backend has no call in flight.
    async fn until_idle(&self) {
        let until = Instant::now() + PATIENCE;
        while self.status().await["servers"][0]["instances"][0]["calls"] != 0 {
            assert!(Instant::now() < until, "a call does not end");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

fn initialize(version: &str) -> String {
    initialize_with(version, "{}")
}

fn initialize_with(version: &str, capabilities: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{capabilities},"clientInfo":{{"name":"t","version":"1"}}}}}}"#
    )
}

/// A call that wants progress, under its id as the token.
fn call(id: u32, name: &str) -> String {
    call_with(id, name, "{}")
}

fn call_with(id: u32, name: &str, arguments: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{name}","arguments":{arguments},"_meta":{{"progressToken":{id}}}}}}}"#
    )
}

fn echo(id: u32, text: &str) -> String {
    call_with(id, "echo", &json!({"text": text}).to_string())
}

/// Subscribes to everything that [`House::tell`] tells.
fn subscribe(id: u32) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"resources/subscribe","params":{{"uri":"gate:///"}}}}"#
    )
}

/// The text of a call's result.
fn said(message: &Value) -> &str {
    message["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{message}"))
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("this takes too long")
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "never: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
