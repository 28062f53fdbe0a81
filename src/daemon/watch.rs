//! The code of plugins that want to be watched: a change of it counts at once.
//!
//! The kernel tells of changes, so nothing is looked at while nothing changes.

use std::{path::Path, sync::Arc, time::Duration};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{config::Server, gateway::Gateway};

/// An editor writes a file in several steps, and may write several.
const QUIET: Duration = Duration::from_millis(200);

/// Watches as long as it lives.
pub(super) struct Watch {
    #[expect(dead_code, reason = "dropping one ends it")]
    watchers: Vec<RecommendedWatcher>,
}

impl Watch {
    /// Must be called on the runtime that will run it.
    pub(super) fn start<'s>(
        servers: impl Iterator<Item = &'s Server>,
        gateway: &Arc<Gateway>,
        tracker: &TaskTracker,
        drain: &CancellationToken,
    ) -> Self {
        let mut watchers = Vec::new();
        for server in servers {
            let Some(code) = server.code.as_ref().filter(|code| code.watch) else { continue };
            let changed = Arc::new(Notify::new());
            match watcher(code.paths.iter().map(|path| path.as_path()), &changed) {
                Ok(watcher) => watchers.push(watcher),
                Err(error) => {
                    tracing::warn!(server = server.name, "its code is not watched: {error}");
                    continue;
                }
            }
            let (gateway, name, drain) = (Arc::clone(gateway), server.name.clone(), drain.clone());
            tracker.spawn(async move {
                let follow = async {
                    loop {
                        changed.notified().await;
                        while tokio::time::timeout(QUIET, changed.notified()).await.is_ok() {}
                        tracing::info!(server = name, "its code has changed");
                        gateway.renew(&name);
                    }
                };
                drain.run_until_cancelled(follow).await;
            });
        }
        Watch { watchers }
    }
}

fn watcher<'p>(
    paths: impl Iterator<Item = &'p Path>,
    changed: &Arc<Notify>,
) -> notify::Result<RecommendedWatcher> {
    let changed = Arc::clone(changed);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // What went wrong may have been a change.
        if event.map_or(true, |event| is_change(&event)) {
            changed.notify_one();
        }
    })?;
    for path in paths {
        // A file that an editor puts a new one in place of is another file: its folder stays.
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
        let mode =
            if path.is_dir() { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
        watcher.watch(folder, mode)?;
    }
    Ok(watcher)
}

fn is_change(event: &Event) -> bool {
    let changes = !matches!(event.kind, EventKind::Access(_) | EventKind::Other);
    changes && event.paths.iter().any(|path| path.extension().is_some_and(|end| end == "py"))
}
