//! A client of our own gateway, in this process: for `call` and `list --tools`.

use std::{io::IsTerminal, sync::Arc, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, Mode},
    daemon::Daemon,
    gateway::{Hello, Layer, Session, Transport},
    policy::Credential,
    protocol::{
        Message, Version, method,
        stream::{Bounds, stream},
    },
};

/// One session with everything that is configured.
pub(super) struct Client {
    daemon: Daemon,
    interrupted: CancellationToken,
    session: Arc<Session>,
    spinner: ProgressBar,
    next: u64,
}

/// A signal came first.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(super) struct Interrupted;

/// What a request came to.
pub(super) enum Outcome {
    /// The result as JSON text, as the backend wrote it.
    Result(String),
    Error {
        code: i64,
        message: String,
    },
}

#[derive(Deserialize, Default)]
struct Progress {
    #[serde(default)]
    progress: f64,
    total: Option<f64>,
    message: Option<String>,
}

impl Client {
    pub(super) async fn open(config: Config, role: Option<&str>) -> anyhow::Result<Self> {
        let daemon = Daemon::new(config, role, Mode::Foreground)?;
        let interrupted = daemon.hear_signals()?;
        let principal = daemon.gateway.identify(Credential::Own, None)?;
        let cwd = std::env::current_dir().ok();
        let hello = Hello { principal, layer: Layer::Aggregate, cwd, transport: Transport::Stdio };
        let session = daemon.gateway.open(hello)?;
        let mut client = Client { daemon, interrupted, session, spinner: spinner(), next: 0 };
        let params = json!({
            "protocolVersion": Version::LATEST.as_str(),
            "capabilities": {},
            "clientInfo": {"name": "mcp-gateway-cli", "version": env!("CARGO_PKG_VERSION")},
        });
        match client.ask(method::INITIALIZE, &params.to_string()).await? {
            Outcome::Result(_) => Ok(client),
            Outcome::Error { message, .. } => anyhow::bail!(message),
        }
    }

    /// Sends a request and waits for its answer, showing progress on a terminal. `params` is
    /// JSON text.
    pub(super) async fn ask(&mut self, method: &str, params: &str) -> anyhow::Result<Outcome> {
        self.next += 1;
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":{},"method":"{method}","params":{params}}}"#,
            self.next
        );
        let message = Message::parse(text.into()).map_err(|why| anyhow::anyhow!("{why}"))?;
        let (reply, mut answers) = stream(Bounds::REQUEST);
        let Some(work) = Arc::clone(&self.session).receive(message, reply) else {
            anyhow::bail!("the gateway takes no request");
        };
        let answers = async {
            while let Some(answer) = answers.recv().await {
                let message =
                    Message::parse(answer.bytes).map_err(|why| anyhow::anyhow!("{why}"))?;
                if answer.last {
                    return Ok(message);
                }
                if message.method() == method::PROGRESS {
                    self.show(&message.params().unwrap_or_default());
                }
            }
            anyhow::bail!("the gateway gave no answer")
        };
        let (answer, ()) = tokio::select! {
            both = async { tokio::join!(answers, work) } => both,
            // What was asked of a backend is cancelled there; `close` stops what was started.
            () = self.interrupted.cancelled() => anyhow::bail!(Interrupted),
        };
        self.spinner.set_message("");
        let answer = answer?;
        if let Some((message, raw)) = answer.error() {
            let error: Value = serde_json::from_str(raw).unwrap_or_default();
            return Ok(Outcome::Error {
                code: error["code"].as_i64().unwrap_or_default(),
                message,
            });
        }
        Ok(Outcome::Result(answer.result().unwrap_or("{}").to_owned()))
    }

    fn show(&self, progress: &Progress) {
        let share = match progress.total {
            Some(total) if total > 0.0 => format!("{:.0} % ", 100.0 * progress.progress / total),
            _ => String::new(),
        };
        let text = progress.message.clone().unwrap_or_else(|| "working".to_owned());
        self.spinner.set_message(format!("{share}{text}"));
    }

    /// Stops what was started.
    pub(super) async fn close(self) {
        self.spinner.finish_and_clear();
        self.session.close();
        self.daemon.finish().await;
    }
}

/// On a terminal something moves while one waits; elsewhere nothing is written.
pub(super) fn spinner() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {msg}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}
