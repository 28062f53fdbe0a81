//! The life of an instance as a pure machine: `on(now, event) -> action`.
//!
//! ```text
//!              acquire                 ready                     drain
//!   Stopped ───────────▶ Starting ─────────────▶ Ready ───────────────────▶ Draining
//!      ▲                    │ failed, late         │ │ idle                    │ no lease,
//!      │                    ▼                      │ ▼                         ▼ late
//!      │◀── pause over ─ Backoff ◀──── exited ─────┘ Stopping ◀───────────────┘
//!      └──────────────────────────── exited ─────────┘  stdin closed, TERM, KILL
//! ```
//!
//! The clock and the jitter are arguments. The task in `instance.rs` performs the actions.

use std::time::{Duration, Instant};

use super::backoff;

/// A child that was ready this long did not fail by starting.
const STEADY: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Somebody wants to use the instance.
    Acquire,
    /// One more lease, if the instance is ready; nothing is started for it.
    Hold,
    /// A lease was dropped.
    Release,
    /// Its turn to start has come; the time to be ready begins now.
    Launched,
    /// The handshake is done.
    Ready,
    /// The child cannot be started, or the handshake failed. The child may still run.
    Failed { reason: String },
    /// The child has ended; its last words are still being read.
    Lost,
    /// The child has ended (or never was). `reason` tells the whole story, with why it was
    /// stopped.
    Exited { reason: String, jitter: f64 },
    /// Finish the calls in flight until `grace` is over, then stop for good.
    Drain { grace: Duration },
    /// Time has passed.
    Tick,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Nothing,
    /// The caller of `Acquire` has its lease.
    Grant,
    /// Start a child; the caller waits.
    Start,
    /// The caller waits for the next change.
    Wait,
    /// The caller is turned away until then.
    Refuse {
        until: Instant,
        failures: u32,
        reason: String,
    },
    /// The caller is turned away for good.
    Retired,
    CloseStdin,
    Terminate,
    Kill,
}

/// What others may see of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Stopped,
    Starting,
    Ready,
    Draining,
    Stopping,
    Backoff,
}

#[derive(Debug)]
enum State {
    Stopped,
    Starting {
        deadline: Instant,
    },
    Ready {
        since: Instant,
        idle_since: Instant,
    },
    Draining {
        deadline: Instant,
    },
    Stopping {
        rung: Rung,
        began: Instant,
        failed: Option<String>,
    },
    /// The child is gone; its last words are being read.
    Ending {
        ready_since: Option<Instant>,
    },
    Backoff {
        until: Instant,
        reason: String,
    },
}

/// How far the stop ladder has been climbed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rung {
    StdinClosed,
    Terminated,
    Killed,
}

/// The times that the machine goes by.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub start: Duration,
    /// `None`: never reaped.
    pub idle: Option<Duration>,
    pub stop: Duration,
}

#[derive(Debug)]
pub struct Machine {
    times: Times,
    state: State,
    leases: usize,
    failures: u32,
    retired: bool,
}

impl Machine {
    pub fn new(times: Times) -> Self {
        Machine { times, state: State::Stopped, leases: 0, failures: 0, retired: false }
    }

    pub fn phase(&self) -> Phase {
        match self.state {
            State::Stopped => Phase::Stopped,
            State::Starting { .. } => Phase::Starting,
            State::Ready { .. } => Phase::Ready,
            State::Draining { .. } => Phase::Draining,
            State::Stopping { .. } | State::Ending { .. } => Phase::Stopping,
            State::Backoff { .. } => Phase::Backoff,
        }
    }

    pub fn leases(&self) -> usize {
        self.leases
    }

    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Why the backend is left alone, while it is.
    pub fn trouble(&self) -> Option<&str> {
        match &self.state {
            State::Backoff { reason, .. } => Some(reason),
            State::Stopping { failed, .. } => failed.as_deref(),
            _ => None,
        }
    }

    pub fn on(&mut self, now: Instant, event: Event) -> Action {
        match event {
            Event::Acquire => self.acquire(now),
            Event::Hold => match self.state {
                State::Ready { .. } => self.acquire(now),
                _ => Action::Nothing,
            },
            Event::Release => self.release(now),
            Event::Launched => {
                if let State::Starting { deadline } = &mut self.state {
                    *deadline = now + self.times.start;
                }
                Action::Nothing
            }
            Event::Ready => {
                if let State::Starting { .. } = self.state {
                    self.state = State::Ready { since: now, idle_since: now };
                }
                Action::Nothing
            }
            Event::Failed { reason } => match self.state {
                State::Starting { .. } | State::Ready { .. } | State::Draining { .. } => {
                    self.begin_stop(now, Some(reason))
                }
                _ => Action::Nothing,
            },
            Event::Lost => {
                match self.state {
                    State::Ready { since, .. } => {
                        self.state = State::Ending { ready_since: Some(since) }
                    }
                    State::Starting { .. } | State::Draining { .. } => {
                        self.state = State::Ending { ready_since: None };
                    }
                    _ => {}
                }
                Action::Nothing
            }
            Event::Exited { reason, jitter } => {
                self.exited(now, reason, jitter);
                Action::Nothing
            }
            Event::Drain { grace } => {
                self.retired = true;
                self.drain(now, grace)
            }
            Event::Tick => self.tick(now),
        }
    }

