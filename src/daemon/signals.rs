//! SIGTERM, SIGINT and SIGHUP: the first drains, the second ends at once.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::sys::signals;

pub(super) fn listen(
    tracker: &TaskTracker,
    drain: CancellationToken,
    kill: CancellationToken,
) -> anyhow::Result<()> {
    let hear = |kind| signal(kind).context("cannot listen for signals");
    let mut terminate = hear(SignalKind::terminate())?;
    let mut interrupt = hear(SignalKind::interrupt())?;
    // The terminal has gone, and backends must not outlive us then either. Under nohup we stay.
    let mut hangup = match signals::hangup_is_ignored() {
        true => None,
        false => Some(hear(SignalKind::hangup())?),
    };
    tracker.spawn(async move {
        for round in 0..2 {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = next(&mut hangup) => {}
            }
            if round == 0 {
                tracing::info!("ending: calls in flight may finish, once more ends at once");
                drain.cancel();
            } else {
                kill.cancel();
            }
        }
    });
    Ok(())
}

async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
