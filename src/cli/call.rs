//! `call`: one tool call from the shell.

use std::io::Read;

use anyhow::Context;
use clap::Args;
use serde_json::Value;

use super::{
    ConfigArgs, Exit,
    client::{Client, Outcome},
    complain, load, on_runtime, own_role, print_line,
};
use crate::{
    config::Mode,
    protocol::{ErrorCode, method},
};

#[derive(Args)]
pub(super) struct CallArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The tool, as `list --tools` shows it, or by its own name where that is unique
    tool: String,
    /// The arguments as a JSON object; `-` reads it from stdin
    #[arg(default_value = "{}", value_name = "JSON")]
    arguments: String,
    /// Print the whole result as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn call(args: CallArgs) -> Exit {
    let arguments = match arguments(&args.arguments) {
        Ok(arguments) => arguments,
        Err(error) => return complain(&error, Exit::Usage),
    };
    let loaded = match load(&args.config, Mode::Foreground) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let outcome = on_runtime(async {
        let mut client = Client::open(loaded.config, own_role().as_deref()).await?;
        let name = Value::from(args.tool.as_str());
        let params = format!(
            r#"{{"name":{name},"arguments":{arguments},"_meta":{{"progressToken":"call"}}}}"#
        );
        let outcome = client.ask(method::TOOLS_CALL, &params).await;
        client.close().await;
        outcome
    });
    match outcome {
        Ok(Outcome::Result(result)) => show(&result, args.json),
        Ok(Outcome::Error { code, message }) => {
            let usage = code == i64::from(ErrorCode::InvalidParams.number());
            complain(
                &anyhow::anyhow!("{message}"),
                if usage { Exit::Usage } else { Exit::Unavailable },
            )
        }
        Err(error) => complain(&error, Exit::Internal),
    }
}

/// The arguments as one line of JSON, otherwise as they were written.
fn arguments(given: &str) -> anyhow::Result<String> {
    let mut text = given.to_owned();
    if given == "-" {
        text.clear();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("cannot read the arguments from stdin")?;
    }
    let value: Value = serde_json::from_str(&text).context("the arguments are not JSON")?;
    anyhow::ensure!(
        value.is_object(),
        "the arguments must be a JSON object, such as '{{\"path\":\"/tmp\"}}'"
    );
    Ok(text.replace(['\n', '\r'], " "))
}

fn show(result: &str, json: bool) -> Exit {
    let value: Value = serde_json::from_str(result).unwrap_or_default();
    let failed = value["isError"] == Value::Bool(true);
    let printed = if json { print_line(result) } else { print_line(&readable(&value)) };
    if failed { Exit::Failed } else { printed }
}

/// Text as text; images, links and the rest as JSON.
fn readable(result: &Value) -> String {
    let blocks = result["content"].as_array().map(Vec::as_slice).unwrap_or_default();
    if blocks.is_empty() {
        return serde_json::to_string_pretty(result).unwrap_or_default();
    }
    let lines: Vec<String> = blocks
        .iter()
        .map(|block| match block["text"].as_str() {
            Some(text) if block["type"] == "text" => text.to_owned(),
            _ => serde_json::to_string_pretty(block).unwrap_or_default(),
        })
        .collect();
    lines.join("\n")
}
