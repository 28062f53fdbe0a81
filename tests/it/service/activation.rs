//! Sockets that are passed, and what the service manager is told.

use std::{
    net::TcpListener,
    os::unix::net::{UnixListener, UnixStream},
};

use serde_json::json;

use crate::harness::{Client, Framed, Http, Passed, World};

#[test]
fn sockets_that_are_passed_are_served_by_their_names() {
    let world = World::new("servers: {}\n");
    let path = world.path("passed");
    let unix = UnixListener::bind(&path).unwrap();
    let passed = Passed { socket: unix.into(), name: "mcp-gateway.socket" };
    let running = world.passed(passed, &["--port", "0"]);
    running.logged(&format!("listening on {}, handed over", path.display()));
    let mut framed = Framed::over_unix(UnixStream::connect(&path).unwrap());
    framed.send("MCP-GATEWAY 1");
    assert_eq!(framed.opened().ask("ping", json!({}))["result"], json!({}));
    assert!(!running.log().contains("http://"), "nothing else is bound: {}", running.log());
    drop(running);
    assert!(path.exists(), "what we have not made stays");

    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let passed = Passed { socket: tcp.into(), name: "mcp-gateway-http.socket" };
    let running = world.passed(passed, &[]);
    running.logged(&format!("listening on http://{address}/mcp, handed over"));
    let mut http = Http::over_tcp(address, "/mcp").opened();
    assert_eq!(http.ask("ping", json!({}))["result"], json!({}));
}

#[test]
fn foreign_sockets_are_refused_by_name() {
    let world = World::new("servers: {}\n");
    let unix = || UnixListener::bind(world.path(&format!("s{}", fastrand()))).unwrap().into();
    let tcp = || TcpListener::bind("127.0.0.1:0").unwrap().into();
    let client = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap().into()
    };
    let file = std::fs::File::open(world.path("gateway.yaml")).unwrap().into();
    for (socket, name, words) in [
        (unix(), "dbus.socket", "socket 1 was passed as \"dbus.socket\", which is not known here"),
        (unix(), "", "socket 1 was passed without a name"),
        (tcp(), "mcp-gateway.socket", "socket 1, \"mcp-gateway.socket\": fd 3 is not a valid unix"),
        (unix(), "mcp-gateway-http.socket", "fd 3 is not a valid tcp socket"),
        (client(), "mcp-gateway-http.socket", "it does not listen"),
        (file, "mcp-gateway.socket", "fd 3 is not a socket"),
        (unix(), "mcp-gateway.socket:mcp-gateway.socket", "2 names were passed for 1 sockets"),
    ] {
        let mut running = world.passed(Passed { socket, name }, &[]);
        running.logged(words);
        let code = running.code();
        assert_eq!(code, Some(78), "{name}: {}", running.log());
    }
}

/// A name that no other socket of this test has.
fn fastrand() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[test]
fn the_service_manager_hears_how_we_are() {
    let echo = crate::harness::faulty("echo", "plain", "");
    let world = World::new(&format!("timeouts: {{exit: 1s}}\nidle_timeout: 0.2\nservers:\n{echo}"));
    let world = world.env("WATCHDOG_USEC", "300000");
    let activator = world.activator(&[]);
    let stream = UnixStream::connect(&activator.socket).unwrap();
    let ready = activator.hears("READY=1");
    assert!(ready.contains("STATUS=0 running, 1 asleep, 0 failed; 0 sessions"), "{ready}");
    let mut client = Framed::over_unix(stream);
    client.send("MCP-GATEWAY 1");
    let mut client = client.opened();
    client.tools();
    activator.hears("STATUS=1 running, 0 asleep, 0 failed; 1 sessions");
    activator.hears("WATCHDOG=1");
    activator.hears("STATUS=0 running, 1 asleep, 0 failed; 1 sessions");
    let stopping = activator.hears("STOPPING=1");
    assert!(stopping.contains("STATUS=nothing to do"), "{stopping}");
    assert!(activator.ended(1)[0].success());
}
