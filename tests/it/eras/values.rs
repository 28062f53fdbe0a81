//! That values come through as they were written, whatever is said around them.

use serde_json::{Value, json};

use super::{MODERN, OURS, TRACE, modern, parsed, reference};
use crate::harness::{Client, Daemon, Framed, Http, World, faulty};

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// What OpenTelemetry puts into `_meta`, as it is written.
fn context() -> Value {
    json!({
        "traceparent": TRACEPARENT, "tracestate": "vendor=a:1,other=%20x", "baggage": "user=é,k=v;p",
    })
}

fn backends() -> [(&'static str, String); 2] {
    [("legacy", reference("r", "legacy", "")), ("modern", reference("r", "modern", ""))]
}

#[test]
fn the_context_of_a_trace_comes_through_in_all_four_pairs() {
    for (era, server) in backends() {
        let world = World::with(&server);
        let daemon = world.serve();
        let mut params = json!({"name": "r_whoami_meta", "arguments": {}, "_meta": context()});
        params["_meta"]["com.example/own"] = json!({"z": [1, null], "a": 1});
        let answers = [
            daemon.unix().ask("tools/call", params.clone()),
            daemon.http().ask("tools/call", params.clone()),
            modern(daemon.raw_unix("{}")).ask("tools/call", params.clone()),
            modern(daemon.raw_http("/mcp")).ask("tools/call", params.clone()),
        ];
        for answer in answers {
            let said = parsed(&answer);
            for (key, value) in params["_meta"].as_object().unwrap() {
                assert_eq!(said["_meta"][key], *value, "{era} {key}: {said}");
            }
        }
    }
    // In every message that has a `_meta`, and of each round.
    for mode in ["prompts,resources", "prompts,resources,modern", "rounds"] {
        let world = World::with(&faulty("f", mode, TRACE));
        let daemon = world.serve();
        let mut client = modern(daemon.raw_http("/mcp/f"));
        for (key, value) in context().as_object().unwrap() {
            client = client.meta(key, value.clone());
        }
        let mut sent = 1;
        if mode == "rounds" {
            let asked =
                client.asked("tools/call", json!({"name": "ask", "arguments": {"rounds": 1}}));
            client.again(&asked, asked.accepted());
        } else {
            client.text("echo", json!({}));
            for (method, params) in [
                ("prompts/get", json!({"name": "greeting"})),
                ("resources/read", json!({"uri": "faulty://one"})),
            ] {
                assert!(client.ask(method, params)["result"].is_object());
                sent += 1;
            }
        }
        sent += usize::from(mode == "rounds");
        let trace = world.read("traces/all");
        assert_eq!(
            trace.matches(&format!("\"traceparent\":\"{TRACEPARENT}\"")).count(),
            sent,
            "{trace}"
        );
        assert_eq!(trace.matches("\"baggage\":\"user=é,k=v;p\"").count(), sent, "{trace}");
    }
}

/// Sends a line as it is and gives the answer as it came.
trait Raw: Client {
    fn raw(&mut self, id: &str, line: &str) -> String;
}

impl Raw for Framed {
    fn raw(&mut self, id: &str, line: &str) -> String {
        self.send(line);
        self.wait(id, |message| message.id().as_deref() == Some(id)).0
    }
}

impl Raw for Http {
    fn raw(&mut self, _: &str, line: &str) -> String {
        for (name, value) in
            [("mcp-protocol-version", MODERN), ("mcp-method", "tools/call"), ("mcp-name", "raw")]
        {
            self.headers.push((name.to_owned(), value.to_owned()));
        }
        let mut answer = self.begin(line);
        if answer.is_events() {
            return answer.event().unwrap();
        }
        answer.finish();
        answer.body.clone()
    }
}

/// The parts of the result of `raw` that no era has a word about.
const KEPT: [&str; 3] = [
    r#""content":[{"text":"\u00e9 \u0065\u0301 \ud83d\ude00 \/ \u0000 é \u2028","type":"text","x-block":1.0,"annotations":{"x-a":1.00,"priority":0.50}},{"type":"x-future","data":[1.10,1E5]}]"#,
    r#""structuredContent":{"n":9007199254740993,"f":1.0,"e":1e+2,"nested":{"b":null,"a":{}}}"#,
    r#"{"spaced":  [ 1 ,2 ]}"#,
];
const META: &str = r#""x/y":18446744073709551617,"a":-0.0,"dup":1,"dup":2"#;

/// Arguments and members that no proxy may read anything into.
const ODD: &str = r#""arguments":{"z":1,"big":123456789012345678901234567890,"f":1.0,"e":1e+2,"dup":1,"dup":2,"u":"\u00e9\/ é","n":null,"a":[ 1 , {}]},"x-vendor":{"n":1.00}"#;

fn call(modern: bool) -> String {
    let meta = if modern {
        format!(
            r#","_meta":{{"z":1.0,"{OURS}protocolVersion":"{MODERN}","{OURS}clientCapabilities":{{"x-cap":1.0}},"a":1}}"#
        )
    } else {
        r#","_meta":{"z":1.0,"a":1}"#.to_owned()
    };
    format!(
        r#"{{"jsonrpc":"2.0","id":"é-1","method":"tools/call","params":{{"name":"raw",{ODD}{meta}}},"x-top":1.0}}"#
    )
}

/// The backend's line of the call of `raw`.
fn heard(world: &World) -> String {
    let trace = world.read("traces/all");
    trace
        .lines()
        .rfind(|line| line.contains("\"name\":\"raw\""))
        .unwrap_or_else(|| panic!("{trace}"))
        .to_owned()
}

fn doors(daemon: &Daemon, modern: bool) -> Vec<Box<dyn Raw>> {
    let mut doors: Vec<Box<dyn Raw>> = Vec::new();
    if modern {
        doors.push(Box::new(daemon.raw_http("/mcp/f")));
        doors.push(Box::new(daemon.raw_unix(r#"{"server":"f"}"#)));
    } else {
        doors.push(Box::new(daemon.unix_with("f")));
    }
    doors
}

#[test]
fn in_pairs_of_one_era_nothing_changes_but_the_id() {
    for modern_too in [false, true] {
        let world =
            World::with(&faulty("f", if modern_too { "bigints,modern" } else { "bigints" }, TRACE));
        let daemon = world.serve();
        for mut client in doors(&daemon, modern_too) {
            let line = call(modern_too);
            let answer = client.raw("\"é-1\"", &line);
            let expected = modern(daemon.raw_http("/mcp/f")).text("expected", json!({}));
            assert_eq!(
                answer,
                format!(r#"{{"jsonrpc":"2.0","x-top":1.0,"id":"é-1","result":{expected}}}"#)
            );
            let heard = heard(&world);
            let (_, rest) = heard.split_once("\"id\":").unwrap();
            let id = rest.split(',').next().unwrap();
            assert_eq!(heard, line.replace("\"é-1\"", id));
        }
    }
}

#[test]
fn in_pairs_of_two_eras_the_values_do_not_change() {
    for client_is_modern in [false, true] {
        let mode = if client_is_modern { "bigints" } else { "bigints,modern" };
        let world = World::with(&faulty("f", mode, TRACE));
        let daemon = world.serve();
        for mut client in doors(&daemon, client_is_modern) {
            let answer = client.raw("\"é-1\"", &call(client_is_modern));
            for part in KEPT.into_iter().chain([META]) {
                assert!(answer.contains(part), "{part} in {answer}");
            }
            assert_eq!(
                answer.contains("\"resultType\":\"complete\""),
                client_is_modern,
                "{answer}"
            );
            let heard = heard(&world);
            assert!(heard.contains(ODD), "{heard}");
            assert!(heard.contains(r#""_meta":{"z":1.0"#) && heard.contains(r#""a":1"#), "{heard}");
            assert_eq!(heard.contains("clientCapabilities"), !client_is_modern, "{heard}");
        }
    }
}

#[test]
fn definitions_of_tools_come_as_they_are_in_all_four_pairs() {
    for mode in ["bigints", "bigints,modern"] {
        let world = World::with(&faulty("f", mode, ""));
        let daemon = world.serve();
        let legacy = daemon.unix_with("f").request("tools/list", &json!({}));
        let whole = daemon.unix().request("tools/list", &json!({}));
        let new = modern(daemon.raw_http("/mcp/f")).all("tools/list", json!({})).pop().unwrap();
        let new_whole = modern(daemon.raw_unix("{}")).all("tools/list", json!({})).pop().unwrap();
        for answer in [&legacy, &whole, &new, &new_whole] {
            for part in [
                r#""x-keyword":{"minimum":1.0,"big":18446744073709551617}"#,
                r#""x-tool":{"n":9007199254740993}"#,
                r#""x-hint":1.0"#,
            ] {
                assert!(answer.0.contains(part), "{mode}: {part} in {}", answer.0);
            }
        }
        for (answer, said) in [(&legacy, false), (&whole, false), (&new, true), (&new_whole, true)]
        {
            assert_eq!(answer.0.contains("\"ttlMs\""), said, "{mode}: {}", answer.0);
            assert_eq!(answer.0.contains("\"cacheScope\""), said, "{mode}: {}", answer.0);
        }
    }
}

#[test]
fn errors_keep_their_code_words_and_data_in_all_four_pairs() {
    for mode in ["error-data", "error-data,modern"] {
        let world = World::with(&faulty("f", mode, ""));
        let daemon = world.serve();
        let params = json!({"name": "f_fail_raw"});
        let old = daemon.unix().request("tools/call", &params);
        let new = modern(daemon.raw_http("/mcp")).all("tools/call", params).pop().unwrap();
        for answer in [old, new] {
            let error = answer.error();
            for part in [
                r#""n":18446744073709551617,"r":1.0,"u":"\u00e9""#,
                r#""message":"raw \u0041""#,
                r#""x-extra":[1,2]"#,
                "-31999",
            ] {
                assert!(error.contains(part), "{mode}: {part} in {error}");
            }
        }
    }
}

#[test]
fn a_client_says_the_same_of_itself_in_both_eras() {
    let can = json!({
        "elicitation": {"form": {}, "url": {}}, "sampling": {"tools": {}}, "roots": {},
        "experimental": {"x": {"n": 1}}, "extensions": {"com.example/own": {"deep": [1, 2]}},
    });
    for share in ["", "share: session"] {
        let world = World::with(&reference("r", "modern", share));
        let daemon = world.serve();
        let mut old = daemon.raw_unix("{}");
        old.initialize(can.clone());
        let said = parsed(&old.call("r_whoami_meta", json!({})));
        let mut client = modern(daemon.raw_http("/mcp")).can(can.clone());
        client = client.meta(&format!("{OURS}clientInfo"), json!({"name": "it", "version": "1"}));
        let new = parsed(&client.call("r_whoami_meta", json!({})));
        for said in [said, new] {
            assert_eq!(said["_meta"][format!("{OURS}clientCapabilities")], can, "{said}");
            assert_eq!(said["_meta"][format!("{OURS}clientInfo")]["name"], "it", "{said}");
            assert_eq!(said["protocolVersion"], MODERN, "{said}");
        }
    }
}
