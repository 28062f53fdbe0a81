//! The task that owns one child and drives its state machine.
//!
//! There is a task only while there is a child. Calls do not pass through it: they lease the
//! instance under the machine's lock and use the [`Link`] directly.

use std::{
    future::Future,
    os::fd::AsFd,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, OwnedSemaphorePermit, watch};
use tokio_util::task::TaskTracker;

use super::{
    Host, InstanceKey, Lease, Link, Opening,
    handshake::{self, Outcome, Unread},
    state::{Action, Event, Machine, Phase, Times},
    stderr::{self, Tail},
    wire::{self, CLOSED},
};
use crate::{config::Server, launcher::Layer, protocol::Era, spawner::Spawner, sys::spawn::Child};

/// How long a child that has ended may keep its pipes before its callers are told.
const LAST_WORDS: Duration = Duration::from_millis(40);

/// How long a child that is no use may take to end by itself, and then after a SIGTERM.
const GIVEN_UP: Duration = Duration::from_secs(1);

/// How long a start may keep others from starting.
const TURN: Duration = Duration::from_secs(3);

/// One backend for one holder, whether it runs or not.
pub struct Instance {
    key: InstanceKey,
    server: Arc<Server>,
    machine: Mutex<Guarded>,
    phase: watch::Sender<Phase>,
    poke: Notify,
    link: Mutex<Option<Arc<Link>>>,
    tail: Tail,
    pid: AtomicI32,
    starts: AtomicU64,
    /// Told of every change of phase.
    pulse: Arc<Notify>,
    layers: Mutex<Vec<Layer>>,
}

struct Guarded {
    machine: Machine,
    /// The task sleeps until a deadline and needs no waking when the idle clock starts anew.
    armed: bool,
}

impl Instance {
    pub(super) fn new(key: InstanceKey, server: Arc<Server>, pulse: Arc<Notify>) -> Arc<Self> {
        let times = Times {
            start: server.timeouts.start,
            idle: server.timeouts.idle,
            stop: server.timeouts.stop,
        };
        Arc::new(Instance {
            key,
            tail: Tail::new(&server.env),
            server,
            machine: Mutex::new(Guarded { machine: Machine::new(times), armed: false }),
            phase: watch::Sender::new(Phase::Stopped),
            poke: Notify::new(),
            link: Mutex::default(),
            pid: AtomicI32::new(0),
            starts: AtomicU64::new(0),
            pulse,
            layers: Mutex::default(),
        })
    }

