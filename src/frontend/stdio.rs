//! One session over our own stdin and stdout, or any other pair of byte streams.

use std::{path::PathBuf, sync::Arc};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Shared,
    framed::{self, Lines},
};
use crate::{
    gateway::{Hello, Layer, OpenError, Transport},
    policy::{Credential, Denied},
};

/// What the client of our stdin gets.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// One backend, as it is; otherwise all of them.
    pub server: Option<String>,
    /// Act in this role only.
    pub role: Option<String>,
    /// The directory that the client works in.
    pub cwd: Option<PathBuf>,
}

/// Why no session was opened.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("{0}")]
    Denied(Denied),
    #[error("{0}")]
    Open(OpenError),
}

/// Serves one session until the input ends, `drain` or `kill`.
pub async fn serve<R, W>(
    shared: Arc<Shared>,
    reader: R,
    writer: W,
    options: Options,
) -> Result<(), Refused>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let principal = shared
        .gateway
        .identify(Credential::Own, options.role.as_deref())
        .map_err(Refused::Denied)?;
    let layer = options.server.map_or(Layer::Aggregate, Layer::Server);
    let hello = Hello { principal, layer, cwd: options.cwd, transport: Transport::Stdio };
    let session = shared.gateway.open(hello).map_err(Refused::Open)?;
    let lines = Lines::new(shared.limits.message, BytesMut::new());
    framed::run(&shared, &session, reader, writer, lines, framed::Options::default()).await;
    Ok(())
}
