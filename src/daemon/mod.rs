//! The front process: builds every room, wires them, and takes them down in reverse.
#![forbid(unsafe_code)]

pub mod logging;
mod signals;
mod watch;

use std::{
    env, io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    backend::Supervisor,
    config::{Config, Folders, Mode, Profile, Server},
    frontend::{self, Limits, Shared, http, stdio, unix},
    gateway::{Gateway, Keys},
    policy::{Credential, Policy},
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
    /// Of plugins' code.
    _watch: watch::Watch,
}

/// Where `serve` listens.
#[derive(Clone, Debug)]
pub struct Listen {
    pub tcp: Option<(IpAddr, u16)>,
    pub socket: Option<PathBuf>,
    /// Serve anyone who reaches the TCP port, as ourselves.
    pub anyone: bool,
}

impl Daemon {
    /// Must be called on the runtime that will run it.
    pub fn new(mut config: Config, role: Option<&str>) -> anyhow::Result<Self> {
        fds::keep_from_children();
        let spawner = Spawner::new(&config, Mode::Foreground);
        // First, so that no server has the name of a plugin's tool.
        config.servers.splice(0..0, spawner.plugin_hosts(&config));
        spawner.begin();
        let policy = Policy::new(&config, peer::own_uid(), role)?;
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
            Arc::new(config),
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
        gateway.start_eager(&owner);
        let _watch = watch::Watch::start(watched.iter(), &gateway, &tracker, &drain);
        Ok(Daemon { gateway, shared, tracker, drain, kill, _watch })
    }

    /// Completes at the first signal; the second ends [`Daemon::finish`] at once.
    pub fn hear_signals(&self) -> anyhow::Result<CancellationToken> {
        signals::listen(&self.tracker, self.drain.clone(), self.kill.clone())?;
        Ok(self.drain.clone())
    }

    /// Serves sockets until a signal.
    pub async fn serve(self, listen: Listen) -> anyhow::Result<()> {
        self.hear_signals()?;
        let doors = TaskTracker::new();
        let mut socket_file = None;
        if let Some((address, port)) = listen.tcp {
            let listener = TcpListener::bind(SocketAddr::new(address, port))
                .await
                .with_context(|| format!("cannot listen on {address} port {port}"))?;
            let local = listener.local_addr()?;
            let access = if listen.anyone { http::Access::Anyone } else { http::Access::OwnUid };
            if listen.anyone {
                tracing::warn!(
                    "whoever reaches {local} acts as uid {}: no authentication",
                    peer::own_uid()
                );
            }
            tracing::info!("listening on http://{local}/mcp");
            let options = http::Options { access, hosts: Vec::new() };
            doors.spawn(http::serve(Arc::clone(&self.shared), listener, options));
        }
        if let Some(path) = &listen.socket {
            let listener = unix::bind(path).await.context("cannot listen on the socket")?;
            tracing::info!("listening on {}", path.display());
            socket_file = Some(path.clone());
            doors.spawn(unix::serve(Arc::clone(&self.shared), listener));
        }
        doors.close();
        self.drain.cancelled().await;
        self.finish().await;
        tokio::select! {
            () = doors.wait() => {}
            () = self.kill.cancelled() => {}
            () = tokio::time::sleep(CLOSING) => {}
        }
        if let Some(path) = socket_file {
            let _ = std::fs::remove_file(path);
        }
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

pub use frontend::stdio::Options as StdioOptions;