    pub fn key(&self) -> &InstanceKey {
        &self.key
    }

    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    pub fn server_name(&self) -> &str {
        &self.server.name
    }

    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// The child's pid while one runs.
    pub fn pid(&self) -> Option<i32> {
        Some(self.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }

    /// What was put around the child of now or of last time, as the launcher told it.
    pub fn layers(&self) -> Vec<Layer> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn starts(&self) -> u64 {
        self.starts.load(Ordering::Relaxed)
    }

    /// The conversation, while there is one.
    pub fn link(&self) -> Option<Arc<Link>> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A lease of its own, where the instance is ready: for what outlives a call.
    pub fn hold(self: &Arc<Self>) -> Option<Lease> {
        if self.on(Event::Hold) != Action::Grant {
            return None;
        }
        match self.link() {
            Some(link) => Some(Lease::new(Arc::clone(self), link)),
            None => {
                self.on(Event::Release);
                None
            }
        }
    }

    /// Stops a child that is no use any more; the reason is shown, and the next call starts anew.
    pub fn give_up(&self, why: &str) {
        self.on(Event::Failed { reason: why.to_owned() });
    }

    /// Failures in a row, and the reason of the last.
    pub fn trouble(&self) -> (u32, Option<String>) {
        let guarded = self.guarded();
        (guarded.machine.failures(), guarded.machine.trouble().map(str::to_owned))
    }

    /// Leases that are held now.
    pub fn leases(&self) -> usize {
        self.guarded().machine.leases()
    }

    pub(super) fn changes(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    fn guarded(&self) -> MutexGuard<'_, Guarded> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the machine, and does at once what does not need the child's handle.
    pub(super) fn on(&self, event: Event) -> Action {
        let (action, phase, wake) = {
            let mut guarded = self.guarded();
            let action = guarded.machine.on(Instant::now(), event);
            let idle = guarded.machine.phase() == Phase::Ready && guarded.machine.leases() == 0;
            (action, guarded.machine.phase(), idle && !guarded.armed)
        };
        let changed = self.phase.send_if_modified(|known| std::mem::replace(known, phase) != phase);
        if action == Action::CloseStdin
            && let Some(link) = self.link()
        {
            link.close_input();
        }
        if changed || wake {
            self.poke.notify_one();
        }
        if changed {
            self.pulse.notify_one();
        }
        action
    }

    /// When the task has something to do by itself.
    fn arm(&self) -> Option<Instant> {
        let mut guarded = self.guarded();
        let deadline = guarded.machine.deadline();
        guarded.armed = deadline.is_some();
        deadline
    }

    /// One life: from the start of a child to its end.
    pub(super) async fn live(
        self: Arc<Self>,
        spawner: &Spawner,
        host: Arc<dyn Host>,
        tracker: &TaskTracker,
        turn: impl Future<Output = Option<OwnedSemaphorePermit>>,
    ) {
        let mut changes = self.changes();
        // Long, and no work of ours: it takes nobody's turn, and no time of the start.
        let prepared = tokio::select! {
            prepared = spawner.prepare(&self.server) => prepared,
            _ = changes.wait_for(|phase| *phase != Phase::Starting) => Ok(()),
        };
        if let Err(error) = prepared {
            let reason = error.to_string();
            tracing::warn!(server = self.server_name(), "not started: {reason}");
            self.on(Event::Exited { reason, jitter: jitter() });
            return;
        }
        let mut turn = tokio::select! {
            turn = turn => turn,
            _ = changes.wait_for(|phase| *phase != Phase::Starting) => None,
        };
        if self.phase() != Phase::Starting {
            // Told to stop before its turn came: no child was ever there.
            let reason = "stopped before it was started".to_owned();
            self.on(Event::Exited { reason, jitter: 0.0 });
            return;
        }
        let mut opening = host.opening(&self);
        while !self.one_child(spawner, &host, tracker, &mut turn, &opening).await {
            opening.known = Some(Era::Legacy);
            if self.phase() != Phase::Starting {
                let reason = "stopped while it was started".to_owned();
                self.on(Event::Exited { reason, jitter: 0.0 });
                return;
            }
        }
    }

    /// The life of one child. False: it was good for nothing but to learn that the next one has
    /// to be opened in the older era.
    async fn one_child(
        self: &Arc<Self>,
        spawner: &Spawner,
        host: &Arc<dyn Host>,
        tracker: &TaskTracker,
        turn: &mut Option<OwnedSemaphorePermit>,
        opening: &Opening,
    ) -> bool {
        self.on(Event::Launched);
        self.tail.clear();
        self.starts.fetch_add(1, Ordering::Relaxed);
        let (mut child, pipes) = match spawner.start(&self.server).await {
            Ok(started) => {
                *self.layers.lock().unwrap_or_else(PoisonError::into_inner) = started.layers;
                (started.child, started.pipes)
            }
            Err(error) => {
                let reason = error.to_string();
                tracing::warn!(server = self.server_name(), "not started: {reason}");
                self.on(Event::Exited { reason, jitter: jitter() });
                return true;
            }
        };
        self.pid.store(child.pid(), Ordering::Relaxed);
        let sandbox = self.server.sandbox.profile.word();
        tracing::info!(server = self.server_name(), pid = child.pid(), sandbox, "started");
        let (link, lines) = Link::new(self.server.limits.calls);
        // Kept while the child starts and no longer: it would keep its stdin open.
        let mut input = pipes.stdin.as_fd().try_clone_to_owned().ok().map(Arc::new);
        let read = Unread { link: Arc::clone(&link), input: input.as_ref().map(Arc::downgrade) };
        *self.link.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&link));
        tracker.spawn(wire::write(pipes.stdin, lines, Arc::clone(&link)));
        let mut errors =
            tracker.spawn({
                let instance = Arc::clone(self);
                async move {
                    stderr::log_lines(instance.server_name(), pipes.stderr, &instance.tail).await
                }
            });
        let mut reader = tracker.spawn({
            let (instance, link, host) = (Arc::clone(self), Arc::clone(&link), Arc::clone(host));
            let limit = self.server.limits.line;
            async move { wire::read(pipes.stdout, &instance, &link, &*host, limit).await }
        });
        let within = self.server.timeouts.start;
        let mut handshake = Some(Box::pin(handshake::open(&link, opening, &read, within)));
        let asks =
            |handshake: &Option<_>| opening.known != Some(Era::Legacy) && handshake.is_some();
        let mut reading = true;
        let mut slow = pin!(tokio::time::sleep(TURN));
        let ended = loop {
            let deadline = self.arm();
            if self.phase() != Phase::Starting {
                drop(input.take());
            }
            tokio::select! {
                status = child.wait() => break exit_text(status),
                outcome = shaken(&mut handshake) => {
                    handshake = None;
                    match outcome {
                        Outcome::Open(info) => {
                            turn.take();
                            link.set_info(info);
                            self.on(Event::Ready);
                            host.ready(self, &link);
                        }
                        // The child has gone or will; how it ended says more than that it did.
                        Outcome::Gone => {}
                        Outcome::Failed(reason) => {
                            self.on(Event::Failed { reason: stderr::told(&reason) });
                        }
                        Outcome::Again if self.phase() == Phase::Starting => {
                            drop(input.take());
                            self.discard(&link, child).await;
                            return false;
                        }
                        Outcome::Again => {}
                    }
                }
                why = &mut reader, if reading => {
                    reading = false;
                    let reason = why.unwrap_or_else(|error| format!("its reader failed: {error}"));
                    if asks(&handshake) && self.phase() == Phase::Starting && read.is_read() {
                        drop(input.take());
                        self.discard(&link, child).await;
                        return false;
                    }
                    // A child that closes its output is about to end; its status says more.
                    if reason == CLOSED
                        && let Ok(status) = tokio::time::timeout(LAST_WORDS, child.wait()).await
                    {
                        break exit_text(status);
                    }
                    self.on(Event::Failed { reason });
                }
                // Turns are for the work of starting; one that only waits must not keep others.
                () = &mut slow, if turn.is_some() => { turn.take(); }
                () = link.deaf.notified() => {
                    if let Ok(status) = tokio::time::timeout(LAST_WORDS, child.wait()).await {
                        break exit_text(status);
                    }
                    self.on(Event::Failed { reason: "reads no more input".to_owned() });
                }
                () = sleep_until(deadline) => match self.on(Event::Tick) {
                    Action::Terminate => child.terminate(),
                    Action::Kill => child.kill(),
                    _ => {}
                },
                () = self.poke.notified() => {}
            }
        };
        let ended = spawner.ended(&self.server, &child, ended);
        let unopened = handshake.is_some() && opening.known.is_some();
        if asks(&handshake) && self.phase() == Phase::Starting && read.is_read() {
            // It ended over a question that it does not know.
            self.discard(&link, child).await;
            return false;
        }
        let wanted = self.phase() == Phase::Stopping && self.trouble().1.is_none();
        self.on(Event::Lost);
        // What the child still said before its end counts.
        if reading {
            let _ = tokio::time::timeout(LAST_WORDS, &mut reader).await;
            reader.abort();
        }
        if tokio::time::timeout(LAST_WORDS, &mut errors).await.is_err() {
            errors.abort();
        }
        if unopened && !wanted {
            host.unopened(self);
        }
        self.end(spawner, &link, &**host, &ended, wanted);
        true
    }

