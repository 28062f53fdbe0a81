//! The sockets of `serve`: those that were handed over, else those that it binds itself.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use anyhow::Context;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::task::TaskTracker;

use crate::{
    frontend::{Shared, activation::Handed, http, unix},
    sys::peer,
};

/// Where `serve` listens.
#[derive(Debug, Default)]
pub struct Listen {
    /// What the init system has bound. If it is anything, nothing else is bound.
    pub handed: Handed,
    pub tcp: Option<(IpAddr, u16)>,
    pub socket: Option<PathBuf>,
    /// Serve anyone who reaches the TCP port, as ourselves.
    pub anyone: bool,
}

/// Doors that are open.
pub(super) struct Doors {
    tasks: TaskTracker,
    /// The socket that we have made.
    file: Option<PathBuf>,
}

impl Doors {
    pub(super) async fn open(shared: &Arc<Shared>, listen: Listen) -> anyhow::Result<Self> {
        let mut doors = Doors { tasks: TaskTracker::new(), file: None };
        if listen.handed.is_empty() {
            doors.bind(shared, listen).await?;
        } else {
            doors.take(shared, listen.handed)?;
        }
        doors.tasks.close();
        Ok(doors)
    }

    fn take(&self, shared: &Arc<Shared>, handed: Handed) -> anyhow::Result<()> {
        for listener in handed.unix {
            let path = listener.local_addr().ok().and_then(|at| Some(at.as_pathname()?.to_owned()));
            let path =
                path.map_or_else(|| "a socket".to_owned(), |path| path.display().to_string());
            tracing::info!("listening on {path}, handed over by the init system");
            let listener = UnixListener::from_std(listener).context("a socket handed over")?;
            self.tasks.spawn(unix::serve(Arc::clone(shared), listener));
        }
        for listener in handed.tcp {
            let listener = TcpListener::from_std(listener).context("a socket handed over")?;
            let local = listener.local_addr()?;
            tracing::info!("listening on http://{local}/mcp, handed over by the init system");
            self.http(shared, listener, http::Access::OwnUid);
        }
        Ok(())
    }

    async fn bind(&mut self, shared: &Arc<Shared>, listen: Listen) -> anyhow::Result<()> {
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
            self.http(shared, listener, access);
        }
        if let Some(path) = listen.socket {
            let listener = unix::bind(&path).await.context("cannot listen on the socket")?;
            tracing::info!("listening on {}", path.display());
            self.tasks.spawn(unix::serve(Arc::clone(shared), listener));
            self.file = Some(path);
        }
        Ok(())
    }

    fn http(&self, shared: &Arc<Shared>, listener: TcpListener, access: http::Access) {
        let options = http::Options { access, hosts: Vec::new() };
        self.tasks.spawn(http::serve(Arc::clone(shared), listener, options));
    }

    /// When every connection has ended.
    pub(super) async fn closed(&self) {
        self.tasks.wait().await;
    }

    /// What we have made in the file system goes with us; what was handed over stays.
    pub(super) fn remove(&self) {
        if let Some(path) = &self.file {
            let _ = std::fs::remove_file(path);
        }
    }
}
