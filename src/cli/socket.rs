//! A running gateway's Unix socket: where it is, and one question over it.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow};
use clap::Args;
use serde_json::Value;

/// Where the units put it.
const SYSTEM: &str = "/run/mcp-gateway/mcp-gateway.sock";
const BELOW_RUNTIME: &str = "mcp-gateway/mcp-gateway.sock";
/// A gateway that is started by this very question has its config to read first; a reload waits
/// for its turn.
const PATIENCE: Duration = Duration::from_secs(120);
/// Longer is no answer of a gateway's.
const MOST: u64 = 64 << 20;

#[derive(Args, Clone, Debug, Default)]
pub(super) struct SocketArgs {
    /// The gateway's Unix socket (default: $MCP_GATEWAY_SOCKET, else the user's in
    /// $XDG_RUNTIME_DIR/mcp-gateway, else the system's in /run/mcp-gateway)
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl SocketArgs {
    /// The socket that is named, else the first that exists.
    fn find(&self) -> anyhow::Result<PathBuf> {
        let var = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let named = self.socket.clone().or_else(|| var("MCP_GATEWAY_SOCKET").map(PathBuf::from));
        if let Some(named) = named {
            return Ok(named);
        }
        let user = var("XDG_RUNTIME_DIR").map(|dir| Path::new(&dir).join(BELOW_RUNTIME));
        let places: Vec<PathBuf> = user.into_iter().chain([PathBuf::from(SYSTEM)]).collect();
        let found = places.iter().find(|path| path.exists()).cloned();
        found.ok_or_else(|| {
            let places: Vec<String> = places.iter().map(|path| path.display().to_string()).collect();
            anyhow!(
                "no gateway's socket at {}: `systemctl enable --now mcp-gateway.socket`, or name it with --socket",
                places.join(" or ")
            )
        })
    }

    /// Asks the gateway one thing.
    pub(super) fn ask(&self, method: &str, path: &str) -> anyhow::Result<Answer> {
        let socket = self.find()?;
        let said = ask(&socket, method, path);
        said.with_context(|| format!("the gateway at {}", socket.display()))
    }
}

fn ask(socket: &Path, method: &str, path: &str) -> anyhow::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let head = "host: localhost\r\nconnection: close\r\ncontent-length: 0\r\n";
    write!(stream, "{method} {path} HTTP/1.1\r\n{head}\r\n")?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer).context("it does not answer")?;
    read(&answer).context("it is no gateway of this version, or it has ended")
}

fn read(answer: &[u8]) -> Option<Answer> {
    let answer = str::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(Answer { status, body: serde_json::from_str(body).ok()? })
}

impl Answer {
    /// What a refusal says.
    pub(super) fn refusal(&self) -> String {
        let said = self.body["error"]["message"].as_str();
        said.map_or_else(|| format!("it answers with status {}", self.status), str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole_or_not_at_all() {
        let answer =
            read(b"HTTP/1.1 403 Forbidden\r\na: b\r\n\r\n{\"error\":{\"message\":\"no\"}}")
                .unwrap();
        assert_eq!((answer.status, answer.refusal().as_str()), (403, "no"));
        for text in [
            "",
            "HTTP/1.1 200 OK\r\n\r\n{\"a\":",
            "HTTP/1.1 20",
            "SSH-2.0-x\r\n\r\n{}",
            "HTTP/1.1 \u{e9}\u{e9}\r\n\r\n{}",
        ] {
            assert!(read(text.as_bytes()).is_none(), "{text}");
        }
    }
}