    /// Ends a child that nobody has heard of.
    async fn discard(&self, link: &Link, mut child: Child) {
        tracing::debug!(server = self.server_name(), "started again, to open with initialize");
        link.close_input();
        let ended = tokio::time::timeout(GIVEN_UP, child.wait()).await.is_ok();
        if !ended {
            child.terminate();
            if tokio::time::timeout(GIVEN_UP, child.wait()).await.is_err() {
                child.kill();
                let _ = child.wait().await;
            }
        }
        self.pid.store(0, Ordering::Relaxed);
        link.end("it is started again");
        self.link.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn end(
        self: &Arc<Self>,
        spawner: &Spawner,
        link: &Arc<Link>,
        host: &dyn Host,
        ended: &str,
        wanted: bool,
    ) {
        self.pid.store(0, Ordering::Relaxed);
        let complaint = self.trouble().1;
        let mut reason = match complaint {
            Some(complaint) => format!("{complaint}; then {ended}"),
            None => ended.to_owned(),
        };
        let last = self.tail.words(3);
        if !last.is_empty() {
            reason.push_str(": ");
            reason.push_str(&last.join(" | "));
        }
        if let Some(why) = spawner.explain(&self.server, &last).filter(|_| !wanted) {
            reason.push_str(&format!(" [{why}]"));
        }
        link.end(&format!("backend \"{}\" ended before it answered: {reason}", self.server.name));
        self.link.lock().unwrap_or_else(PoisonError::into_inner).take();
        if wanted {
            tracing::info!(server = self.server_name(), "stopped ({ended})");
        } else {
            tracing::warn!(server = self.server_name(), "ended: {reason}");
        }
        host.gone(self, link);
        self.on(Event::Exited { reason, jitter: jitter() });
    }
}

/// The end of a handshake that goes on; never, where none does.
async fn shaken(handshake: &mut Option<Pin<Box<impl Future<Output = Outcome>>>>) -> Outcome {
    match handshake {
        Some(handshake) => handshake.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

fn exit_text(status: std::io::Result<std::process::ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => format!("its end cannot be read: {error}"),
    }
}

fn jitter() -> f64 {
    let mut byte = [0];
    // Without randomness restarts are merely less spread.
    let _ = getrandom::fill(&mut byte);
    f64::from(byte[0]) / 255.0
}
