//! What the service manager hears of us: ready, reloading, stopping, how the backends are, and
//! that we are alive. Silent where nobody listens ($NOTIFY_SOCKET).

use std::{sync::Arc, time::Duration};

use sd_notify::NotifyState;
use tokio::time::Interval;
use tokio_util::sync::CancellationToken;

use crate::gateway::Gateway;

/// A burst of changes is told as one.
const GATHER: Duration = Duration::from_millis(100);

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told of us (NOTIFY_SOCKET)");
    }
}

/// Clients can be served.
pub(super) fn ready(gateway: &Gateway) {
    tell(&[NotifyState::Ready, NotifyState::Status(&status(gateway))]);
}

/// The config is read again. Ends with [`ready`] or [`not_reloaded`].
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// It has errors; that is no end of service.
pub(super) fn not_reloaded(problems: usize) {
    let status =
        format!("not reloaded, {problems} problems in the config: the one before is in force");
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

pub(super) fn stopping(why: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(why)]);
}

fn status(gateway: &Gateway) -> String {
    let counts = gateway.counts();
    format!(
        "{} running, {} asleep, {} failed; {} sessions",
        counts.running,
        counts.asleep,
        counts.failed,
        gateway.open_sessions()
    )
}

/// Tells how the backends are whenever that changes, and at a third of the watchdog's time that
/// we are alive. This runs on the loop that serves everybody and looks through the gateway's own
/// tables first, so a loop that is stuck, or a lock that nobody gives back, is not alive.
pub(super) async fn keep_told(gateway: Arc<Gateway>, end: CancellationToken) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    let patience = sd_notify::watchdog_enabled();
    let mut beats = patience.map(|patience| tokio::time::interval(patience / 3));
    let changes = gateway.changes();
    let mut told = status(&gateway);
    loop {
        let alive = tokio::select! {
            biased;
            () = end.cancelled() => return,
            // First, since many changes must not hide that we are alive.
            () = beat(&mut beats) => true,
            () = changes.notified() => {
                tokio::time::sleep(GATHER).await;
                false
            }
        };
        let now = status(&gateway);
        if now != told {
            tell(&[NotifyState::Status(&now)]);
            told = now;
        }
        if alive {
            tell(&[NotifyState::Watchdog]);
        }
    }
}

async fn beat(beats: &mut Option<Interval>) {
    match beats {
        Some(beats) => drop(beats.tick().await),
        None => std::future::pending().await,
    }
}
