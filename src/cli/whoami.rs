//! `whoami`: what the gateway sees of us.

use clap::Args;
use serde_json::Value;

use super::{Exit, complain, print_line, socket::SocketArgs};

#[derive(Args)]
pub(super) struct WhoamiArgs {
    #[command(flatten)]
    socket: SocketArgs,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// Exit 77 for who has no role.
pub(super) fn whoami(args: &WhoamiArgs) -> Exit {
    let answer = match args.socket.ask("GET", "/whoami") {
        Ok(answer) if answer.status == 200 => answer.body,
        Ok(answer) => return complain(&anyhow::anyhow!(answer.refusal()), Exit::Unavailable),
        Err(error) => return complain(&error, Exit::Unavailable),
    };
    let said = match args.json {
        true => serde_json::to_string_pretty(&answer).unwrap_or_default(),
        false => text(&answer),
    };
    match print_line(&said) {
        Exit::Ok if answer["role"].is_null() => Exit::NotPermitted,
        exit => exit,
    }
}

fn text(answer: &Value) -> String {
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let named = |id: &Value, name: &Value| match name.as_str() {
        Some(name) => format!("{name} ({id})"),
        None => id.to_string(),
    };
    let list = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(&word).collect()
    };
    let groups: Vec<String> = answer["groups"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|group| named(&group["gid"], &group["name"]))
        .collect();
    let mut lines = vec![
        format!("user     {}", named(&answer["uid"], &answer["user"])),
        format!("groups   {}", groups.join(", ")),
    ];
    match answer["denied"].as_str() {
        Some(why) => lines.push(format!("role     none: {why}")),
        None => {
            lines.push(format!("role     {} by {}", word(&answer["role"]), word(&answer["rule"])));
            lines.push(format!("servers  {}", list(&answer["servers"]).join(", ")));
            let tools = list(&answer["tools"]);
            lines.push(format!("tools    {} known: {}", tools.len(), tools.join(", ")));
        }
    }
    lines.join("\n")
}
