//! What each request gets, and who may ask at all.

use std::time::Duration;

use mcp_gateway::frontend::Limits;

use super::{ACCEPT, JSON, PING, Plan, initialize, patient};

#[tokio::test]
async fn every_status() {
    let limits = Limits { message: 2000, body_time: Duration::from_millis(50), ..patient() };
    let house = Plan::with(limits).build(false).await;
    let (_, old) = house.session("2025-06-18").await;
    let old = format!("mcp-session-id: {old}\r\n");
    let both = ACCEPT;
    let big = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{}"}}"#, "x".repeat(2000));
    let discover = r#"{"jsonrpc":"2.0","id":"d","method":"server/discover"}"#;
    let fail = initialize("fail").replace("protocolVersion", "version");
    let table: Vec<(&str, &str, String, &str, u16, i64)> = vec![
        ("POST", "/mcp", format!("{both}{JSON}"), PING, 400, -32600),
        ("POST", "/mcp", format!("{both}{JSON}mcp-session-id: x\r\n"), PING, 404, -32600),
        ("POST", "/mcp", format!("{both}{JSON}mcp-session-id: \u{e9}\r\n"), PING, 404, -32600),
        ("POST", "/mcp", format!("{both}{JSON}{old}"), PING, 200, 0),
        ("POST", "/mcp", format!("accept: */*\r\n{JSON}{old}"), PING, 200, 0),
        ("POST", "/mcp", format!("{JSON}{old}"), PING, 200, 0),
        ("POST", "/mcp", format!("accept: application/json\r\n{JSON}{old}"), PING, 406, -32600),
        ("POST", "/mcp", format!("accept: text/event-stream\r\n{JSON}{old}"), PING, 406, -32600),
        ("POST", "/mcp", format!("accept: text/html\r\n{JSON}{old}"), PING, 406, -32600),
        ("POST", "/mcp", format!("{both}{old}"), PING, 415, -32600),
        ("POST", "/mcp", format!("{both}content-type: text/plain\r\n{old}"), PING, 415, -32600),
        ("POST", "/mcp", format!("{both}{JSON}content-encoding: gzip\r\n{old}"), PING, 415, -32600),
        ("POST", "/mcp", format!("{both}{JSON}{old}"), "", 400, -32700),
        ("POST", "/mcp", format!("{both}{JSON}{old}"), "{", 400, -32700),
        ("POST", "/mcp", format!("{both}{JSON}{old}"), "{}", 400, -32600),
        ("POST", "/mcp", format!("{both}{JSON}{old}"), "[]", 400, -32600),
        ("POST", "/mcp", format!("{both}{JSON}{old}"), &big, 413, -32600),
        (
            "POST",
            "/mcp",
            format!("{both}{JSON}{old}mcp-protocol-version: 2025-06-18\r\n"),
            PING,
            200,
            0,
        ),
        (
            "POST",
            "/mcp",
            format!("{both}{JSON}{old}mcp-protocol-version: 2025-03-26\r\n"),
            PING,
            400,
            -32600,
        ),
        (
            "POST",
            "/mcp",
            format!("{both}{JSON}{old}mcp-protocol-version: 1999-01-01\r\n"),
            PING,
            400,
            -32600,
        ),
        (
            "POST",
            "/mcp",
            format!("{both}{JSON}mcp-protocol-version: 2026-07-28\r\n"),
            PING,
            400,
            -32602,
        ),
        (
            "POST",
            "/mcp",
            format!("{both}{JSON}{old}mcp-protocol-version: 2026-07-28\r\n"),
            PING,
            400,
            -32602,
        ),
        ("POST", "/mcp", format!("{both}{JSON}"), discover, 400, -32020),
        ("POST", "/mcp", format!("{both}{JSON}"), &fail, 200, -32602),
        ("PUT", "/mcp", String::new(), "", 405, -32600),
        ("OPTIONS", "/mcp", String::new(), "", 405, -32600),
        ("GET", "/mcp", "accept: text/event-stream\r\n".to_owned(), "", 400, -32600),
        ("GET", "/mcp", format!("accept: application/json\r\n{old}"), "", 406, -32600),
        ("GET", "/mcp", format!("{old}last-event-id: 9-9\r\n"), "", 400, -32600),
        ("GET", "/mcp", format!("{old}last-event-id: x\r\n"), "", 400, -32600),
        ("GET", "/mcp", format!("{old}mcp-protocol-version: 2025-11-25\r\n"), "", 400, -32600),
        ("DELETE", "/mcp", String::new(), "", 400, -32600),
        ("DELETE", "/mcp", "mcp-session-id: x\r\n".to_owned(), "", 404, -32600),
        ("GET", "/health", String::new(), "", 200, 0),
        ("POST", "/health", String::new(), "", 405, -32600),
        ("DELETE", "/sse", String::new(), "", 405, -32600),
        ("GET", "/messages/", String::new(), "", 405, -32600),
        ("POST", "/messages/", JSON.to_owned(), PING, 400, -32600),
        ("POST", "/messages/?session_id=x", JSON.to_owned(), PING, 404, -32600),
        ("GET", "/", String::new(), "", 404, -32600),
        ("GET", "/mcp/a/b", String::new(), "", 404, -32600),
    ];
    for (method, path, headers, body, status, code) in table {
        let mut client = house.client().await;
        client.send(method, path, &headers, body).await;
        let reply = client.reply().await;
        assert_eq!(reply.status, status, "{method} {path} {headers} {body}: {reply:?}");
        let got = reply.json()["error"]["code"].as_i64().unwrap_or(0);
        assert_eq!(got, code, "{method} {path} {headers} {body}: {reply:?}");
        assert!(reply.header("access-control-allow-origin").is_none());
        if status == 405 {
            assert!(reply.header("allow").is_some());
        }
        if path == "/mcp" && body == fail {
            assert!(reply.header("mcp-session-id").is_none());
        }
    }
    // A failed initialize leaves no session.
    assert_eq!(house.sessions(), 1);
    // A body that never comes whole.
    let mut client = house.client().await;
    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\n{both}{JSON}{old}content-length: 9\r\n\r\n{{"
    );
    client.raw(head.as_bytes()).await;
    assert_eq!(client.reply().await.status, 408);
    // A body without a length is bounded as well.
    let mut client = house.client().await;
    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\n{both}{JSON}{old}transfer-encoding: chunked\r\n\r\n"
    );
    client.raw(head.as_bytes()).await;
    for _ in 0..3 {
        client.raw(format!("3e8\r\n{}\r\n", "x".repeat(1000)).as_bytes()).await;
    }
    client.raw(b"0\r\n\r\n").await;
    assert_eq!(client.reply().await.status, 413);
    // And one in small pieces is put together.
    let mut client = house.client().await;
    client.raw(head.as_bytes()).await;
    for byte in PING.bytes() {
        client.raw(&[b'1', b'\r', b'\n', byte, b'\r', b'\n']).await;
    }
    client.raw(b"0\r\n\r\n").await;
    assert_eq!(client.reply().await.body, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
}

#[tokio::test]
async fn heads_are_bounded() {
    let house = Plan::with(Limits::default()).build(false).await;
    for headers in [format!("x: {}\r\n", "y".repeat(40_000)), "x: y\r\n".repeat(200)] {
        let mut client = house.client().await;
        client.send("GET", "/health", &headers, "").await;
        assert_eq!(client.reply().await.status, 431);
    }
    let mut client = house.client().await;
    client.send("GET", "/health", &format!("x: {}\r\n", "y".repeat(20_000)), "").await;
    assert_eq!(client.reply().await.status, 200);
}

#[tokio::test]
async fn hosts_and_origins_are_checked_on_every_path() {
    let house = Plan::with(Limits::default()).build(false).await;
    let port = house.address.port();
    for path in ["/health", "/mcp", "/sse", "/messages/", "/nothing"] {
        for (headers, refused) in [
            ("host: evil.com\r\n".to_owned(), Some(403)),
            ("host: localhost.evil.com\r\n".to_owned(), Some(403)),
            ("host: 127.0.0.1:80@x\r\n".to_owned(), Some(403)),
            ("host: localhost:1\r\n".to_owned(), Some(403)),
            (String::new(), Some(400)),
            ("host: localhost\r\norigin: null\r\n".to_owned(), Some(403)),
            ("host: localhost\r\norigin: http://evil.com\r\n".to_owned(), Some(403)),
            (format!("host: localhost:{port}\r\norigin: http://localhost:6274\r\n"), None),
            (format!("host: 127.0.0.1:{port}\r\n"), None),
        ] {
            let mut client = house.client().await;
            client
                .raw(
                    format!("POST {path} HTTP/1.1\r\n{headers}content-length: 0\r\n\r\n")
                        .as_bytes(),
                )
                .await;
            let reply = client.reply().await;
            match refused {
                Some(status) => {
                    assert_eq!(reply.status, status, "{path} {headers}");
                    assert_eq!(reply.code(), -32600);
                }
                None => assert!(
                    ![400, 403].contains(&reply.status) || path == "/messages/",
                    "{path} {headers} {reply:?}"
                ),
            }
        }
    }
}
