//! Where log lines go, and how they look.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Lines that wait for a slow reader of stderr; more are left out.
const WAITING: usize = 4096;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One readable line an event.
    #[default]
    Text,
    /// One JSON object an event.
    Json,
}

/// Sends log lines to stderr, on a thread of its own: a client that never reads the stderr of
/// `mcp-gateway stdio` must not stop the gateway. `level` is a level or a list of `target=level`.
/// What still waits is written when the guard is dropped.
pub fn start(format: Format, level: &str) -> anyhow::Result<WorkerGuard> {
    let filter =
        EnvFilter::try_new(level).map_err(|error| anyhow::anyhow!("--log {level}: {error}"))?;
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING)
        .thread_name("log")
        .finish(std::io::stderr());
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let lines = lines.with_ansi(std::io::stderr().is_terminal());
    match format {
        Format::Text => lines.init(),
        Format::Json => lines.json().flatten_event(true).init(),
    }
    Ok(guard)
}
