//! The Unix socket: the kernel says who calls, the first byte says what it speaks.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

use super::{
    Shared, accept,
    awake::Awake,
    framed::{self, Lines},
    http,
    preface::{self, Opening, Preface},
};
use crate::{
    gateway::{Hello, Layer, Transport},
    policy::Credential,
    protocol::{ErrorCode, error_response},
    sys::peer,
};

/// Serves HTTP and framed JSON-RPC on every connection of `listener`.
pub async fn serve(shared: Arc<Shared>, listener: UnixListener) {
    shared.start_background();
    accept::accept(
        &shared,
        &[&shared.connections],
        |context| listener.poll_accept(context),
        |(stream, _), awake| connection(Arc::clone(&shared), stream, awake),
    )
    .await;
}

/// Binds a socket at `path` that only we can connect to. A directory that is missing is made,
/// for us alone. The socket of a daemon that is gone is replaced; a live one, or a file that is
/// not ours, never.
pub async fn bind(path: &Path) -> io::Result<UnixListener> {
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    if !dir.is_dir() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(named)?;
    }
    // Two daemons that start at once must not both find the same stale file.
    let lock = fs::File::open(dir).map_err(named)?;
    lock_within(&lock, Duration::from_secs(2)).await.map_err(named)?;
    make_room(path).map_err(named)?;
    UnixListener::from_std(peer::listen_unix(path).map_err(named)?).map_err(named)
}

async fn lock_within(file: &fs::File, patience: Duration) -> io::Result<()> {
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(fs::TryLockError::WouldBlock) if start.elapsed() < patience => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(fs::TryLockError::WouldBlock) => {
                return Err(io::Error::other("another process holds the directory's lock"));
            }
            Err(fs::TryLockError::Error(error)) => return Err(error),
        }
    }
}

fn make_room(path: &Path) -> io::Result<()> {
    let there = match fs::symlink_metadata(path) {
        Ok(there) => there,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let taken = |why| Err(io::Error::new(io::ErrorKind::AddrInUse, why));
    if !peer::is_own_socket(&there) {
        return taken("there is a file that is no socket of ours; move it or choose another path");
    }
    if peer::unix_listens(path)? {
        return taken("another process listens here; stop it or choose another path");
    }
    tracing::info!(path = %path.display(), "replacing the socket of a daemon that is gone");
    fs::remove_file(path)
}

async fn connection(shared: Arc<Shared>, mut stream: UnixStream, awake: Awake) {
    let credential = match peer::unix(&stream) {
        Ok(peer) => {
            Credential::Peer { uid: peer.uid, gid: peer.gid, pid: peer.pid, groups: peer.groups }
        }
        Err(error) => {
            tracing::warn!(%error, "a client that the kernel cannot name");
            return;
        }
    };
    // Nobody has been heard yet, so neither `drain` nor `kill` owes this client anything.
    let start = tokio::select! {
        () = shared.drain.cancelled() => return,
        start = tokio::time::timeout(shared.limits.head_time, start(&mut stream)) => start,
    };
    match start {
        Ok(Ok(Start::Http(read))) => {
            http::over_unix(shared, stream, read.freeze(), credential, awake).await;
        }
        Ok(Ok(Start::Framed(preface, read))) => {
            if let Err(why) = session(&shared, &mut stream, credential, preface, read, awake).await
            {
                refuse(&shared, stream, &why).await;
            }
        }
        Ok(Ok(Start::Bad(why))) => refuse(&shared, stream, &preface::expected(&why)).await,
        Ok(Err(error)) => tracing::debug!(%error, "a client left before it spoke"),
        Err(_) => {
            let why = preface::expected("nothing whole came in time");
            refuse(&shared, stream, &why).await;
        }
    }
}

enum Start {
    Http(BytesMut),
    Framed(Preface, BytesMut),
    Bad(String),
}

/// Reads as much as it takes to know what the client speaks.
async fn start(stream: &mut UnixStream) -> io::Result<Start> {
    let mut read = BytesMut::with_capacity(preface::MOST);
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match preface::opening(read[0]) {
            Opening::Http => return Ok(Start::Http(read)),
            Opening::Neither => return Ok(Start::Bad("this is neither".to_owned())),
            Opening::Framed => {}
        }
        if let Some(end) = memchr::memchr(b'\n', &read) {
            let line = read.split_to(end + 1);
            return Ok(match preface::parse(&line[..end]) {
                Ok(preface) => Start::Framed(preface, read),
                Err(why) => Start::Bad(why),
            });
        }
        if read.len() >= preface::MOST {
            return Ok(Start::Bad(format!("no newline in {} bytes", preface::MOST)));
        }
    }
}

/// `Err`: no session, and why.
async fn session(
    shared: &Arc<Shared>,
    stream: &mut UnixStream,
    credential: Credential,
    preface: Preface,
    read: BytesMut,
    awake: Awake,
) -> Result<(), String> {
    let gateway = &shared.gateway;
    let principal = gateway
        .identify(credential, preface.role.as_deref())
        .map_err(|denied| denied.to_string())?;
    let layer = preface.server.map_or(Layer::Aggregate, Layer::Server);
    let hello = Hello { principal, layer, cwd: preface.cwd, transport: Transport::Unix };
    let session = gateway.open(hello).map_err(|error| error.to_string())?;
    let (reader, writer) = stream.split();
    let lines = Lines::new(shared.limits.message, read);
    let options = framed::Options { farewell: preface.farewell, awake: Some(awake) };
    framed::run(shared, &session, reader, writer, lines, options).await;
    Ok(())
}

/// One line of JSON-RPC that says why, then the end.
async fn refuse(shared: &Shared, mut stream: UnixStream, why: &str) {
    tracing::debug!(why, "a client of the unix socket is refused");
    let mut line = error_response(None, ErrorCode::InvalidRequest, why).to_vec();
    line.push(b'\n');
    // It is not our concern whether the client hears it.
    let _ = tokio::time::timeout(shared.limits.linger, async {
        stream.write_all(&line).await?;
        stream.shutdown().await
    })
    .await;
}
