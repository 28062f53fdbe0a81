//! The life cycle, by table and by proptest.

use proptest::prelude::*;

use super::*;

const TIMES: Times = Times {
    start: Duration::from_secs(60),
    idle: Some(Duration::from_secs(300)),
    stop: Duration::from_secs(5),
};

fn exited(reason: &str) -> Event {
    Event::Exited { reason: reason.to_owned(), jitter: 0.0 }
}

fn seconds(n: f64) -> Duration {
    Duration::from_secs_f64(n)
}

#[test]
fn a_quiet_life() {
    let t = Instant::now();
    let mut machine = Machine::new(TIMES);
    assert_eq!(machine.on(t, Event::Acquire), Action::Start);
    assert_eq!(machine.on(t, Event::Acquire), Action::Wait, "single flight");
    assert_eq!(machine.on(t, Event::Ready), Action::Nothing);
    assert_eq!(machine.on(t, Event::Acquire), Action::Grant);
    let late = t + seconds(4000.0);
    assert_eq!(machine.on(late, Event::Tick), Action::Nothing, "a call in flight is not idle");
    machine.on(late, Event::Release);
    assert_eq!(machine.deadline(), Some(late + seconds(300.0)));
    let idle = late + seconds(300.0);
    assert_eq!(machine.on(idle, Event::Tick), Action::CloseStdin);
    assert_eq!(
        machine.on(idle, Event::Acquire),
        Action::Wait,
        "the next life comes after this one"
    );
    assert_eq!(machine.on(idle + seconds(2.0), Event::Tick), Action::Terminate);
    assert_eq!(machine.on(idle + seconds(5.0), Event::Tick), Action::Kill);
    assert_eq!(machine.deadline(), None);
    machine.on(idle + seconds(5.0), exited("signal"));
    assert_eq!(machine.phase(), Phase::Stopped);
    assert_eq!(machine.failures(), 0);
}

#[test]
fn failures_pause_double_and_open_the_circuit() {
    let mut now = Instant::now();
    let mut machine = Machine::new(TIMES);
    let mut pauses = Vec::new();
    for _ in 0..6 {
        assert_eq!(machine.on(now, Event::Acquire), Action::Start);
        machine.on(now, exited("exit status 3"));
        let Action::Refuse { until, reason, .. } = machine.on(now, Event::Acquire) else {
            panic!("not refused");
        };
        assert_eq!(reason, "exit status 3");
        pauses.push((until - now).as_millis());
        now = until;
    }
    assert_eq!(pauses, [500, 1000, 2000, 4000, 60_000, 60_000]);
}

#[test]
fn one_crash_after_good_service_is_answered_by_the_next_call() {
    let t = Instant::now();
    let mut machine = Machine::new(TIMES);
    machine.on(t, Event::Acquire);
    machine.on(t, Event::Ready);
    machine.on(t + seconds(9.0), exited("signal 9"));
    assert_eq!(machine.on(t + seconds(9.0), Event::Acquire), Action::Start);
}

#[test]
fn a_late_start_is_stopped_and_told() {
    let t = Instant::now();
    let mut machine = Machine::new(TIMES);
    machine.on(t, Event::Acquire);
    assert_eq!(machine.on(t + seconds(59.0), Event::Tick), Action::Nothing);
    assert_eq!(machine.on(t + seconds(60.0), Event::Tick), Action::CloseStdin);
    assert_eq!(machine.trouble(), Some("not ready within 60 s (timeouts.start)"));
    machine.on(t + seconds(61.0), exited("not ready; then signal 15"));
    assert_eq!(machine.trouble(), Some("not ready; then signal 15"));
    assert_eq!(machine.phase(), Phase::Backoff);
}

#[test]
fn idle_none_is_never() {
    let t = Instant::now();
    let mut machine = Machine::new(Times { idle: None, ..TIMES });
    machine.on(t, Event::Acquire);
    machine.on(t, Event::Ready);
    assert_eq!(machine.deadline(), None);
    assert_eq!(machine.on(t + seconds(1e6), Event::Tick), Action::Nothing);
}

#[test]
fn a_drain_lets_calls_finish_and_ends_at_its_deadline() {
    let t = Instant::now();
    let mut machine = Machine::new(TIMES);
    machine.on(t, Event::Acquire);
    machine.on(t, Event::Ready);
    machine.on(t, Event::Acquire);
    machine.on(t, Event::Acquire);
    assert_eq!(machine.on(t, Event::Drain { grace: seconds(10.0) }), Action::Nothing);
    assert_eq!(machine.on(t, Event::Acquire), Action::Retired);
    assert_eq!(machine.on(t, Event::Release), Action::Nothing);
    assert_eq!(machine.on(t, Event::Release), Action::CloseStdin);

    let mut machine = Machine::new(TIMES);
    machine.on(t, Event::Acquire);
    machine.on(t, Event::Ready);
    machine.on(t, Event::Acquire);
    machine.on(t, Event::Drain { grace: seconds(10.0) });
    assert_eq!(machine.on(t + seconds(10.0), Event::Tick), Action::CloseStdin);
}

