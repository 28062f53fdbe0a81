//! One HTTP connection: its deadlines, and how it ends.
//!
//! hyper's own timers are off. They cost a timer for each request; here one watchdog for each
//! connection looks again when its time is up.

use std::{
    convert::Infallible,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use super::{
    answer::{Content, Reply},
    origin::Hosts,
    route,
};
use crate::{
    frontend::{Shared, awake::Awake, millis},
    gateway::{Gateway, Transport},
    policy::{Credential, Principal},
};

/// What every request of one connection needs to know.
pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    /// Who is at the other end, or why that is not known.
    pub(super) caller: Caller,
    /// Who that is to the rules in force, with the number of those rules.
    principal: Mutex<(u64, Result<Arc<Principal>, String>)>,
    /// The names that a `Host` header may have. `None`: any, or none.
    pub(super) hosts: Option<Hosts>,
    pub(super) transport: Transport,
    requests: AtomicUsize,
    used: AtomicBool,
    /// Held while the head of a request has begun to come.
    head: Mutex<Option<Awake>>,
    /// Since when no request runs, by [`Shared::now`].
    idle_since: AtomicU64,
}

/// The other end of a connection.
pub(super) enum Caller {
    Known(Credential),
    /// Why nobody is served.
    Unknown(String),
}

impl Caller {
    fn identify(&self, gateway: &Gateway) -> Result<Arc<Principal>, String> {
        match self {
            Caller::Known(credential) => {
                gateway.identify(credential.clone(), None).map_err(|denied| denied.to_string())
            }
            Caller::Unknown(why) => Err(why.clone()),
        }
    }
}

/// While one lives, its connection has a request.
pub(super) struct Busy(Arc<Connection>, #[expect(dead_code, reason = "held")] Awake);

impl Busy {
    fn new(connection: &Arc<Connection>) -> Self {
        connection.used.store(true, Ordering::Relaxed);
        connection.requests.fetch_add(1, Ordering::Relaxed);
        let awake = connection.shared.awake();
        connection.heard(None);
        Self(Arc::clone(connection), awake)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.shared.now(), Ordering::Relaxed);
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connection {
    pub(super) fn new(
        shared: Arc<Shared>,
        caller: Caller,
        hosts: Option<Hosts>,
        transport: Transport,
    ) -> Arc<Self> {
        let idle_since = AtomicU64::new(shared.now());
        Arc::new(Self {
            principal: Mutex::new((shared.gateway.rules(), caller.identify(&shared.gateway))),
            shared,
            caller,
            hosts,
            transport,
            requests: AtomicUsize::new(0),
            used: AtomicBool::new(false),
            head: Mutex::default(),
            idle_since,
        })
    }

    /// Who is served, or why nobody is: by the rules that are in force now.
    pub(super) fn principal(&self) -> Result<Arc<Principal>, String> {
        let gateway = &self.shared.gateway;
        let mut known = self.principal.lock().unwrap_or_else(PoisonError::into_inner);
        let rules = gateway.rules();
        if known.0 != rules {
            *known = (rules, self.caller.identify(gateway));
        }
        known.1.clone()
    }

    /// Something of the next request has come, or all of its head.
    fn heard(&self, part: Option<Awake>) {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = part;
    }

    /// How long the client may go on as it does. Zero: no longer.
    fn patience(&self) -> Duration {
        let limits = &self.shared.limits;
        let most =
            if self.used.load(Ordering::Relaxed) { limits.keep_alive } else { limits.head_time };
        if self.requests.load(Ordering::Relaxed) > 0 {
            return most;
        }
        let quiet = self.shared.now().saturating_sub(self.idle_since.load(Ordering::Relaxed));
        Duration::from_millis(millis(most).saturating_sub(quiet))
    }
}

/// Serves the connection until it ends, is idle for too long, the gateway is, or `drain` or `kill`
/// comes.
pub(super) async fn drive<T>(connection: Arc<Connection>, stream: T, read: Bytes, awake: Awake)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shared = &connection.shared;
    let limits = &shared.limits;
    // It was accepted for its first request; one that never comes runs into the time for a head.
    connection.heard(Some(awake));
    let service = service_fn(|request: Request<Incoming>| {
        let connection = Arc::clone(&connection);
        async move {
            let busy = Busy::new(&connection);
            let answer = route::answer(&connection, request).await;
            Ok::<_, Infallible>(answer.map(|content: Content| Reply { content, _busy: busy }))
        }
    });
    let stream = Stream {
        inner: stream,
        read,
        stall: limits.write_stall,
        stalled: None,
        connection: Some(Arc::clone(&connection)),
    };
    let http = http1::Builder::new()
        .max_headers(limits.head_fields)
        .max_header_size(limits.head_bytes)
        .max_buf_size(limits.head_bytes.max(128 << 10))
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service);
    let mut http = pin!(http);
    let mut drain = pin!(shared.drain.cancelled());
    let mut draining = false;
    let mut watchdog = pin!(sleep(limits.head_time));
    loop {
        tokio::select! {
            biased;
            // Before anything more is read.
            () = shared.wakefulness.over() => return,
            outcome = http.as_mut() => {
                if let Err(error) = outcome {
                    tracing::debug!(%error, "an http connection ended badly");
                }
                return;
            }
            () = &mut drain, if !draining => {
                http.as_mut().graceful_shutdown();
                draining = true;
            }
            // `kill` cancels `drain` too, so one wait is enough until then.
            () = shared.kill.cancelled(), if draining => return,
            () = &mut watchdog => match connection.patience() {
                Duration::ZERO => return,
                left => watchdog.as_mut().reset(Instant::now() + left),
            },
        }
    }
}

/// A stream of which something has been read already, and whose writes may not stand still.
struct Stream<T> {
    inner: T,
    read: Bytes,
    stall: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
    /// Told of what comes between two requests.
    connection: Option<Arc<Connection>>,
}

impl<T> Stream<T> {
    fn watched<R>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let stall = self.stall;
        ready!(self.stalled.get_or_insert_with(|| Box::pin(sleep(stall))).as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Stream<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
            if let Some(connection) = &self.connection
                && buffer.filled().len() > before
                && connection.requests.load(Ordering::Relaxed) == 0
            {
                connection.heard(Some(connection.shared.awake()));
            }
            return Poll::Ready(Ok(()));
        }
        let len = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read[..len]);
        self.read.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Stream<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.watched(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.watched(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_that_stands_still_fails() {
        let (ours, mut theirs) = tokio::io::duplex(8);
        let stall = Duration::from_secs(30);
        let mut stream = Stream {
            inner: ours,
            read: Bytes::from_static(b"ab"),
            stall,
            stalled: None,
            connection: None,
        };
        let mut start = [0; 2];
        stream.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"ab");
        // As long as something is taken in time, it goes on.
        let slow = async {
            let mut some = [0; 8];
            for _ in 0..4 {
                sleep(Duration::from_secs(29)).await;
                theirs.read_exact(&mut some).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(stream.write_all(&[0; 40]), slow);
        written.unwrap();
        let error = stream.write_all(&[0; 9]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
