//! Two clocks that many streams share, so that none needs a timer of its own.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::sync::Notify;

/// A heartbeat for open event streams.
#[derive(Default)]
pub(super) struct Pulse {
    beats: AtomicU64,
    next: AtomicU64,
    wakers: Mutex<HashMap<u64, Waker>>,
}

/// One stream's ear for the heartbeat.
pub(super) struct Ear {
    pulse: Arc<Pulse>,
    number: u64,
    heard: u64,
    waker: Option<Waker>,
}

impl Pulse {
    pub(super) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::SeqCst);
        let wakers: Vec<Waker> = self.lock().values().cloned().collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn listen(self: &Arc<Self>) -> Ear {
        Ear {
            number: self.next.fetch_add(1, Ordering::Relaxed),
            heard: self.beats.load(Ordering::SeqCst),
            waker: None,
            pulse: Arc::clone(self),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ear {
    /// Ready once for each beat, or for several that came together.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            let waker = context.waker().clone();
            self.pulse.lock().insert(self.number, waker.clone());
            self.waker = Some(waker);
        }
        // After the registration, so that no beat falls between the two.
        let beats = self.pulse.beats.load(Ordering::SeqCst);
        if std::mem::replace(&mut self.heard, beats) == beats {
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.pulse.lock().remove(&self.number);
    }
}

/// Tells requests that they have waited long enough for a plain answer. It ticks only while
/// somebody waits: a timer for each request would cost more than the request's bookkeeping.
#[derive(Default)]
pub(super) struct Priming {
    armed: AtomicBool,
    wanted: Notify,
    tick: Notify,
}

impl Priming {
    pub(super) async fn run(&self, after: Duration) {
        loop {
            self.wanted.notified().await;
            tokio::time::sleep(after).await;
            self.armed.store(false, Ordering::SeqCst);
            self.tick.notify_waiters();
        }
    }

    /// Completes after one to two times the period.
    pub(super) async fn wait(&self) {
        // The first tick may be near, the second is a whole period after it.
        for _ in 0..2 {
            let tick = self.tick.notified();
            if !self.armed.swap(true, Ordering::SeqCst) {
                self.wanted.notify_one();
            }
            tick.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test]
    async fn every_ear_hears_a_beat_once() {
        let pulse = Arc::new(Pulse::default());
        let mut ears = [pulse.listen(), pulse.listen()];
        for _ in 0..3 {
            pulse.beat();
            for ear in &mut ears {
                poll_fn(|context| ear.poll(context)).await;
                let again = poll_fn(|context| Poll::Ready(ear.poll(context))).await;
                assert!(again.is_pending());
            }
        }
        assert_eq!(pulse.lock().len(), 2);
        drop(ears);
        assert!(pulse.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn priming_takes_one_to_two_periods_for_everyone() {
        let priming = Priming::default();
        let period = Duration::from_millis(50);
        let waits = async {
            let start = Instant::now();
            let early = async {
                priming.wait().await;
                start.elapsed()
            };
            let late = async {
                tokio::time::sleep(Duration::from_millis(49)).await;
                let start = Instant::now();
                priming.wait().await;
                start.elapsed()
            };
            tokio::join!(early, late)
        };
        let (early, late) = tokio::select! {
            waits = waits => waits,
            () = priming.run(period) => unreachable!(),
        };
        for waited in [early, late] {
            assert!(
                waited >= period && waited <= period * 2 + Duration::from_millis(2),
                "{waited:?}"
            );
        }
    }
}
