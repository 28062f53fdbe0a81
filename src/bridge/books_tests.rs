//! Conversations, line by line.

use super::books::{Books, Heard, Told};

fn client(books: &mut Books, line: &str) {
    let line = format!("{line}\n");
    let Told::Pass(requests) = books.client_said(line.as_bytes()) else {
        panic!("{line} was late");
    };
    books.sent(&requests);
}

fn gateway(books: &mut Books, line: &str) -> Heard {
    books.gateway_said(format!("{line}\n").as_bytes())
}

fn text(lines: Vec<Vec<u8>>) -> Vec<String> {
    lines.into_iter().map(|line| String::from_utf8(line).unwrap().trim_end().to_owned()).collect()
}

fn replayed(books: &mut Books) -> Vec<String> {
    let said = String::from_utf8(books.replay()).unwrap();
    said.lines().map(str::to_owned).collect()
}

const INITIALIZE: &str = r#"{"method":"initialize","params":{"id":9},"jsonrpc":"2.0","id":0}"#;
const INITIALIZED: &str = r#"{"method":"notifications/initialized","jsonrpc":"2.0"}"#;

fn opened() -> Books {
    let mut books = Books::default();
    client(&mut books, INITIALIZE);
    assert_eq!(gateway(&mut books, r#"{"jsonrpc":"2.0","id":0,"result":{}}"#), Heard::Pass);
    client(&mut books, INITIALIZED);
    books
}

#[test]
fn a_legacy_session_is_opened_again_and_the_answers_are_ours() {
    let mut books = opened();
    client(&mut books, r#"{"id":1,"method":"logging/setLevel","params":{"level":"debug"}}"#);
    client(&mut books, r#"{"id":2,"method":"logging/setLevel","params":{"level":"info"}}"#);
    for (id, uri) in [(3, "a"), (4, "b")] {
        let line =
            format!(r#"{{"id":{id},"method":"resources/subscribe","params":{{"uri":"{uri}"}}}}"#);
        client(&mut books, &line);
    }
    client(
        &mut books,
        r#"{"id":5,"method":"resources/unsubscribe","params":{"uri":"a","_meta":{}}}"#,
    );
    for id in 1..6 {
        gateway(&mut books, &format!(r#"{{"id":{id},"result":{{}}}}"#));
    }
    assert!(books.lost(false).is_empty());
    assert!(books.wants_connection(false) && !books.wants_connection(true));
    let said = replayed(&mut books);
    assert_eq!(said.len(), 4, "{said:?}");
    assert!(said[0].contains(r#""method":"initialize","params":{"id":9}"#));
    assert!(!said[0].contains(r#""id":0"#), "{}", said[0]);
    assert_eq!(said[1], INITIALIZED);
    assert!(said[2].contains("info"));
    assert!(said[3].contains(r#""uri":"b""#));
    for line in [&said[0], &said[2], &said[3]] {
        let id = line.rsplit_once("mcp-gateway-stdio/").unwrap().1.split('"').next().unwrap();
        let answer = format!(r#"{{"id":"mcp-gateway-stdio/{id}","result":{{}}}}"#);
        assert_eq!(gateway(&mut books, &answer), Heard::Ours);
        assert_eq!(gateway(&mut books, &answer), Heard::Pass, "once");
    }
}

#[test]
fn a_call_in_flight_is_answered_once_and_never_sent_again() {
    let mut books = opened();
    client(&mut books, r#"{"id":1,"method":"tools/call","params":{"name":"x"}}"#);
    let said = text(books.lost(false));
    assert_eq!(said.len(), 1);
    assert!(said[0].contains(r#""id":1,"error""#) && said[0].contains("outcome is unknown"));
    assert!(!replayed(&mut books).iter().any(|line| line.contains("tools/call")));
    assert!(books.lost(false).is_empty());
}

#[test]
fn what_was_not_read_or_not_begun_is_sent_again() {
    let call = r#"{"id":1,"method":"tools/call","params":{"name":"x"}}"#;
    let mut books = opened();
    client(&mut books, call);
    assert!(books.lost(true).is_empty());
    assert!(books.wants_connection(true));
    assert_eq!(replayed(&mut books).last().unwrap(), call);
    let refused = r#"{"id":1,"error":{"code":-32603,"message":"m","data":{"started":false}}}"#;
    assert_eq!(gateway(&mut books, refused), Heard::Ours);
    assert!(books.lost(false).is_empty());
    assert_eq!(replayed(&mut books).last().unwrap(), call);
    // Now it runs, and nobody knows how far it came.
    assert_eq!(books.lost(false).len(), 1);
}

#[test]
fn a_handshake_that_was_cut_off_begins_again() {
    let mut books = Books::default();
    client(&mut books, INITIALIZE);
    assert!(books.lost(false).is_empty());
    assert_eq!(replayed(&mut books), [INITIALIZE]);
    assert_eq!(gateway(&mut books, r#"{"id":0,"result":{}}"#), Heard::Pass);
}

#[test]
fn a_list_that_changed_meanwhile_is_told() {
    let mut books = opened();
    client(&mut books, r#"{"id":1,"method":"tools/list"}"#);
    client(&mut books, r#"{"id":2,"method":"tools/list","params":{"cursor":"x"}}"#);
    gateway(&mut books, r#"{"id":1,"result":{"tools":[]}}"#);
    gateway(&mut books, r#"{"id":2,"result":{"tools":[1]}}"#);
    for (result, told) in [("[]", false), ("[2]", true), ("[2]", false)] {
        assert!(books.lost(true).is_empty());
        let said = replayed(&mut books);
        let id = said[2].split("stdio/").nth(1).unwrap().split('"').next().unwrap();
        let answer = format!(r#"{{"id":"mcp-gateway-stdio/{id}","result":{{"tools":{result}}}}}"#);
        let heard = gateway(&mut books, &answer);
        let expected = b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n";
        let expected = if told { Heard::Instead(vec![expected.to_vec()]) } else { Heard::Ours };
        assert_eq!(heard, expected, "{result}");
    }
}

#[test]
fn a_modern_listener_listens_on_and_is_acknowledged_once() {
    let listen = r#"{"id":"l","method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true}}}"#;
    let acknowledged = r#"{"method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"l"}}}"#;
    let mut books = Books::default();
    client(&mut books, listen);
    assert_eq!(gateway(&mut books, acknowledged), Heard::Pass);
    client(&mut books, r#"{"id":1,"method":"tools/list"}"#);
    gateway(&mut books, r#"{"id":1,"result":{"tools":[]}}"#);
    assert!(books.lost(false).is_empty());
    let said = replayed(&mut books);
    assert_eq!(said[1], listen);
    assert_eq!(gateway(&mut books, acknowledged), Heard::Ours);
    let id = said[0].split("stdio/").nth(1).unwrap().split('"').next().unwrap();
    let answer = format!(r#"{{"id":"mcp-gateway-stdio/{id}","result":{{}}}}"#);
    let Heard::Instead(told) = gateway(&mut books, &answer) else { panic!("nothing was told") };
    assert!(text(told)[0].contains(r#""io.modelcontextprotocol/subscriptionId":"l""#));
    // The daemon that drains ends it with a last word, which is not the client's last.
    assert_eq!(
        gateway(&mut books, r#"{"method":"notifications/mcp-gateway/closing"}"#),
        Heard::Closing
    );
    assert_eq!(gateway(&mut books, r#"{"id":"l","result":{}}"#), Heard::Ours);
    assert!(books.lost(false).is_empty());
    assert!(replayed(&mut books).contains(&listen.to_owned()));
}

#[test]
fn questions_end_with_their_connection_and_late_answers_go_nowhere() {
    let mut books = opened();
    gateway(&mut books, r#"{"id":7,"method":"roots/list"}"#);
    gateway(&mut books, r#"{"id":8,"method":"roots/list"}"#);
    assert!(matches!(books.client_said(br#"{"id":7,"result":{}}"#), Told::Pass(_)));
    assert_eq!(books.client_said(br#"{"id":7,"result":{}}"#), Told::Late);
    let said = text(books.lost(false));
    assert!(said[0].contains("notifications/cancelled") && said[0].contains(r#""requestId":8"#));
    assert_eq!(books.client_said(br#"{"id":8,"result":{}}"#), Told::Late);
}

#[test]
fn a_daemon_that_refuses_the_session_says_why() {
    let mut books = Books::default();
    client(&mut books, INITIALIZE);
    let line = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no role"}}"#;
    assert_eq!(gateway(&mut books, line), Heard::Refused("no role".to_owned()));
    books.lost(false);
    let said = text(books.give_up("no role"));
    assert!(said.len() == 1 && said[0].contains(r#""id":0,"error""#), "{said:?}");
    assert!(!books.wants_connection(false));
    // Later on such a line is an answer to something that could not be read.
    let mut books = opened();
    assert_eq!(gateway(&mut books, line), Heard::Pass);
}

#[test]
fn batches_pass_with_their_requests() {
    let mut books = opened();
    client(&mut books, r#"[{"id":1,"method":"ping"},{"id":2,"method":"ping"},{"method":"n"}]"#);
    assert_eq!(gateway(&mut books, r#"[{"id":1,"result":{}}]"#), Heard::Pass);
    let said = text(books.lost(false));
    assert!(said.len() == 1 && said[0].contains(r#""id":2"#), "{said:?}");
}

#[test]
fn copies_and_what_waits_are_bounded() {
    let mut books = opened();
    let long = "x".repeat(50 << 10);
    for id in 1..20 {
        client(&mut books, &format!(r#"{{"id":{id},"method":"tools/call","params":"{long}"}}"#));
    }
    let said = books.lost(true);
    assert_eq!(said.len(), 19 - 5, "five fit");
    assert!(books.has_room());
    books.hold(long.as_bytes(), &[]);
    assert!(!books.has_room());
    assert_eq!(replayed(&mut books).len(), 2 + 5 + 1);
    assert!(books.has_room());
}
