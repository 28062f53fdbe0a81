//! The accept loop that the Unix and the TCP door have in common.
//!
//! At the limit of connections it stops accepting, with one in hand: the kernel's backlog holds
//! what comes. It never spins on a failing accept.

use std::{
    future::poll_fn,
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use super::{Shared, awake::Awake};

/// Out of descriptors or memory: others must close something first.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves every connection that `poll` yields, each in a task of its own. Returns when `drain`
/// has come and all of them are done, or at once on `kill`.
pub(super) async fn accept<T, F>(
    shared: &Arc<Shared>,
    gates: &[&Arc<Semaphore>],
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>,
    mut serve: impl FnMut(T, Awake) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let connections = TaskTracker::new();
    loop {
        // The permits come after the connection: a door that nobody uses holds no place. A
        // dropped `next` loses no connection that was accepted, except to `drain` or `kill`.
        let next = async {
            let accepted = poll_fn(&mut poll).await;
            let awake = shared.awake();
            let permits = if accepted.is_ok() { enter(gates).await } else { Vec::new() };
            (awake, permits, accepted)
        };
        let (awake, permits, accepted) = tokio::select! {
            biased;
            () = shared.kill.cancelled() => break,
            () = shared.drain.cancelled() => break,
            // Nothing is in hand: that would have kept us from it.
            () = shared.wakefulness.over() => break,
            next = next => next,
        };
        match accepted {
            Ok(stream) => {
                let served = serve(stream, awake);
                shared.tracker.spawn(connections.track_future(async move {
                    served.await;
                    drop(permits);
                }));
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept, trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    // Connections wait for `drain` alone; `kill` reaches them through it.
    if !shared.wakefulness.is_over() {
        shared.drain.cancel();
    }
    connections.close();
    tokio::select! {
        () = shared.kill.cancelled() => {}
        () = connections.wait() => {}
    }
}

async fn enter(gates: &[&Arc<Semaphore>]) -> Vec<OwnedSemaphorePermit> {
    let mut permits = Vec::with_capacity(gates.len());
    for gate in gates {
        // The gates are never closed.
        permits.extend(Arc::clone(gate).acquire_owned().await);
    }
    permits
}
