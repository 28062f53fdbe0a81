//! `list`: servers and plugins; with `--tools`, every tool under the name that clients see.

use std::fmt::Write;

use clap::Args;
use serde_json::{Value, json};

use super::{
    ConfigArgs, Exit,
    client::{Client, Outcome},
    complain, load, on_runtime, own_role,
    plugins::{self, Plugins},
    print_line,
};
use crate::{
    config::{Config, Mode, Profile, Server},
    protocol::method,
};

/// Where a description is cut in text.
const DESCRIPTION: usize = 60;

#[derive(Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// List the tools too; starts the servers whose tools are not known yet
    #[arg(long)]
    tools: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn list(args: &ListArgs) -> Exit {
    let loaded = match load(&args.config, Mode::Foreground) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let config = loaded.config;
    let tools = if args.tools { Some(tools(config.clone())) } else { None };
    let tools = match tools.transpose() {
        Ok(tools) => tools,
        Err(error) => return complain(&error, Exit::Unavailable),
    };
    let plugins = match plugins::look(&config) {
        Ok(plugins) => plugins,
        Err(error) => return complain(&error, Exit::Unavailable),
    };
    for problem in &plugins.problems {
        eprintln!("{problem}");
    }
    let text = if args.json {
        as_json(&config, &plugins, tools)
    } else {
        as_text(&config, &plugins, tools)
    };
    print_line(text.trim_end())
}

fn enabled(config: &Config) -> Vec<&Server> {
    config.servers.iter().filter(|server| server.enabled).collect()
}

fn as_text(config: &Config, plugins: &Plugins, tools: Option<Vec<Value>>) -> String {
    let mut out = String::new();
    let servers = enabled(config);
    // Writing to a string cannot fail.
    let _ = writeln!(out, "Servers ({}):", servers.len());
    for server in &servers {
        let line: Vec<&str> =
            std::iter::once(&server.command).chain(&server.args).map(String::as_str).collect();
        let off = if server.sandbox.profile == Profile::Off { ", no sandbox" } else { "" };
        let _ = writeln!(out, "  {}: {} [enabled{off}]", server.name, line.join(" "));
    }
    if !config.plugins.is_empty() {
        let _ = writeln!(out, "\nPlugins ({}):", plugins.tools.len());
        plugins.tools.iter().for_each(|tool| out.push_str(&line_of(tool)));
    }
    match tools {
        None => {
            // A placeholder for each server, and gateway_status.
            let total = plugins.tools.len() + servers.len() + 1;
            let _ = writeln!(out, "\nTotal tools: {total}");
        }
        Some(tools) => {
            let _ = writeln!(out, "\nTools ({}):", tools.len());
            tools.iter().for_each(|tool| out.push_str(&line_of(tool)));
        }
    }
    out
}

fn line_of(tool: &Value) -> String {
    let name = tool["name"].as_str().unwrap_or_default();
    let text = tool["description"].as_str().unwrap_or_default();
    let text: String = text.lines().next().unwrap_or_default().chars().take(DESCRIPTION).collect();
    format!("  {name}: {text}\n")
}

fn as_json(config: &Config, plugins: &Plugins, tools: Option<Vec<Value>>) -> String {
    let servers: Vec<Value> = config
        .servers
        .iter()
        .map(|server| {
            json!({
                "name": server.name,
                "command": server.command,
                "args": server.args,
                "enabled": server.enabled,
                "sandbox": server.sandbox.profile.word(),
            })
        })
        .collect();
    let roles: Vec<&str> = config.roles.iter().flatten().map(|(name, _)| name.as_str()).collect();
    let plugins = json!({"tools": plugins.tools, "problems": plugins.problems});
    let mut all =
        json!({"config": config.path, "servers": servers, "plugins": plugins, "roles": roles});
    if let Some(tools) = tools {
        all["tools"] = tools.into();
    }
    serde_json::to_string_pretty(&all).unwrap_or_default()
}

/// Every tool as a client sees it.
fn tools(config: Config) -> anyhow::Result<Vec<Value>> {
    on_runtime(async {
        let mut client = Client::open(config, own_role().as_deref()).await?;
        let found = all_pages(&mut client).await;
        client.close().await;
        found
    })
}

pub(super) async fn all_pages(client: &mut Client) -> anyhow::Result<Vec<Value>> {
    let mut tools = Vec::new();
    let mut cursor = None::<String>;
    loop {
        let params = match &cursor {
            Some(cursor) => json!({"cursor": cursor, "_meta": {"progressToken": "list"}}),
            None => json!({"_meta": {"progressToken": "list"}}),
        };
        match client.ask(method::TOOLS_LIST, &params.to_string()).await? {
            Outcome::Error { message, .. } => anyhow::bail!(message),
            Outcome::Result(result) => {
                let mut page: Value = serde_json::from_str(&result)?;
                if let Some(page) = page["tools"].as_array_mut() {
                    tools.append(page);
                }
                cursor = page["nextCursor"].as_str().map(str::to_owned);
            }
        }
        if cursor.is_none() {
            return Ok(tools);
        }
    }
}
