//! The Unix socket: what the first byte tells, prefaces, files in the way.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    time::Duration,
};

use mcp_gateway::{
    config::Share,
    frontend::{Limits, unix},
    sys::peer,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::UnixStream;

use super::{Plan, call, client::unix_client, echo, initialize, said};

#[tokio::test]
async fn the_first_byte_tells_what_a_unix_client_speaks() {
    let plan = Plan { share: Share::Project, ..Plan::with(Limits::default()) };
    let house = plan.build(false).await;
    let path = house.unix().await;
    let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // HTTP, with any host or none.
    let mut http = unix_client(&path).await;
    for host in ["", "host: whatever\r\n"] {
        http.raw(format!("GET /health HTTP/1.1\r\n{host}\r\n").as_bytes()).await;
        assert_eq!(http.reply().await.status, 200);
    }
    let reply = http.post("/mcp", "", &initialize("2025-06-18")).await;
    assert_eq!(reply.status, 200);
    let session = reply.header("mcp-session-id").unwrap().to_owned();
    let evil = http.post("/mcp", "origin: http://evil.com\r\n", &initialize("2025-06-18")).await;
    assert_eq!(evil.status, 403);
    // Lines.
    let mut lines = unix_client(&path).await;
    lines.raw(b"MCP-GATE").await;
    lines.raw(b"WAY 1 {\"cwd\":\"/p\",\"role\":\"dev\"}\n{\"jsonrpc\":\"2.0\",\"id\":1,").await;
    lines.raw(b"\"method\":\"ping\"}\n").await;
    assert_eq!(lines.heard().await["id"], 1);
    lines.tell(&initialize("2025-06-18")).await;
    lines.heard().await;
    lines.tell(&echo(2, "hello")).await;
    assert_eq!(said(&lines.heard().await), "hello");
    // The preface is heeded, and the kernel says who it is.
    lines.tell(&call(3, "gateway_status")).await;
    let status: Value = serde_json::from_str(said(&lines.heard().await)).unwrap();
    assert_eq!(status["role"], "dev");
    let scope = format!("project /p of uid:{}", peer::own_uid());
    let instances = status["servers"][0]["instances"].as_array().unwrap();
    assert!(instances.iter().any(|instance| instance["for"] == *scope), "{status}");
    // One backend under its own names.
    let mut one = unix_client(&path).await;
    one.raw(b"MCP-GATEWAY 1 {\"server\":\"gate\",\"cwd\":\"/p\"}\n").await;
    one.tell(&initialize("2025-06-18")).await;
    assert_eq!(one.heard().await["result"]["serverInfo"]["name"], "faulty");
    assert_eq!(house.sessions(), 3);
    drop((lines, one));
    house.until_sessions(1).await;
    assert_eq!(http.delete(&format!("mcp-session-id: {session}\r\n")).await.status, 204);
    assert_eq!(house.sessions(), 0);
}

#[tokio::test]
async fn bad_prefaces_are_told_what_was_expected() {
    let limits = Limits { head_time: Duration::from_millis(100), ..Limits::default() };
    let house = Plan::with(limits).build(false).await;
    let path = house.unix().await;
    let long = format!("MCP-GATEWAY 1 {}", "x".repeat(5000));
    for (text, word) in [
        ("{\"jsonrpc\":\"2.0\"}\n", "MCP-GATEWAY 1"),
        ("\u{16}\u{3}\u{1}", "MCP-GATEWAY 1"),
        ("MCP-GATEWAY 2 {}\n", "MCP-GATEWAY 1"),
        ("MCP-GATEWAY 1 {\"sever\":\"x\"}\n", "unknown field `sever`"),
        ("MCP-GATEWAY 1 {\"cwd\":\"x\"}\n", "absolute"),
        ("MCP-GATEWAY 1 {\"server\":\"nope\"}\n", "no backend named"),
        ("MCP-GATEWAY 1 {\"role\":\"nobody\"}\n", "no role named"),
        ("MCP-GATEWAY 1 {", "in time"),
        (&long, "no newline"),
    ] {
        let mut client = unix_client(&path).await;
        client.raw(text.as_bytes()).await;
        let answer = client.heard().await;
        assert!(answer["id"].is_null() && answer["error"]["code"] == -32600, "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(word), "{text}: {message}");
        assert!(client.ends().await, "{text}");
    }
    // One that says nothing at all.
    let mut client = unix_client(&path).await;
    assert!(client.line().await.unwrap().contains("in time"));
    assert_eq!(house.sessions(), 0);
}

#[tokio::test]
async fn another_uids_gateway_serves_us_by_no_name() {
    let owner = peer::own_uid() + 1;
    let house = Plan { owner, ..Plan::with(Limits::default()) }.build(false).await;
    let mut lines = unix_client(&house.unix().await).await;
    lines.raw(b"MCP-GATEWAY 1 {\"role\":\"dev\"}\n").await;
    let answer = lines.heard().await;
    let text = answer["error"]["message"].as_str().unwrap();
    assert!(text.contains(&format!("serves uid {owner} only")), "{text}");
    assert!(lines.ends().await);
    assert_eq!(house.sessions(), 0);
}

#[tokio::test]
async fn sockets_in_the_way() {
    let dir = TempDir::with_prefix("mcp-gateway-front-").unwrap();
    let path = dir.path().join("made/for/us/s");
    let first = unix::bind(&path).await.unwrap();
    let made = fs::metadata(path.parent().unwrap()).unwrap().permissions().mode();
    assert_eq!(made & 0o777, 0o700);
    let text = |error: io::Error| error.to_string();
    // A live one stays.
    let refused = text(unix::bind(&path).await.unwrap_err());
    assert!(
        refused.contains("another process listens here") && refused.contains("us/s"),
        "{refused}"
    );
    assert!(UnixStream::connect(&path).await.is_ok());
    // A stale one is replaced.
    drop(first);
    assert!(UnixStream::connect(&path).await.is_err());
    let second = unix::bind(&path).await.unwrap();
    assert!(UnixStream::connect(&path).await.is_ok());
    drop(second);
    // A foreign file, also behind a link, is never touched.
    let file = dir.path().join("file");
    fs::write(&file, "precious").unwrap();
    let link = dir.path().join("link");
    symlink(&path, &link).unwrap();
    for taken in [&file, &link, &dir.path().to_owned()] {
        let refused = text(unix::bind(taken).await.unwrap_err());
        assert!(refused.contains("no socket of ours"), "{refused}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    // Of many that start at once one wins.
    let tries: Vec<_> = (0..10)
        .map(|_| {
            let path = path.clone();
            tokio::spawn(async move { unix::bind(&path).await })
        })
        .collect();
    let mut bound = Vec::new();
    for attempt in tries {
        bound.push(attempt.await.unwrap());
    }
    assert_eq!(bound.iter().filter(|bound| bound.is_ok()).count(), 1);
    // A path that is too long is an error that names it.
    let long = dir.path().join("x".repeat(200));
    assert!(text(unix::bind(&long).await.unwrap_err()).contains("xxx"));
}
