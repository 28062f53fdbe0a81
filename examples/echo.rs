//! The embedded example: a small MCP server without an SDK. `make run` serves it.
//!
//! Speaks newline-framed JSON-RPC on stdin and stdout, one request at a time, with two tools:
//! `echo` returns its text, `add` adds two numbers.

use std::io::{BufRead, Write, stdin, stdout};

use serde_json::{Value, json};

fn main() -> std::io::Result<()> {
    for line in stdin().lock().lines() {
        let Ok(message) = serde_json::from_str::<Value>(&line?) else { continue };
        // Notifications need no answer.
        let Some(id) = message.get("id") else { continue };
        let answer = match answer(&message) {
            Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
            Err((code, text)) => {
                json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": text}})
            }
        };
        let mut out = stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

fn answer(message: &Value) -> Result<Value, (i32, String)> {
    let params = &message["params"];
    match message["method"].as_str().unwrap_or_default() {
        "initialize" => Ok(json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "echo", "version": env!("CARGO_PKG_VERSION")},
        })),
        "ping" => Ok(json!({})),
        "tools/list" => Ok(json!({"tools": [
            {
                "name": "echo",
                "description": "Return the text that was given",
                "inputSchema": {
                    "type": "object",
                    "properties": {"text": {"type": "string"}},
                    "required": ["text"],
                },
            },
            {
                "name": "add",
                "description": "Add two numbers",
                "inputSchema": {
                    "type": "object",
                    "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
                    "required": ["a", "b"],
                },
            },
        ]})),
        "tools/call" => call(params["name"].as_str().unwrap_or_default(), &params["arguments"]),
        method => Err((-32601, format!("Method not found: {method}"))),
    }
}

fn call(tool: &str, arguments: &Value) -> Result<Value, (i32, String)> {
    let text = match tool {
        "echo" => arguments["text"].as_str().map(str::to_owned),
        "add" => {
            let number = |key: &str| arguments[key].as_f64();
            number("a").zip(number("b")).map(|(a, b)| (a + b).to_string())
        }
        _ => return Err((-32602, format!("Unknown tool: {tool}"))),
    };
    let text = text.ok_or_else(|| (-32602, format!("{tool}: an argument is missing")))?;
    Ok(json!({"content": [{"type": "text", "text": text}]}))
}
