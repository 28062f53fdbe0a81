//! Exit on idle: what holds it, what does not, and that nobody is lost by it.

use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::harness::{Activator, Client, Framed, Http, PATIENCE, World, eventually, faulty};

/// Connects as often as gateways exit, at all moments of their lives.
const EXITS: usize = 200;

fn connect(activator: &Activator) -> Framed {
    let stream = UnixStream::connect(&activator.socket).unwrap();
    let mut framed = Framed::over_unix(stream);
    framed.send("MCP-GATEWAY 1");
    framed
}

#[test]
fn no_connection_is_lost_over_two_hundred_exits() {
    let world = World::new("timeouts: {exit: 20ms}\nservers: {}\n");
    let activator = world.activator(&["--log", "warn"]);
    let began = Instant::now();
    let mut connections = 0;
    while activator.ends().len() < EXITS {
        let mut stream = UnixStream::connect(&activator.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(b"MCP-GATEWAY 1\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n")
            .unwrap();
        let mut answer = String::new();
        let read = BufReader::new(stream).read_line(&mut answer);
        let told = (connections, activator.ends().len());
        assert!(read.is_ok() && answer.contains("\"id\":1"), "{told:?}: {read:?} {answer}");
        connections += 1;
        // The next one comes sooner, in the middle of, or later than the exit.
        std::thread::sleep(Duration::from_micros(connections % 97 * 500));
    }
    println!("{connections} connections over {EXITS} exits in {:?}", began.elapsed());
    assert!(activator.ends().iter().all(|end| end.success()), "{:?}", activator.ends());
}

/// A bridge: it keeps its connection, and writes whenever its client does. Told by the last line
/// that its request was never read, it sends it again.
struct Bridge<'a> {
    activator: &'a Activator,
    stream: Option<BufReader<UnixStream>>,
    farewells: usize,
}

impl Bridge<'_> {
    fn ask(&mut self, id: u64) -> Value {
        let line = json!({"jsonrpc": "2.0", "id": id, "method": "ping"});
        loop {
            let stream = self.stream.get_or_insert_with(|| {
                let mut stream = UnixStream::connect(&self.activator.socket).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.write_all(b"MCP-GATEWAY 1 {\"farewell\":true}\n").unwrap();
                BufReader::new(stream)
            });
            let written = writeln!(stream.get_mut(), "{line}");
            let mut text = String::new();
            match stream.read_line(&mut text) {
                Ok(0) => panic!("the end without a farewell; written: {written:?}"),
                Ok(_) if text.contains("notifications/mcp-gateway/idle") => {
                    text.clear();
                    let end = stream.read_line(&mut text);
                    let reset =
                        matches!(&end, Err(error) if error.kind() == ErrorKind::ConnectionReset);
                    assert!(reset || matches!(end, Ok(0)), "{end:?} {text}");
                    self.farewells += 1;
                    self.stream = None;
                }
                Ok(_) => return serde_json::from_str(&text).unwrap(),
                Err(error) => panic!("{error}; written: {written:?}"),
            }
        }
    }
}

#[test]
fn a_connection_that_stays_open_loses_no_request_and_does_not_hold_the_gateway() {
    let world = World::new("timeouts: {exit: 20ms}\nservers: {}\n");
    let activator = world.activator(&["--log", "warn"]);
    let mut bridge = Bridge { activator: &activator, stream: None, farewells: 0 };
    let mut asked = 0;
    while activator.ends().len() < 50 {
        asked += 1;
        assert_eq!(bridge.ask(asked)["id"], asked);
        std::thread::sleep(Duration::from_micros(asked % 97 * 500));
    }
    println!("{asked} requests, {} farewells", bridge.farewells);
    assert!(bridge.farewells >= 10, "{}", bridge.farewells);
    assert!(activator.ends().iter().all(|end| end.success()));
}

#[test]
fn what_has_not_ended_holds_the_gateway() {
    let echo = faulty("echo", "slow", "timeouts: {idle: 300ms}");
    let world = World::new(&format!("timeouts: {{exit: 50ms}}\nservers:\n{echo}"));
    let activator = world.activator(&[]);
    // A call, and the instance after it.
    let mut client = connect(&activator).opened();
    let id = client.start("tools/call", json!({"name": "echo_sleep", "arguments": {"ms": 500}}));
    let began = Instant::now();
    client.response(id);
    assert!(began.elapsed() >= Duration::from_millis(400) || !activator.ends().is_empty());
    assert!(activator.ends().is_empty(), "in the middle of a call, or before its instance ended");
    assert!(activator.ended(1)[0].success());
    assert!(world.children().is_empty());
    assert!(client.rest().is_empty());

    // Half a line, as long as it stays half.
    let mut half = connect(&activator).opened();
    half.send_part("{\"jsonrpc\":\"2.0\",\"id\":77,");
    quiet(&activator, 1);
    half.send_part("\"method\":\"ping\"}\n");
    half.response(77);
    activator.ended(2);

    // An event stream that is open.
    let mut http = Http::over_unix(&activator.socket, "/mcp").opened();
    let stream = http.get("/mcp");
    assert_eq!(stream.status, 200);
    quiet(&activator, 2);
    drop(stream);
    drop(http);
    activator.ended(3);

    // A session over HTTP that nobody listens to does not hold it, and is not known afterwards.
    let mut http = Http::over_unix(&activator.socket, "/mcp").opened();
    activator.ended(4);
    http.reconnect();
    let ping = json!({"jsonrpc": "2.0", "id": 5, "method": "ping"}).to_string();
    assert_eq!(http.post("/mcp", &ping).status, 404);
}

/// Several times as long as the gateway would take to exit, and it does not.
fn quiet(activator: &Activator, ends: usize) {
    let until = Instant::now() + Duration::from_millis(600);
    eventually("a while", || {
        assert_eq!(activator.ends().len(), ends, "it has exited");
        (Instant::now() > until).then_some(())
    });
}

#[test]
fn a_gateway_that_was_started_by_hand_stays_unless_told() {
    let world = World::new("servers: {}\n");
    let mut daemon = world.serve();
    let other = World::new("timeouts: {exit: 50ms}\nservers: {}\n");
    let mut told = other.serve();
    assert!(told.running.ended().success());
    assert!(!told.socket.exists(), "its socket goes with it");
    assert!(daemon.running.is_running());
}
