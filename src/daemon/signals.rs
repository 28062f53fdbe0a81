//! SIGTERM and SIGINT: the first drains, the second ends at once. SIGHUP does the same where it
//! means that the terminal has gone; to a gateway that serves sockets it means to reload.

use std::{fs::File, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::sys::signals;

/// A shell that ends sends the signal a moment before the terminal is taken from us.
const LAST: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(50);

/// `reload` is told of a SIGHUP that means it; without it none does.
pub(super) fn listen(
    tracker: &TaskTracker,
    drain: CancellationToken,
    kill: CancellationToken,
    reload: Option<Arc<Notify>>,
) -> anyhow::Result<()> {
    let hear = |kind| signal(kind).context("cannot listen for signals");
    let mut terminate = hear(SignalKind::terminate())?;
    let mut interrupt = hear(SignalKind::interrupt())?;
    // The terminal has gone, and backends must not outlive us then either. Under nohup we stay.
    let mut hangup = match signals::hangup_is_ignored() {
        true => None,
        false => Some(hear(SignalKind::hangup())?),
    };
    let had_terminal = has_terminal();
    tracker.spawn(async move {
        let mut round = 0;
        while round < 2 {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = next(&mut hangup) => {
                    if let Some(reload) = &reload
                        && !(had_terminal && loses_terminal().await)
                    {
                        reload.notify_one();
                        continue;
                    }
                }
            }
            if round == 0 {
                tracing::info!("ending: calls in flight may finish, once more ends at once");
                drain.cancel();
            } else {
                kill.cancel();
            }
            round += 1;
        }
    });
    Ok(())
}

/// Whether we are of a session with a terminal.
fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

async fn loses_terminal() -> bool {
    let until = tokio::time::Instant::now() + LAST;
    while has_terminal() {
        if tokio::time::Instant::now() >= until {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
    true
}

async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
