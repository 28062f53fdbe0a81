//! That the tests' own backends are of the eras that they claim. No gateway takes part.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
};

use serde_json::{Value, json};

use crate::harness::{PATIENCE, eventually, python};

struct Backend {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<Value>,
    asked: u64,
}

impl Backend {
    fn start(program: impl AsRef<Path>, args: &[&str]) -> Self {
        let mut command = Command::new(program.as_ref());
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (tell, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = tell.send(serde_json::from_str(&line).unwrap());
            }
        });
        Self { stdin: child.stdin.take(), child, lines, asked: 0 }
    }

    fn reference(era: &str) -> Self {
        let gateway = Path::new(env!("CARGO_BIN_EXE_mcp-gateway"));
        Self::start(gateway.with_file_name("examples/reference-backend"), &["stdio", "--era", era])
    }

    fn faulty(words: &str) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/backends/faulty.py");
        let args: Vec<_> = ["-S", "-E", script].into_iter().chain(words.split(' ')).collect();
        Self::start(python(), &args)
    }

    fn send(&mut self, message: &Value) {
        writeln!(self.stdin.as_mut().unwrap(), "{message}").unwrap();
    }

    fn next(&mut self) -> Value {
        self.lines.recv_timeout(PATIENCE).expect("another line")
    }

    /// Sends a request with these params as they are.
    fn ask(&mut self, method: &str, params: &Value) -> u64 {
        self.asked += 1;
        let id = self.asked;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        id
    }

    /// The same as a client of 2026-07-28 that can do everything.
    fn ask_modern(&mut self, method: &str, mut params: Value) -> u64 {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities":
                {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}},
        });
        self.ask(method, &params)
    }

    fn modern(&mut self, method: &str, params: Value) -> Value {
        let id = self.ask_modern(method, params);
        self.answer(id)
    }

    fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.modern("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    fn initialize(&mut self) -> Value {
        let params = json!({
            "protocolVersion": "2025-11-25", "clientInfo": {"name": "it", "version": "1"},
            "capabilities": {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}},
        });
        let id = self.ask("initialize", &params);
        let answer = self.answer(id);
        self.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        answer
    }

    /// The response to this request; notices before it are passed over.
    fn answer(&mut self, id: u64) -> Value {
        loop {
            let message = self.next();
            if message["method"].is_null() {
                assert_eq!(message["id"], id, "{message}");
                return message;
            }
        }
    }

    fn ended(&mut self) -> Option<i32> {
        self.stdin = None;
        eventually("the backend's end", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(answer: &Value) -> Value {
    let text = answer["result"]["content"][0]["text"].as_str();
    let text = text.unwrap_or_else(|| panic!("no text: {answer}"));
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

fn reply(question: &Value) -> Value {
    match question["method"].as_str().unwrap() {
        "sampling/createMessage" => json!({
            "role": "assistant", "model": "m", "content": {"type": "text", "text": "said"},
        }),
        "roots/list" => json!({"roots": []}),
        _ => json!({"action": "accept", "content": {"value": "given"}}),
    }
}

const ASKS: [&str; 3] = ["elicitation", "sampling", "roots"];

#[test]
fn a_legacy_server_knows_no_discovery() {
    let mut backend = Backend::reference("legacy");
    let answer = backend.modern("server/discover", json!({}));
    assert_eq!(answer["error"]["code"], -32601, "{answer}");
    assert_eq!(backend.initialize()["result"]["protocolVersion"], "2025-11-25");
    assert_eq!(backend.ended(), Some(0));
}

#[test]
fn a_modern_server_knows_no_handshake() {
    let mut backend = Backend::reference("modern");
    let refused = backend.initialize();
    assert_eq!(refused["error"]["code"], -32022, "{refused}");
    assert_eq!(refused["error"]["data"]["supported"], json!(["2026-07-28"]));
    let found = backend.modern("server/discover", json!({}));
    assert_eq!(found["result"]["supportedVersions"], json!(["2026-07-28"]));
    assert_eq!(backend.modern("ping", json!({}))["error"]["code"], -32601);
    assert_eq!(text(&backend.call("echo", json!({"text": "there"}))), "there");
    assert_eq!(backend.ended(), Some(0));
}

#[test]
fn both_eras_are_asked_the_same_under_the_same_names() {
    let arguments = json!({"rounds": 2, "asks": ASKS});
    let call = json!({"name": "interview", "arguments": arguments});
    let mut legacy = Backend::reference("legacy");
    legacy.initialize();
    let id = legacy.ask("tools/call", &call);
    for _ in 0..2 {
        // All are there before any is answered, and the last may be answered first.
        let questions: Vec<_> = ASKS.iter().map(|_| legacy.next()).collect();
        for question in questions.iter().rev() {
            let (id, result) = (&question["id"], reply(question));
            legacy.send(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
        }
    }
    let said = text(&legacy.answer(id));
    assert_eq!(said[1]["first"]["content"]["value"], "given", "{said}");

    let mut modern = Backend::reference("modern");
    let mut answer = modern.modern("tools/call", call.clone());
    while answer["result"]["resultType"] == "input_required" {
        let asked = answer["result"]["inputRequests"].as_object().unwrap();
        let given: Value = asked.iter().map(|(key, asked)| (key.clone(), reply(asked))).collect();
        let mut again = call.clone();
        again["inputResponses"] = given;
        again["requestState"] = answer["result"]["requestState"].clone();
        answer = modern.modern("tools/call", again);
    }
    assert_eq!(text(&answer), said);
}

#[test]
fn a_page_is_an_error_or_a_question() {
    let mut legacy = Backend::reference("legacy");
    legacy.initialize();
    for (tool, code) in [("need_page", -32042), ("visit_page", 0), ("need_page", 0)] {
        let id = legacy.ask("tools/call", &json!({"name": tool}));
        let answer = legacy.answer(id);
        assert_eq!(answer["error"]["code"].as_i64().unwrap_or(0), code, "{tool}: {answer}");
    }
    let answer = Backend::reference("modern").call("need_page", json!({}));
    let page = &answer["result"]["inputRequests"]["page"];
    assert_eq!(page["params"]["mode"], "url", "{answer}");
}

#[test]
fn a_change_right_after_the_acknowledgement_is_told() {
    for mut backend in [Backend::reference("modern"), Backend::faulty("listen")] {
        let wanted = json!({"notifications": {"toolsListChanged": true}});
        let id = backend.ask_modern("subscriptions/listen", wanted);
        let tagged = |message: &Value, method: &str| {
            assert_eq!(message["method"], method, "{message}");
            let tag = &message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"];
            assert_eq!(tag, id, "{message}");
        };
        tagged(&backend.next(), "notifications/subscriptions/acknowledged");
        let tools = backend.modern("tools/list", json!({}))["result"]["tools"].to_string();
        let tool = if tools.contains("\"push\"") { "push" } else { "grow" };
        backend.ask_modern("tools/call", json!({"name": tool, "arguments": {}}));
        let two = [backend.next(), backend.next()];
        let told = two.iter().find(|message| !message["method"].is_null()).expect("a notice");
        tagged(told, "notifications/tools/list_changed");
        assert_eq!(backend.ended(), Some(0), "an open stream keeps nobody alive");
    }
}

#[test]
fn who_does_not_know_discovery_may_say_nothing_or_leave() {
    let mut silent = Backend::faulty("unknown");
    silent.ask_modern("server/discover", json!({}));
    assert_eq!(silent.initialize()["result"]["protocolVersion"], "2025-11-25");
    let mut other = Backend::faulty("unknown -32000");
    assert_eq!(other.modern("server/discover", json!({}))["error"]["code"], -32000);

    let mut strict = Backend::faulty("initialize-first");
    strict.ask_modern("server/discover", json!({}));
    assert_eq!(strict.ended(), Some(1));
    let mut strict = Backend::faulty("initialize-first");
    assert_eq!(strict.initialize()["result"]["protocolVersion"], "2025-11-25");
    assert_eq!(strict.modern("server/discover", json!({}))["error"]["code"], -32601);
}

#[test]
fn a_pinned_server_stays_in_its_first_era() {
    let mut modern = Backend::faulty("pinned");
    assert!(modern.modern("server/discover", json!({}))["result"].is_object());
    assert_eq!(modern.initialize()["error"]["code"], -32022);
    assert_eq!(text(&modern.call("era", json!({}))), "modern");
    let mut legacy = Backend::faulty("pinned");
    assert!(legacy.initialize()["result"].is_object());
    assert_eq!(legacy.modern("server/discover", json!({}))["error"]["code"], -32600);
    let id = legacy.ask("tools/call", &json!({"name": "era"}));
    assert_eq!(text(&legacy.answer(id)), "legacy");
}

#[test]
fn a_file_names_the_era() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("era");
    for (era, discovers, initializes) in
        [("legacy", false, true), ("modern", true, false), ("both", true, true)]
    {
        fs::write(&path, era).unwrap();
        let mut backend = Backend::faulty(&format!("era-file {}", path.display()));
        let found = backend.modern("server/discover", json!({}));
        assert_eq!(found["result"].is_object(), discovers, "{era}: {found}");
        assert_eq!(backend.initialize()["result"].is_object(), initializes, "{era}");
    }
}

#[test]
fn rounds_go_on_in_another_process() {
    let call = json!({"name": "ask", "arguments": {"rounds": 2, "each": 2}});
    let mut answer = Backend::faulty("rounds").modern("tools/call", call.clone());
    for _ in 0..2 {
        let mut again = call.clone();
        again["requestState"] = answer["result"]["requestState"].clone();
        again["inputResponses"] = json!({"question-1": {}, "question-2": {}});
        let mut backend = Backend::faulty("rounds");
        let mut broken = again.clone();
        broken["requestState"] = format!("{}x", again["requestState"].as_str().unwrap()).into();
        assert_eq!(backend.modern("tools/call", broken)["error"]["code"], -32602);
        answer = backend.modern("tools/call", again);
    }
    assert_eq!(text(&answer).as_array().map(Vec::len), Some(2), "{answer}");
}

#[test]
fn streams_are_torn_down_in_every_way() {
    for (how, cancelled, result) in
        [("cancelled", true, false), ("result", false, true), ("both", true, true)]
    {
        let mut backend = Backend::faulty("listen");
        let id = backend.ask_modern("subscriptions/listen", json!({"notifications": {}}));
        backend.next();
        let tear = json!({"name": "tear", "arguments": {"how": how}});
        let torn = backend.ask_modern("tools/call", tear);
        let count = 1 + usize::from(cancelled) + usize::from(result);
        let came: Vec<_> = (0..count).map(|_| backend.next()).collect();
        let any = |wanted: &dyn Fn(&Value) -> bool| came.iter().any(wanted);
        assert!(any(&|message| message["id"] == torn), "{how}: {came:?}");
        assert_eq!(any(&|message| message["params"]["requestId"] == id), cancelled, "{how}");
        assert_eq!(any(&|message| message["id"] == id), result, "{how}: {came:?}");
    }
}