#[test]
fn who_was_drained_never_starts_again() {
    let t = Instant::now();
    for running in [false, true] {
        let mut machine = Machine::new(TIMES);
        if running {
            machine.on(t, Event::Acquire);
            machine.on(t, Event::Ready);
        }
        machine.on(t, Event::Drain { grace: Duration::ZERO });
        assert_eq!(machine.on(t, Event::Acquire), Action::Retired);
        machine.on(t, exited("exit status 0"));
        assert_eq!(machine.on(t, Event::Acquire), Action::Retired);
        assert_eq!(machine.phase(), Phase::Stopped);
    }
}

/// What may happen to an instance, in any order.
#[derive(Clone, Debug)]
enum Move {
    Acquire,
    Release,
    Ready,
    Fail,
    Lost,
    Exit,
    Drain,
    Wait(u32),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => Just(Move::Acquire),
        3 => Just(Move::Release),
        3 => Just(Move::Ready),
        1 => Just(Move::Fail),
        1 => Just(Move::Lost),
        2 => Just(Move::Exit),
        1 => Just(Move::Drain),
        4 => (0u32..400_000).prop_map(Move::Wait),
    ];
    prop::collection::vec(one, 0..120)
}

proptest! {
    #[test]
    fn no_order_of_events_breaks_the_promises(moves in moves()) {
        let mut now = Instant::now();
        let mut machine = Machine::new(TIMES);
        let mut alive = false;
        let mut held = 0usize;
        let mut asked_to_stop = false;
        let mut lost = false;
        for step in moves {
            let action = match step {
                Move::Acquire => machine.on(now, Event::Acquire),
                Move::Release if held > 0 => { held -= 1; machine.on(now, Event::Release) }
                Move::Release => Action::Nothing,
                Move::Ready if alive && !lost => machine.on(now, Event::Ready),
                Move::Ready => Action::Nothing,
                Move::Fail => { asked_to_stop = true; machine.on(now, Event::Failed { reason: "f".into() }) }
                Move::Lost if alive => {
                    lost = true;
                    machine.on(now, Event::Lost)
                }
                Move::Lost => Action::Nothing,
                Move::Exit if alive => {
                    lost = false;
                    alive = false;
                    machine.on(now, Event::Exited { reason: "e".into(), jitter: 0.5 })
                }
                Move::Exit => Action::Nothing,
                Move::Drain => {
                    asked_to_stop = true;
                    machine.on(now, Event::Drain { grace: Duration::from_secs(1) })
                }
                Move::Wait(ms) => {
                    now += Duration::from_millis(ms.into());
                    machine.on(now, Event::Tick)
                }
            };
            match action {
                Action::Start => {
                    prop_assert!(!alive, "two children");
                    alive = true;
                    asked_to_stop = false;
                }
                Action::Grant => {
                    prop_assert!(alive && !lost, "a lease on nothing");
                    held += 1;
                }
                Action::CloseStdin => {
                    prop_assert!(alive);
                    prop_assert!(held == 0 || asked_to_stop || machine.trouble().is_some(), "reaped in use");
                }
                Action::Terminate | Action::Kill => prop_assert!(alive, "a signal to nobody"),
                Action::Refuse { until, .. } => prop_assert!(until > now),
                Action::Nothing | Action::Wait | Action::Retired => {}
            }
            prop_assert_eq!(machine.leases(), held);
            if let Some(deadline) = machine.deadline() {
                // A task that ticks at each deadline never spins: a due tick acts or moves on.
                if deadline <= now {
                    let before = machine.phase();
                    let action = machine.on(now, Event::Tick);
                    prop_assert!(action != Action::Nothing, "{before:?} spins");
                    if action == Action::CloseStdin {
                        prop_assert!(held == 0 || asked_to_stop || machine.trouble().is_some());
                    }
                }
            }
        }
    }

    #[test]
    fn whatever_happened_a_drain_ends_the_child(moves in moves()) {
        let mut now = Instant::now();
        let mut machine = Machine::new(TIMES);
        for step in moves {
            match step {
                Move::Acquire => { machine.on(now, Event::Acquire); }
                Move::Ready => { machine.on(now, Event::Ready); }
                Move::Wait(ms) => { now += Duration::from_millis(ms.into()); machine.on(now, Event::Tick); }
                _ => {}
            }
        }
        machine.on(now, Event::Drain { grace: Duration::from_secs(1) });
        let mut killed = matches!(machine.phase(), Phase::Stopped | Phase::Backoff);
        for _ in 0..8 {
            let Some(deadline) = machine.deadline() else { break };
            now = now.max(deadline);
            killed |= machine.on(now, Event::Tick) == Action::Kill;
        }
        killed |= machine.phase() == Phase::Stopping && machine.deadline().is_none();
        prop_assert!(killed, "{:?}", machine.phase());
    }
}
