//! Both eras of the protocol at once, as no official client shows them: clients that lie, replay,
//! never come back; backends whose era is hard to tell; what is lost where one era's words are
//! put into the other's.

mod changes;
mod crowd;
mod headers;
mod probe;
mod questions;
mod shares;
mod state;
mod tasks;
mod values;

use serde_json::{Map, Value, json};

use crate::harness::{Client, Framed, Http, Msg};

const MODERN: &str = "2026-07-28";
const OURS: &str = "io.modelcontextprotocol/";
const TRACE: &str = "env: {MCP_TRACE: \"{DIR}/traces/all\"}, sandbox: {write: [\"{DIR}/traces\"]}";

/// A transport that a client of the modern era can use.
trait Door: Client {
    /// Says beside the message what the message is about, where the transport wants that.
    fn announce(&mut self, _method: &str, _params: &Value) {}
}

impl Door for Framed {}

impl Door for Http {
    fn announce(&mut self, method: &str, params: &Value) {
        let fields = ["mcp-protocol-version", "mcp-method", "mcp-name"];
        self.headers.retain(|(name, _)| !fields.contains(&name.as_str()));
        let mut field = |name: &str, value: &str| {
            self.headers.push((name.to_owned(), value.to_owned()));
        };
        field("mcp-protocol-version", MODERN);
        field("mcp-method", method);
        let name = match method {
            "tools/call" | "prompts/get" => &params["name"],
            "resources/read" => &params["uri"],
            _ => &Value::Null,
        };
        if let Some(name) = name.as_str() {
            field("mcp-name", name);
        }
    }
}

/// A client of the modern era.
struct Modern<C> {
    client: C,
    /// What it declares.
    can: Value,
    /// What it says besides in `_meta`.
    meta: Map<String, Value>,
}

/// A client of the modern era that can be asked everything.
fn modern<C: Door>(client: C) -> Modern<C> {
    let can = json!({"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}});
    Modern { client, can, meta: Map::new() }
}

impl<C: Door> Modern<C> {
    fn can(mut self, can: Value) -> Self {
        self.can = can;
        self
    }

    fn meta(mut self, key: &str, value: Value) -> Self {
        self.meta.insert(key.to_owned(), value);
        self
    }

    /// The parameters with what every request says.
    fn params(&self, mut params: Value) -> Value {
        let mut meta = self.meta.clone();
        meta.insert(format!("{OURS}protocolVersion"), MODERN.into());
        meta.insert(format!("{OURS}clientCapabilities"), self.can.clone());
        for (key, value) in params["_meta"].as_object().into_iter().flatten() {
            meta.insert(key.clone(), value.clone());
        }
        params["_meta"] = meta.into();
        params
    }

    /// A request as it goes over the wire, announced.
    fn request(&mut self, method: &str, params: Value) -> (u64, String) {
        let params = self.params(params);
        self.client.announce(method, &params);
        let id = self.client.next_id();
        (id, json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string())
    }

    /// Everything that comes for a request, its response last.
    fn all(&mut self, method: &str, params: Value) -> Vec<Msg> {
        let (id, line) = self.request(method, params);
        self.client.exchange(id, &line)
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.all(method, params).pop().unwrap().json()
    }

    fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.ask("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    fn text(&mut self, tool: &str, arguments: Value) -> String {
        text(&self.call(tool, arguments))
    }

    /// A request that is answered with questions.
    fn asked(&mut self, method: &str, params: Value) -> Asked {
        let answer = self.ask(method, params.clone());
        Asked::of(method, params, &answer)
    }

    fn asked_by(&mut self, tool: &str, arguments: Value) -> Asked {
        self.asked("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    /// The same request with what is given in return.
    fn again(&mut self, asked: &Asked, responses: Value) -> Value {
        self.ask(&asked.method, asked.retry(responses))
    }
}

impl Modern<Http> {
    /// Reads the head of the answer and no more.
    fn begin(&mut self, method: &str, params: Value) -> crate::harness::Exchange {
        let (_, line) = self.request(method, params);
        self.client.begin(&line)
    }

    /// With connections of its own.
    fn twin(&self) -> Self {
        Modern { client: self.client.twin(), can: self.can.clone(), meta: self.meta.clone() }
    }
}

impl Modern<Framed> {
    fn start(&mut self, method: &str, params: Value) -> u64 {
        let (id, line) = self.request(method, params);
        self.client.send(&line);
        id
    }
}

/// A request that was answered with questions.
#[derive(Clone, Debug)]
struct Asked {
    method: String,
    params: Value,
    inputs: Map<String, Value>,
    state: Value,
}

impl Asked {
    fn of(method: &str, params: Value, answer: &Value) -> Self {
        let result = &answer["result"];
        assert_eq!(result["resultType"], "input_required", "{answer}");
        let inputs = result["inputRequests"].as_object().cloned().unwrap_or_default();
        assert!(result["requestState"].is_string(), "{answer}");
        Asked { method: method.to_owned(), params, inputs, state: result["requestState"].clone() }
    }

    /// The parameters of the next round.
    fn retry(&self, responses: Value) -> Value {
        let mut params = self.params.clone();
        params["requestState"] = self.state.clone();
        if !responses.is_null() {
            params["inputResponses"] = responses;
        }
        params
    }

    fn with_state(&self, state: impl Into<Value>) -> Self {
        Asked { state: state.into(), ..self.clone() }
    }

    /// The next round with this said to every question.
    fn each(&self, said: &Value) -> Value {
        self.inputs.keys().map(|key| (key.clone(), said.clone())).collect()
    }

    fn accepted(&self) -> Value {
        self.each(&json!({"action": "accept", "content": {"name": "bob", "value": "given"}}))
    }

    fn messages(&self) -> Vec<&str> {
        self.inputs.values().filter_map(|one| one["params"]["message"].as_str()).collect()
    }
}

fn text(answer: &Value) -> String {
    let text = answer["result"]["content"][0]["text"].as_str();
    text.unwrap_or_else(|| panic!("no text: {answer}")).to_owned()
}

fn parsed(answer: &Value) -> Value {
    serde_json::from_str(&text(answer)).unwrap()
}

/// An error with this code and these words in its message.
fn refused(answer: &Value, code: i64, words: &str) {
    assert_eq!(answer["error"]["code"], code, "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains(words), "{words:?}: {answer}");
}

/// The reference backend in one era or in both.
fn reference(name: &str, era: &str, keys: &str) -> String {
    crate::harness::example(name, "reference-backend", &format!("stdio, --era, {era}"), keys)
}
