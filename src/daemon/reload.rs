//! Reads the config again: all of it or nothing.
//!
//! A file with errors leaves everything as it was, and every problem is told: to who asked, to the
//! log, and in one line to the service manager. One reload at a time; those that come meanwhile
//! wait for their turn.

use std::{pin::Pin, sync::Arc};

use serde_json::{Value, json};
use tokio::sync::{Mutex, Notify};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{notify, rules};
use crate::{
    config::{Loaded, Mode, Plan, Problem, Problems},
    frontend::{Reload, Shared},
    gateway::Gateway,
    policy::Credential,
};

/// Finds and reads the config as it was found at the start.
pub type Load = Box<dyn Fn() -> Result<Loaded, Problems> + Send + Sync>;

pub(super) struct Reloader {
    gateway: Arc<Gateway>,
    load: Arc<Load>,
    role: Option<String>,
    mode: Mode,
    tracker: TaskTracker,
    turn: Mutex<()>,
}

impl Reloader {
    pub(super) fn new(
        gateway: Arc<Gateway>,
        load: Load,
        role: Option<String>,
        mode: Mode,
        tracker: TaskTracker,
    ) -> Arc<Self> {
        let (load, turn) = (Arc::new(load), Mutex::default());
        Arc::new(Reloader { gateway, load, role, mode, tracker, turn })
    }

    async fn once(&self) -> Result<Value, Vec<String>> {
        let _turn = self.turn.lock().await;
        notify::reloading();
        let outcome = self.try_once().await;
        match &outcome {
            Ok((plan, warnings)) => {
                tracing::info!("reloaded: {plan}");
                for warning in warnings {
                    tracing::warn!("{warning}");
                }
                for what in &plan.restart {
                    tracing::warn!("{what}: needs a restart to take hold");
                }
                notify::ready(&self.gateway);
            }
            Err(problems) => {
                for problem in problems {
                    tracing::error!("not reloaded: {problem}");
                }
                notify::not_reloaded(problems.len());
            }
        }
        outcome.map(|(plan, warnings)| {
            let what = format!("reloaded: {plan}");
            json!({
                "ok": true, "what": what, "warnings": warnings, "restart": plan.restart,
                "added": plan.added, "changed": plan.changed, "removed": plan.removed,
                "unchanged": plan.unchanged,
            })
        })
    }

    async fn try_once(&self) -> Result<(Plan, Vec<String>), Vec<String>> {
        // Names of users and groups are looked up, which may take its time.
        let load = Arc::clone(&self.load);
        let loaded = self.tracker.spawn_blocking(move || load()).await;
        let loaded = loaded.map_err(|error| vec![format!("the config was not read: {error}")])?;
        let Loaded { mut config, warnings } = loaded
            .map_err(|problems| problems.iter().map(Problem::to_string).collect::<Vec<_>>())?;
        let hosts = self.gateway.plugin_hosts(&config);
        config.servers.splice(0..0, hosts);
        let denied = |denied: crate::policy::Denied| vec![denied.to_string()];
        let policy = rules(&config, self.role.as_deref(), self.mode).map_err(denied)?;
        let owner = policy.identify(&Credential::Own, None).map_err(denied)?;
        // Nothing can go wrong from here on, and nobody comes in between.
        let plan = self.gateway.plan(&mut config);
        self.gateway.apply(config, policy, &plan, &owner);
        Ok((plan, warnings.iter().map(Problem::to_string).collect()))
    }

    /// Reloads whenever it is asked to by a signal.
    pub(super) async fn hear(
        self: Arc<Self>,
        asked: Arc<Notify>,
        shared: Arc<Shared>,
        end: CancellationToken,
    ) {
        loop {
            tokio::select! {
                () = end.cancelled() => return,
                () = asked.notified() => {}
            }
            let _awake = shared.stay_awake();
            let _ = self.once().await;
        }
    }
}

/// For who asks over the socket.
pub(super) struct Asked(pub(super) Arc<Reloader>);

impl Reload for Asked {
    fn reload(&self) -> Pin<Box<dyn Future<Output = Result<Value, Vec<String>>> + Send + '_>> {
        Box::pin(self.0.once())
    }
}