    fn drain(&mut self, now: Instant, grace: Duration) -> Action {
        match self.state {
            State::Ready { .. } if self.leases > 0 => {
                self.state = State::Draining { deadline: now + grace };
                Action::Nothing
            }
            State::Ready { .. } | State::Starting { .. } => self.begin_stop(now, None),
            State::Draining { deadline } => {
                self.state = State::Draining { deadline: deadline.min(now + grace) };
                Action::Nothing
            }
            State::Backoff { .. } => {
                self.state = State::Stopped;
                Action::Nothing
            }
            State::Stopped | State::Stopping { .. } | State::Ending { .. } => Action::Nothing,
        }
    }

    fn acquire(&mut self, now: Instant) -> Action {
        if self.retired {
            return Action::Retired;
        }
        match &self.state {
            State::Ready { .. } => {
                self.leases += 1;
                Action::Grant
            }
            State::Stopped => self.start(now),
            State::Backoff { until, .. } if *until <= now => self.start(now),
            State::Backoff { until, reason } => {
                Action::Refuse { until: *until, failures: self.failures, reason: reason.clone() }
            }
            State::Starting { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Ending { .. } => Action::Wait,
        }
    }

    fn start(&mut self, now: Instant) -> Action {
        self.state = State::Starting { deadline: now + self.times.start };
        Action::Start
    }

    fn release(&mut self, now: Instant) -> Action {
        self.leases = self.leases.saturating_sub(1);
        match &mut self.state {
            State::Ready { idle_since, .. } => {
                *idle_since = now;
                Action::Nothing
            }
            State::Draining { .. } if self.leases == 0 => self.begin_stop(now, None),
            _ => Action::Nothing,
        }
    }

    fn begin_stop(&mut self, now: Instant, failed: Option<String>) -> Action {
        self.state = State::Stopping { rung: Rung::StdinClosed, began: now, failed };
        Action::CloseStdin
    }

    fn exited(&mut self, now: Instant, reason: String, jitter: f64) {
        let next = match std::mem::replace(&mut self.state, State::Stopped) {
            State::Stopping { failed: None, .. } => None,
            State::Stopping { failed: Some(_), .. } | State::Starting { .. } => {
                Some((reason, self.failures + 1))
            }
            // One crash of a child that served well is answered by a start at the next call; a
            // child that keeps crashing young is left alone.
            State::Ready { since, .. } | State::Ending { ready_since: Some(since) }
                if now.duration_since(since) >= STEADY =>
            {
                Some((reason, 0))
            }
            State::Ending { .. } => Some((reason, self.failures + 1)),
            State::Ready { .. } | State::Draining { .. } => Some((reason, self.failures + 1)),
            State::Stopped => None,
            backoff @ State::Backoff { .. } => {
                self.state = backoff;
                return;
            }
        };
        match next {
            None => self.failures = 0,
            Some((reason, failures)) => {
                self.failures = failures;
                let pause = backoff::delay(failures, jitter);
                self.state = State::Backoff { until: now + pause, reason };
            }
        }
    }

    fn tick(&mut self, now: Instant) -> Action {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return Action::Nothing;
        }
        match &mut self.state {
            State::Starting { .. } => {
                let reason = format!(
                    "not ready within {} s (timeouts.start)",
                    self.times.start.as_secs_f32()
                );
                self.begin_stop(now, Some(reason))
            }
            State::Ready { .. } | State::Draining { .. } => self.begin_stop(now, None),
            State::Stopping { rung, .. } => match rung {
                Rung::StdinClosed => {
                    *rung = Rung::Terminated;
                    Action::Terminate
                }
                Rung::Terminated | Rung::Killed => {
                    *rung = Rung::Killed;
                    Action::Kill
                }
            },
            State::Stopped | State::Ending { .. } | State::Backoff { .. } => Action::Nothing,
        }
    }

    /// When `Tick` has something to do.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Starting { deadline } | State::Draining { deadline } => Some(*deadline),
            State::Ready { idle_since, .. } if self.leases == 0 => {
                self.times.idle.map(|idle| *idle_since + idle)
            }
            // Of the usual 5 s: 2 s for the end of input to work, 3 s for TERM.
            State::Stopping { rung, began, .. } => match rung {
                Rung::StdinClosed => Some(*began + self.times.stop * 2 / 5),
                Rung::Terminated => Some(*began + self.times.stop),
                // Nothing is stronger than KILL.
                Rung::Killed => None,
            },
            State::Ready { .. } | State::Stopped | State::Ending { .. } | State::Backoff { .. } => {
                None
            }
        }
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
