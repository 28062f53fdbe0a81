//! HTTP: Streamable HTTP on `/mcp` and `/mcp/<server>`, HTTP+SSE on `/sse` and `/messages/`, and
//! `/health`; over TCP, and over the Unix socket for [`unix`](super::unix).
//!
//! Speaks the revisions that open with `initialize` and, by `modern.rs`, the stateless one: each
//! message says by itself which it is of.

mod answer;
mod connection;
mod control;
mod events;
mod get;
mod head;
mod modern;
mod origin;
mod post;
mod pulse;
mod replay;
mod route;
mod sessions;
mod sse;

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::{Shared, accept, awake::Awake};
use crate::{gateway::Transport, policy::Credential, sys::peer};
use connection::{Caller, Connection};
use origin::Hosts;

/// What all HTTP connections share.
#[derive(Default)]
pub(super) struct State {
    pub(super) sessions: sessions::Sessions,
    sse: sse::Clients,
    pulse: Arc<pulse::Pulse>,
    priming: pulse::Priming,
}

/// Who may come in over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Processes on this machine that run as we do.
    OwnUid,
    /// Whoever reaches the port acts as we do. Only for `--insecure-no-auth`.
    Anyone,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub access: Access,
    /// More names that clients may call us by, as `name` or `name:port`, beside the loopback
    /// ones and the address that the connection came in on.
    pub hosts: Vec<String>,
}

/// Serves HTTP on every connection of `listener`.
pub async fn serve(shared: Arc<Shared>, listener: TcpListener, options: Options) {
    shared.start_background();
    let hosts: Arc<[String]> = options.hosts.into();
    accept::accept(
        &shared,
        &[&shared.tcp_connections, &shared.connections],
        |context| listener.poll_accept(context),
        |(stream, peer), awake| {
            let hosts = Arc::clone(&hosts);
            over_tcp(Arc::clone(&shared), stream, peer, options.access, hosts, awake)
        },
    )
    .await;
}

async fn over_tcp(
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    access: Access,
    names: Arc<[String]>,
    awake: Awake,
) {
    let local = match (stream.local_addr(), stream.set_nodelay(true)) {
        (Ok(local), Ok(())) => local,
        (Err(error), _) | (_, Err(error)) => {
            tracing::debug!(%error, "a connection ended before it began");
            return;
        }
    };
    let credential = match access {
        Access::Anyone => Ok(Credential::Tcp { uid: peer::own_uid() }),
        Access::OwnUid => own(local, peer),
    };
    let caller = credential.map_or_else(Caller::Unknown, Caller::Known);
    let hosts = Some(Hosts { address: local, names });
    let connection = Connection::new(shared, caller, hosts, Transport::Http);
    if let Err(why) = connection.principal() {
        tracing::warn!(%peer, why, "a tcp client is refused");
    }
    connection::drive(connection, stream, Bytes::new(), awake).await;
}

/// TCP names nobody, but a socket on this machine has an owner.
fn own(local: SocketAddr, peer: SocketAddr) -> Result<Credential, String> {
    let own = peer::own_uid();
    let why = if !peer.ip().to_canonical().is_loopback() {
        "over tcp only this machine is served without a token".to_owned()
    } else {
        match peer::tcp_owner(local, peer) {
            Ok(Some(uid)) if uid == own => return Ok(Credential::Tcp { uid }),
            Ok(Some(uid)) => {
                return Err(format!(
                    "this gateway serves uid {own} only, and this is uid {uid}: start your own with `mcp-gateway serve --port 0`"
                ));
            }
            Ok(None) => "over tcp nobody can tell whose connection this is".to_owned(),
            Err(error) => format!("over tcp nobody can tell whose connection this is ({error})"),
        }
    };
    Err(format!("{why}; connect over the gateway's unix socket instead"))
}

/// Serves HTTP on one connection to the Unix socket, of which `read` has been read already.
pub(super) async fn over_unix(
    shared: Arc<Shared>,
    stream: UnixStream,
    read: Bytes,
    credential: Credential,
    awake: Awake,
) {
    let connection = Connection::new(shared, Caller::Known(credential), None, Transport::Unix);
    connection::drive(connection, stream, read, awake).await;
}

/// Beats for the streams and sweeps the sessions, until `drain`.
pub(super) async fn background(shared: Arc<Shared>) {
    let state = &shared.http;
    loop {
        tokio::select! {
            biased;
            () = shared.drain.cancelled() => break,
            () = shared.wakefulness.over() => break,
            // One timer for all. It also keeps a near deadline in the runtime's timer wheel, so
            // that arming a farther one never has to wake the driver.
            () = tokio::time::sleep(shared.limits.heartbeat) => {}
        }
        state.sessions.sweep(&shared);
        state.pulse.beat();
    }
    // Streams look whether we drain when they are woken.
    state.pulse.beat();
}

/// Ticks for the requests that wait to be primed, until `drain`.
pub(super) async fn priming(shared: Arc<Shared>) {
    tokio::select! {
        () = shared.drain.cancelled() => {}
        () = shared.wakefulness.over() => {}
        () = shared.http.priming.run(shared.limits.prime_after) => {}
    }
}
