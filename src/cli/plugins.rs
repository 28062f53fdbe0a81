//! What the config's plugins come to: their tools, and what could not be loaded and why. For `list`
//! and `check`.
//!
//! Asks a gateway of our own that has nothing else, so Python starts only if it is not known from
//! the last time.

use serde_json::{Value, json};

use super::{
    client::{Client, Outcome},
    list::all_pages,
    on_runtime,
};
use crate::{config::Config, protocol::method};

/// The gateway's own tool, which says the rest.
const STATUS: &str = "gateway_status";

#[derive(Default)]
pub(super) struct Plugins {
    /// As a client sees them.
    pub tools: Vec<Value>,
    /// `file:line: plugin NAME: why`
    pub problems: Vec<String>,
}

pub(super) fn look(config: &Config) -> anyhow::Result<Plugins> {
    if config.plugins.is_empty() {
        return Ok(Plugins::default());
    }
    let config = Config { servers: Vec::new(), roles: None, ..config.clone() };
    on_runtime(async {
        let mut client = Client::open(config, None).await?;
        let found = ask(&mut client).await;
        client.close().await;
        found
    })
}

async fn ask(client: &mut Client) -> anyhow::Result<Plugins> {
    let mut tools = all_pages(client).await?;
    let params = json!({"name": STATUS, "arguments": {}}).to_string();
    let status = match client.ask(method::TOOLS_CALL, &params).await? {
        Outcome::Error { message, .. } => anyhow::bail!(message),
        Outcome::Result(result) => serde_json::from_str::<Value>(&result)?,
    };
    let hosts = status["structuredContent"]["servers"].as_array().map(Vec::as_slice);
    let problems = hosts.unwrap_or_default().iter().flat_map(problems).collect();
    let of_plugin = |tool: &Value| {
        let name = tool["name"].as_str().unwrap_or_default();
        let placeholder = name.starts_with('_') && name.ends_with("_connect");
        name != STATUS && !placeholder
    };
    tools.retain(of_plugin);
    Ok(Plugins { tools, problems })
}

fn problems(host: &Value) -> Vec<String> {
    if host["tools"].is_null() {
        let why = host["instances"][0]["trouble"].as_str();
        let why = why.unwrap_or("its tools did not come in time; `--log info` says more");
        return vec![format!("{}: {why}", host["name"].as_str().unwrap_or_default())];
    }
    let all = host["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}
