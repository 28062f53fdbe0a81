//! `status`: what a running gateway does. `reload`: it reads its config again.

use clap::Args;
use serde_json::Value;

use super::{Exit, complain, print_line, socket::SocketArgs};

#[derive(Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    socket: SocketArgs,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn status(args: &StatusArgs) -> Exit {
    let answer = match args.socket.ask("GET", "/status") {
        Ok(answer) if answer.status == 200 => answer.body,
        Ok(answer) => return complain(&anyhow::anyhow!(answer.refusal()), Exit::NotPermitted),
        Err(error) => return complain(&error, Exit::Unavailable),
    };
    print_line(&match args.json {
        true => serde_json::to_string_pretty(&answer).unwrap_or_default(),
        false => text(&answer),
    })
}

fn text(answer: &Value) -> String {
    let mut lines = vec![format!(
        "mcp-gateway {}, pid {}, up {} s: {} running, {} asleep, {} failed; {} sessions",
        answer["version"].as_str().unwrap_or_default(),
        answer["pid"],
        answer["uptime_s"],
        answer["running"],
        answer["asleep"],
        answer["failed"],
        answer["sessions"]
    )];
    if let Some(config) = answer["config"].as_str() {
        lines.push(format!("config {config}"));
    }
    for server in answer["servers"].as_array().into_iter().flatten() {
        let name = server["name"].as_str().unwrap_or_default();
        let sandbox = server["sandbox"].as_str().unwrap_or_default();
        let instances = server["instances"].as_array().map(Vec::as_slice).unwrap_or_default();
        if instances.is_empty() {
            lines.push(format!("  {name}: asleep, sandbox {sandbox}"));
        }
        for instance in instances {
            let mut line = format!(
                "  {name} for {}: {}, sandbox {sandbox}, {} calls, {} starts",
                instance["for"].as_str().unwrap_or_default(),
                instance["state"].as_str().unwrap_or_default(),
                instance["calls"],
                instance["starts"]
            );
            if let Some(pid) = instance["pid"].as_i64() {
                line.push_str(&format!(", pid {pid}"));
            }
            if let Some(trouble) = instance["trouble"].as_str() {
                line.push_str(&format!(": {trouble} ({} in a row)", instance["failures"]));
            }
            lines.push(line);
        }
    }
    lines.join("\n")
}

#[derive(Args)]
pub(super) struct ReloadArgs {
    #[command(flatten)]
    socket: SocketArgs,
}

/// Waits until it is done. A file with errors changes nothing and is exit 78.
pub(super) fn reload(args: &ReloadArgs) -> Exit {
    let answer = match args.socket.ask("POST", "/reload") {
        Ok(answer) => answer,
        Err(error) => return complain(&error, Exit::Unavailable),
    };
    let list = |key: &str| -> Vec<String> {
        let items = answer.body[key].as_array().into_iter().flatten();
        items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    match answer.status {
        200 => {
            list("warnings").iter().for_each(|warning| eprintln!("{warning}"));
            list("restart").iter().for_each(|what| eprintln!("needs restart: {what}"));
            print_line(answer.body["what"].as_str().unwrap_or("reloaded"))
        }
        422 => {
            list("problems").iter().for_each(|problem| eprintln!("{problem}"));
            eprintln!("mcp-gateway: the config has errors, and the one before stays in force");
            Exit::Config
        }
        403 => complain(&anyhow::anyhow!(answer.refusal()), Exit::NotPermitted),
        _ => complain(&anyhow::anyhow!(answer.refusal()), Exit::Unavailable),
    }
}
