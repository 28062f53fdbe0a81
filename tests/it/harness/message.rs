//! Messages as they came, and what every kind of client can do.

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

/// One message, byte for byte.
#[derive(Clone, Debug)]
pub struct Msg(pub String);

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<String>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl Msg {
    fn envelope(&self) -> Envelope<'_> {
        serde_json::from_str(&self.0).unwrap_or_else(|error| panic!("{error}: {}", self.0))
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.0).unwrap_or_else(|error| panic!("{error}: {}", self.0))
    }

    pub fn id(&self) -> Option<String> {
        self.envelope().id.map(|id| id.get().to_owned())
    }

    pub fn method(&self) -> Option<String> {
        self.envelope().method
    }

    /// The bytes of the result.
    pub fn result(&self) -> &str {
        self.envelope().result.unwrap_or_else(|| panic!("no result: {}", self.0)).get()
    }

    /// The bytes of the error.
    pub fn error(&self) -> &str {
        self.envelope().error.unwrap_or_else(|| panic!("no error: {}", self.0)).get()
    }

    pub(super) fn answers(&self, id: u64) -> bool {
        let envelope = self.envelope();
        envelope.method.is_none() && envelope.id.is_some_and(|found| found.get() == id.to_string())
    }
}

pub fn request(id: u64, method: &str, params: &Value) -> String {
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"{method}\",\"params\":{params}}}")
}

/// A client over any transport.
pub trait Client {
    fn next_id(&mut self) -> u64;

    /// Sends the request with this id; gives everything that comes up to its response, that last.
    fn exchange(&mut self, id: u64, line: &str) -> Vec<Msg>;

    /// Sends what has no answer.
    fn tell(&mut self, line: &str);

    fn initialize(&mut self, capabilities: Value) -> Msg {
        let info = json!({"name": "it", "version": "1"});
        let params = json!({
            "protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": info,
        });
        let answer = self.request("initialize", &params);
        self.tell(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        answer
    }

    /// Initialized, as a client that can do nothing special.
    fn opened(mut self) -> Self
    where
        Self: Sized,
    {
        let answer = self.initialize(json!({}));
        assert!(answer.json()["result"]["protocolVersion"].is_string(), "{answer:?}");
        self
    }

    /// A request's response.
    fn request(&mut self, method: &str, params: &Value) -> Msg {
        let id = self.next_id();
        self.exchange(id, &request(id, method, params)).pop().unwrap()
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        self.request(method, &params).json()
    }

    fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.ask("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    /// The text of a call's first content block.
    fn text(&mut self, tool: &str, arguments: Value) -> String {
        let answer = self.call(tool, arguments);
        let text = answer["result"]["content"][0]["text"].as_str();
        text.unwrap_or_else(|| panic!("{tool}: {answer}")).to_owned()
    }

    /// The message of a call's error.
    fn failure(&mut self, tool: &str, arguments: Value) -> String {
        let answer = self.call(tool, arguments);
        let message = answer["error"]["message"].as_str();
        message.unwrap_or_else(|| panic!("{tool}: {answer}")).to_owned()
    }

    /// The names of all tools, every page of them.
    fn tools(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        let mut params = json!({});
        loop {
            let answer = self.ask("tools/list", params);
            let tools = answer["result"]["tools"].as_array();
            let tools = tools.unwrap_or_else(|| panic!("{answer}")).iter();
            names.extend(tools.map(|tool| tool["name"].as_str().unwrap().to_owned()));
            match answer["result"]["nextCursor"].as_str() {
                Some(cursor) => params = json!({ "cursor": cursor }),
                None => return names,
            }
        }
    }

    /// What `gateway_status` says.
    fn status(&mut self) -> Value {
        self.call("gateway_status", json!({}))["result"]["structuredContent"].clone()
    }

    /// What `gateway_status` says of a backend's only instance.
    fn instance(&mut self, server: &str) -> Value {
        let status = self.status();
        let servers = status["servers"].as_array().unwrap();
        let found = servers.iter().find(|one| one["name"] == server);
        found.unwrap_or_else(|| panic!("{status}"))["instances"][0].clone()
    }
}
