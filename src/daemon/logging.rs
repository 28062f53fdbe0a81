//! Where log lines go, and how they look.

mod line;
mod writer;

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

pub use self::writer::Guard;

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
pub fn start(format: Format, level: &str) -> anyhow::Result<Guard> {
    let filter =
        EnvFilter::try_new(level).map_err(|error| anyhow::anyhow!("--log {level}: {error}"))?;
    let (writer, guard) = writer::start(std::io::stderr())?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        Format::Text if std::io::stderr().is_terminal() => lines.with_ansi(true).init(),
        Format::Text => lines.event_format(line::Line::default()).init(),
        Format::Json => lines.json().flatten_event(true).init(),
    }
    Ok(guard)
}
