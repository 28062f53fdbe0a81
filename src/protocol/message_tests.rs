//! Envelopes: what is read of them, and what an edit leaves alone.

use super::*;

fn parse(text: &str) -> Message {
    Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
}

fn refused(text: &[u8]) -> Invalid {
    Message::parse(Bytes::copy_from_slice(text)).unwrap_err()
}

#[test]
fn finds_the_parts_of_a_call() {
    let call = parse(
        r#"{"jsonrpc":"2.0","id":"a\"b","method":"tools/call","params":{"name":"x","arguments":{"name":"y","_meta":1},"_meta":{"progressToken":7,"k":{}}}}"#,
    );
    assert_eq!(call.kind(), Kind::Request);
    assert_eq!(call.id(), Some(r#""a\"b""#));
    assert_eq!(call.method(), "tools/call");
    assert_eq!(call.name().unwrap(), "x");
    assert_eq!(call.progress_token(), Some("7"));
    assert!(!call.wants_task());
}

#[test]
fn edits_touch_nothing_else() {
    let call = parse(
        "{\"params\":{\"big\":123456789012345678901234567890,\"one\":1.0,\n\"name\":\"s_x\",\"_meta\":{\"progressToken\":\"t\"}},\r\n\"x-extra\":null,\"id\":1,\"method\":\"tools/call\",\"jsonrpc\":\"2.0\"}",
    );
    let line = call.edit().id("42").name("x").progress_token("42").line();
    assert_eq!(
        std::str::from_utf8(&line).unwrap(),
        "{\"params\":{\"big\":123456789012345678901234567890,\"one\":1.0, \"name\":\"x\",\"_meta\":{\"progressToken\":42}},  \"x-extra\":null,\"id\":42,\"method\":\"tools/call\",\"jsonrpc\":\"2.0\"}\n",
    );
}

#[test]
fn tells_the_kinds_apart() {
    let table = [
        (r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#, Kind::Request),
        (
            r#"{"jsonrpc":"2.0","method":"notifications/x","params":[1,{"name":2}]}"#,
            Kind::Notification,
        ),
        (r#"{"jsonrpc":"2.0","id":1,"result":{}}"#, Kind::Response),
        (r#"{"jsonrpc":"2.0","id":1,"result":null}"#, Kind::Response),
        (r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"m"}}"#, Kind::Response),
    ];
    for (text, kind) in table {
        assert_eq!(parse(text).kind(), kind, "{text}");
    }
}

#[test]
fn refuses_what_is_no_message() {
    let shapes = [
        "[]",
        "1",
        r#"{"jsonrpc":"2.0"}"#,
        r#"{"id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":true,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":5}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"m","params":{"name":"a","na\u006de":"b"}}"#,
    ];
    for text in shapes {
        assert!(matches!(refused(text.as_bytes()), Invalid::Message { .. }), "{text}");
    }
    let not_json: [&[u8]; 6] = [
        b"",
        b"{",
        b"{\"id\":NaN}",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"} x",
    ];
    for text in not_json {
        assert!(matches!(refused(text), Invalid::Json(_)), "{text:?}");
    }
}

#[test]
fn a_key_that_only_letter_case_tells_from_a_named_one_is_refused_by_name() {
    let call = |params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{{params}}}}}"#)
    };
    let meta = |meta: &str| call(&format!(r#""name":"a","_meta":{{{meta}}}"#));
    for (text, key) in [
        (r#"{"jsonrpc":"2.0","id":7,"ID":8,"method":"m"}"#.to_owned(), "id"),
        (r#"{"jsonrpc":"2.0","id":7,"method":"ping","Method":"m"}"#.to_owned(), "method"),
        (r#"{"jsonrpc":"2.0","id":7,"method":"m","PARAMS":{"name":"b"}}"#.to_owned(), "params"),
        (r#"{"jsonrpc":"2.0","id":7,"result":{},"reſult":{}}"#.to_owned(), "result"),
        (call(r#""name":"a","Name":"b""#), "name"),
        (call(r#""NAME":"b""#), "name"),
        (call(r#""uri":"a","ur\u0049":"b""#), "uri"),
        (call(r#""uri":"a","urı":"b""#), "uri"),
        (call("\"taſ\u{212a}Id\":\"b\""), "taskId"),
        (call(r#""requestid":"b""#), "requestId"),
        (call(r#""name":"a","_Meta":{}"#), "_meta"),
        (meta(r#""progresstoken":1"#), "progressToken"),
        (
            meta(r#""io.modelcontextprotocol/Related-Task":{}"#),
            "io.modelcontextprotocol/related-task",
        ),
        (meta(r#""io.modelcontextprotocol/related-task":{"taskid":1}"#), "taskId"),
    ] {
        let Invalid::Message { id, why } = refused(text.as_bytes()) else { panic!("{text}") };
        assert_eq!(id.as_deref(), Some("7"), "{text}");
        assert!(why.contains(&format!("`{key}`")), "{why}: {text}");
    }
    let fine = call(r#""name":"a","arguments":{"Name":"b","name":"c"},"names":1,"nam":2,"é":3"#);
    assert_eq!(parse(&fine).name().unwrap(), "a");
}

#[test]
fn a_null_is_there_where_that_makes_a_difference() {
    let answer = parse(r#"{"jsonrpc":"2.0","id":1,"result":null,"error":null}"#);
    assert_eq!((answer.kind(), answer.is_error()), (Kind::Response, false));
    let null_id = refused(br#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#);
    assert!(null_id.to_string().contains("must not be null"));
    assert_eq!(parse(r#"{"jsonrpc":"2.0","method":"ping"}"#).kind(), Kind::Notification);
    assert_eq!(parse(r#"{"jsonrpc":"2.0","method":"m","params":null}"#).kind(), Kind::Notification);
    refused(br#"{"jsonrpc":"2.0","id":1,"method":null}"#);
    refused(br#"["2.0",1,"ping"]"#);
}

#[test]
fn deep_nesting_and_many_keys_are_only_passed_over() {
    let deep = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{"x":{}{}}}}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    // Either answer is fine; a crash is not.
    let _ = Message::parse(deep.into());
    let keys: Vec<String> = (0..100_000).map(|n| format!("\"k{n}\":{n}")).collect();
    let wide =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{{{}}}}}"#, keys.join(","));
    assert_eq!(parse(&wide).kind(), Kind::Request);
}

#[test]
fn ids_come_back_as_they_were_written() {
    for id in ["1", "-5", "9007199254740993", "1.5", r#""""#, r#""\u00e9""#] {
        let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#);
        assert_eq!(parse(&text).id(), Some(id));
    }
}

#[test]
fn reads_what_cancellation_progress_and_tasks_name() {
    let cancel = parse(
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"r","reason":"x"}}"#,
    );
    assert_eq!(cancel.request_id(), Some(r#""r""#));
    let progress = parse(
        r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":3,"progress":1}}"#,
    );
    assert_eq!(progress.progress_of(), Some("3"));
    let task = parse(
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"t","task":{"ttl":1},"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"k"}}}}"#,
    );
    assert!(task.wants_task());
    assert_eq!(task.related_task().unwrap(), "k");
}

#[test]
fn results_and_errors_are_raw() {
    let answer = parse(r#"{"jsonrpc":"2.0","id":1,"result":{"b":1.0,"a":2}}"#);
    assert_eq!(answer.result(), Some(r#"{"b":1.0,"a":2}"#));
    let error =
        parse(r#"{"jsonrpc":"2.0","id":1,"error":{"code":-5,"message":"no","data":[1.0]}}"#);
    assert!(error.is_error());
    assert_eq!(
        error.error().unwrap(),
        ("no".to_owned(), r#"{"code":-5,"message":"no","data":[1.0]}"#)
    );
}
