//! The front process: builds every room, wires them, and takes them down in reverse.
#![forbid(unsafe_code)]

mod doors;
mod idle;
pub mod logging;
mod notify;
mod reload;
mod signals;
mod watch;

use std::{env, io, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    backend::Supervisor,
    config::{Config, Folders, Mode, Profile, Server},
    frontend::{self, Limits, Shared, stdio},
    gateway::{Gateway, Keys},
    policy::{Credential, Denied, Policy},
    spawner::Spawner,
    sys::{fds, peer},
};

/// How long requests in flight may go on after the first signal.
const GRACE: Duration = Duration::from_secs(10);
/// How long connections may take to close after that.
const CLOSING: Duration = Duration::from_secs(5);

/// All rooms, wired. Nothing runs yet but what `lazy: false` asks for.
pub struct Daemon {
    pub gateway: Arc<Gateway>,
    shared: Arc<Shared>,
    tracker: TaskTracker,
    drain: CancellationToken,
    kill: CancellationToken,
    role: Option<String>,
    mode: Mode,
    /// Of plugins' code.
    _watch: watch::Watch,
}

impl Daemon {
    /// Must be called on the runtime that will run it.
    pub fn new(mut config: Config, role: Option<&str>, mode: Mode) -> anyhow::Result<Self> {
        fds::keep_from_children();
        let spawner = Spawner::new(&config, mode);
        // First, so that no server has the name of a plugin's tool.
        config.servers.splice(0..0, spawner.plugin_hosts(&config));
        spawner.begin();
        let policy = rules(&config, role, mode)?;
        let owner = policy.identify(&Credential::Own, None)?;
        let tracker = TaskTracker::new();
        for server in config.servers.iter().filter(|server| server.enabled) {
            if server.sandbox.profile == Profile::Off {
                tracing::warn!(server = server.name, "runs without a sandbox, as its config says");
            }
        }
        let watched: Vec<Server> =
            config.servers.iter().filter(|server| server.code.is_some()).cloned().collect();
        let supervisor = Supervisor::new(&config.servers, spawner, tracker.clone());
        let gateway = Gateway::new(
            config,
            policy,
            supervisor,
            Folders::find(&|name| env::var(name).ok()).cache,
            state_keys()?,
            tracker.clone(),
        );
        let (drain, kill) = (CancellationToken::new(), CancellationToken::new());
        let shared = Shared::new(
            Arc::clone(&gateway),
            Limits::default(),
            TaskTracker::new(),
            drain.clone(),
            kill.clone(),
        );
        gateway.start_eager(&owner, &|_| true);
        let _watch = watch::Watch::start(watched.iter(), &gateway, &tracker, &drain);
        let role = role.map(str::to_owned);
        Ok(Daemon { gateway, shared, tracker, drain, kill, role, mode, _watch })
    }

    /// Completes at the first signal; the second ends [`Daemon::finish`] at once.
    pub fn hear_signals(&self) -> anyhow::Result<CancellationToken> {
        signals::listen(&self.tracker, self.drain.clone(), self.kill.clone(), None)?;
        Ok(self.drain.clone())
    }

    /// Serves sockets until a signal, or until there has been nothing to do for long enough.
    /// `load` is how the config was read.
    pub async fn serve(self, listen: Listen, load: Load) -> anyhow::Result<()> {
        let asked = Arc::new(Notify::new());
        let hangup = Some(Arc::clone(&asked));
        signals::listen(&self.tracker, self.drain.clone(), self.kill.clone(), hangup)?;
        let (gateway, tracker) = (Arc::clone(&self.gateway), self.tracker.clone());
        let reloader = Reloader::new(gateway, load, self.role.clone(), self.mode, tracker);
        self.shared.set_reloader(Box::new(Asked(Arc::clone(&reloader))));
        let hears = reloader.hear(asked, Arc::clone(&self.shared), self.drain.clone());
        self.tracker.spawn(hears);
        let activated = !listen.handed.is_empty();
        let doors = Doors::open(&self.shared, listen).await?;
        let told = notify::keep_told(Arc::clone(&self.gateway), self.drain.clone());
        self.tracker.spawn(told);
        notify::ready(&self.gateway);
        tokio::select! {
            () = self.drain.cancelled() => notify::stopping("finishing what runs"),
            () = idle::wait(Arc::clone(&self.gateway), Arc::clone(&self.shared), activated) => {
                tracing::info!("nothing to do: exiting");
                notify::stopping("nothing to do");
            }
        }
        self.finish().await;
        tokio::select! {
            () = doors.closed() => {}
            () = self.kill.cancelled() => {}
            () = tokio::time::sleep(CLOSING) => {}
        }
        doors.remove();
        Ok(())
    }

    /// Serves our own stdin and stdout until its end or a signal.
    pub async fn stdio(self, options: stdio::Options) -> anyhow::Result<()> {
        self.hear_signals()?;
        let (stdin, stdout) = (tokio::io::stdin(), tokio::io::stdout());
        let session = stdio::serve(Arc::clone(&self.shared), stdin, stdout, options);
        tokio::pin!(session);
        tokio::select! {
            result = &mut session => {
                result?;
                self.finish().await;
            }
            () = self.drain.cancelled() => {
                // Answers of the calls that finish meanwhile still have to leave.
                let (result, ()) = tokio::join!(session, self.finish());
                result?;
            }
        }
        Ok(())
    }

    /// Ends what runs: calls finish or are answered with an error, then every child stops. A
    /// second signal ends it at once; children die with this process's handles on them.
    pub async fn finish(&self) {
        tokio::select! {
            () = self.gateway.drain(GRACE) => {}
            () = self.kill.cancelled() => {}
        }
        self.tracker.close();
        self.drain.cancel();
    }
}

/// The rules of this config: in a system service nobody is served whom they do not name.
fn rules(config: &Config, role: Option<&str>, mode: Mode) -> Result<Policy, Denied> {
    let policy = Policy::new(config, peer::own_uid(), role)?;
    Ok(match mode {
        Mode::Foreground => policy,
        Mode::System => policy.by_rules_alone(),
    })
}

/// What seals the states that clients carry for us: a credential of the init system's, for several
/// gateways that serve the same clients, or a key of this process alone.
fn state_keys() -> anyhow::Result<Keys> {
    let folder = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let file = folder.map(|folder| folder.join("request-state.key"));
    let Some(file) = file else { return Ok(Keys::random()) };
    match Keys::read(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Keys::random()),
        keys => keys.with_context(|| format!("the credential {} is no key", file.display())),
    }
}

pub use doors::Listen;
pub use frontend::stdio::Options as StdioOptions;
pub use reload::Load;

use doors::Doors;
use reload::{Asked, Reloader};
