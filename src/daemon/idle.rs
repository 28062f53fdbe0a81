//! Nobody calls, nothing runs: the daemon exits, and the init system listens on.
//!
//! Idle is: no request in flight, no instance, no parked call, no unsent event. Clients that are
//! connected and quiet do not count, but for those that listen to an open event stream.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{frontend::Shared, gateway::Gateway};

/// Without a word in the config, where the init system starts us again.
const ACTIVATED: Duration = Duration::from_secs(60);
/// launchd holds back a job that lived for less than 10 s.
const LEAST: Duration =
    if cfg!(target_os = "macos") { Duration::from_secs(15) } else { Duration::ZERO };
/// How often it is looked, in the time that has to pass.
const LOOKS: u32 = 3;

/// Completes when there was nothing to do for as long as the config says, and nobody is left in
/// the middle of anything. From then on no client is read.
pub(super) async fn wait(gateway: Arc<Gateway>, shared: Arc<Shared>, activated: bool) {
    let mut seen = shared.events();
    let mut since = Instant::now();
    loop {
        let patience = match gateway.exit_idle() {
            Some(configured) => configured,
            None => activated.then_some(ACTIVATED),
        };
        let Some(patience) = patience.map(|patience| patience.max(LEAST)) else {
            return std::future::pending().await;
        };
        tokio::time::sleep((patience / LOOKS).max(Duration::from_millis(1))).await;
        let now = shared.events();
        if shared.is_wanted() || !gateway.is_idle() || now != seen {
            (seen, since) = (now, Instant::now());
            continue;
        }
        if since.elapsed() < patience {
            continue;
        }
        // What has come and was not looked at yet: twice through the queue, so that who is woken
        // by a connection or by bytes has had its turn.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        if shared.is_wanted() || !gateway.is_idle() || shared.events() != seen {
            continue;
        }
        // No await from here to `quit`: who comes now is not accepted and not read.
        shared.quit();
        return;
    }
}
