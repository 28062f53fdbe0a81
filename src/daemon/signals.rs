//! SIGTERM and SIGINT: the first drains, the second ends at once.

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(super) fn listen(
    tracker: &TaskTracker,
    drain: CancellationToken,
    kill: CancellationToken,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    tracker.spawn(async move {
        for round in 0..2 {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
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
