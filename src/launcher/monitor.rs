//! Who watches: the monitor, pid 1 of the sandbox, and the program's own last steps.
//!
//! With a pid namespace there are two watchers. Pid 1 collects the dead; when it ends, the kernel
//! kills everything in the namespace. It ends with the program, with the lifeline, and with the
//! monitor, which stands outside, where nothing of the sandbox sees it. Without a namespace the
//! monitor is alone: every orphan becomes its child, and at the end it freezes and kills them all.
//! Neither relies on the death signal of a parent, which is lost in a race and by a change of uid.

use std::{
    convert::Infallible,
    fs::File,
    io::{Read, Write},
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    fcntl::OFlag,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        resource::Resource,
        signal::{SigSet, SigmaskHow, Signal, kill, killpg, sigprocmask},
        signalfd::{SfdFlags, SignalFd},
        stat::{Mode, umask},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, execve, fork, pipe2, setsid},
};

use super::{
    At, Policy, REPORT_FD, Report, Step, fault, landlock, root, seccomp,
    steps::{self, linux::drop_privileges},
    sweep::{self, Gauge, Process},
};

/// How long the monitor waits for the last of a namespace that has been killed.
const LAST_RITES: Duration = Duration::from_secs(2);

/// What there is to wait for.
enum Event {
    /// A child has ended, or we are asked to end.
    Signal(Signal),
    /// Whoever holds us has let go.
    Cut,
    /// Pid 1 has something to tell, if only that it has ended.
    Told,
    Tick,
}

struct Watch {
    signals: SignalFd,
    /// A pipe from the other watcher.
    leash: Option<OwnedFd>,
}

impl Watch {
    /// From here on the signals wait to be asked for, in children too.
    fn new() -> Step<Self> {
        let wanted = [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
        let wanted = SigSet::from_iter(wanted);
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&wanted), None).at("monitor", "signal mask")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&wanted, flags).at("monitor", "signalfd")?;
        Ok(Watch { signals, leash: None })
    }

    fn next(&mut self, within: Option<Duration>) -> Event {
        let timeout = within.map_or(PollTimeout::NONE, |time| {
            PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX)
        });
        loop {
            let lifeline = steps::lifeline();
            let leash = self.leash.as_ref().map_or(lifeline, |leash| leash.as_fd());
            let mut fds = [self.signals.as_fd(), lifeline, leash]
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match poll(&mut fds, timeout) {
                Ok(0) => return Event::Tick,
                Err(_) => continue,
                Ok(_) => {}
            }
            if fds[1].any() == Some(true) {
                return Event::Cut;
            }
            if self.leash.is_some() && fds[2].any() == Some(true) {
                return Event::Told;
            }
            if let Ok(Some(info)) = self.signals.read_signal()
                && let Ok(signal) = Signal::try_from(info.ssi_signo as i32)
            {
                return Event::Signal(signal);
            }
        }
    }
}

fn split() -> Step<ForkResult> {
    // SAFETY: this process has one thread, so the child may do whatever the parent may.
    unsafe { fork() }.at("monitor", "fork")
}

/// Lets go of what is the program's: while we hold them, its pipes have no end.
fn release(fds: &[i32]) {
    for fd in fds {
        // SAFETY: these are ours to close, and no owner of them is left in this process: the
        // report does not close its own, and 0 to 2 have none.
        unsafe { libc::close(*fd) };
    }
}

/// In namespaces of its own: forks pid 1, and ends as the program ended.
pub(super) fn namespaced(policy: &Policy, report: &Report) -> Step<Infallible> {
    let mut watch = Watch::new()?;
    let (status, tell) = pipe2(OFlag::O_CLOEXEC).at("monitor", "pipe")?;
    let (leash, held) = pipe2(OFlag::O_CLOEXEC).at("monitor", "pipe")?;
    let ForkResult::Parent { child: init } = split()? else {
        drop((status, held));
        watch.leash = Some(leash);
        return first(policy, report, watch, tell.into());
    };
    drop((tell, leash));
    // Pid 1 holds the other end of this one: it tells how the program ended, or ends itself.
    watch.leash = Some(status);
    release(&[0, 1, 2, REPORT_FD]);
    let told = loop {
        match watch.next(None) {
            Event::Cut => {
                let _ = kill(init, Signal::SIGKILL);
                break None;
            }
            // Written at once, or the end of a pipe into which nothing was written.
            Event::Told => {
                let mut raw = [0; 4];
                let status = watch.leash.take().map(File::from);
                let read = status.and_then(|mut status| status.read_exact(&mut raw).ok());
                break read.map(|()| i32::from_ne_bytes(raw));
            }
            Event::Signal(Signal::SIGCHLD) | Event::Tick => {}
            Event::Signal(_) => {
                let _ = kill(init, Signal::SIGTERM);
            }
        }
    };
    // Pid 1 has ended when all of its namespace have. Whoever SIGKILL waits for does nothing any
    // more, but a busy kernel may take long to run it that one last time; so not for ever.
    let until = Instant::now() + LAST_RITES;
    let ended = loop {
        match waitpid(init, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(1));
            }
            status => break status,
        }
    };
    let told = told.map(|raw| WaitStatus::from_raw(init, raw));
    end_like(told.unwrap_or(ended).unwrap_or(WaitStatus::StillAlive))
}

/// Pid 1: makes the root, forks the program, collects the dead.
fn first(policy: &Policy, report: &Report, watch: Watch, mut tell: File) -> Step<Infallible> {
    root::build(policy, report)?;
    umask(Mode::from_bits_truncate(0o077));
    drop_privileges(true, report)?;
    let ForkResult::Parent { child: main } = split()? else {
        drop(tell);
        return program(policy, report);
    };
    release(&[0, 1, REPORT_FD]);
    if let Some(raw) = watch_over(main, watch, policy, sweep::everyone) {
        let _ = tell.write_all(&raw.to_ne_bytes());
    }
    // The kernel kills what is left.
    std::process::exit(1)
}

/// Without a pid namespace: whatever the program leaves behind becomes our child.
pub(super) fn portable(policy: &Policy, report: &Report) -> Step<Infallible> {
    prctl::set_child_subreaper(true).at("monitor", "subreaper")?;
    let watch = Watch::new()?;
    let own = Pid::this();
    let ForkResult::Parent { child: main } = split()? else {
        // Only for the case that somebody kills the monitor; nothing is built on it.
        prctl::set_pdeathsig(Signal::SIGKILL).at("monitor", "death signal")?;
        if Pid::parent() != own {
            return fault("monitor", "the monitor has ended");
        }
        if policy.layers != super::Layers::NONE {
            umask(Mode::from_bits_truncate(0o077));
            drop_privileges(false, report)?;
        }
        return program(policy, report);
    };
    prctl::set_dumpable(false).at("monitor", "dumpable")?;
    release(&[0, 1, REPORT_FD]);
    let status = watch_over(main, watch, policy, || sweep::descendants(own));
    sweep::freeze_and_kill(own);
    let status = status.and_then(|raw| WaitStatus::from_raw(main, raw).ok());
    end_like(status.unwrap_or(WaitStatus::StillAlive))
}

/// Until the program ends: how it did. `None`: whoever holds us has let go, or it has to go.
fn watch_over(
    main: Pid,
    mut watch: Watch,
    policy: &Policy,
    others: impl Fn() -> Vec<Process>,
) -> Option<i32> {
    let mut gauge = Gauge::new(if policy.cgroup.is_some() { 0 } else { policy.limits.memory });
    loop {
        match watch.next(gauge.interval()) {
            Event::Cut | Event::Told => return None,
            Event::Signal(Signal::SIGCHLD) => {
                while let Some((pid, raw)) = collect() {
                    if pid == main {
                        return Some(raw);
                    }
                }
            }
            // The program's whole group, as soon as it has one.
            Event::Signal(_) => {
                if killpg(main, Signal::SIGTERM).is_err() {
                    let _ = kill(main, Signal::SIGTERM);
                }
            }
            Event::Tick if gauge.is_over(&others()) => {
                // To the backend's own stderr, whose last lines are the reason that callers see.
                let mut stderr = std::io::stderr();
                let _ = writeln!(stderr, "mcp-gateway: killed for its memory: {gauge}");
                return None;
            }
            Event::Tick => {}
        }
    }
}

/// One child that has ended, with its status as the kernel writes it.
fn collect() -> Option<(Pid, i32)> {
    let mut raw = 0;
    // SAFETY: `raw` is an int of ours, which the call may write.
    let pid = unsafe { libc::waitpid(-1, &raw mut raw, libc::WNOHANG) };
    (pid > 0).then(|| (Pid::from_raw(pid), raw))
}

/// Ends this process the way the program ended; if that is not known, as by SIGKILL.
fn end_like(status: WaitStatus) -> ! {
    let signal = match status {
        WaitStatus::Exited(_, code) => std::process::exit(code),
        WaitStatus::Signaled(_, signal, _) => signal,
        _ => Signal::SIGKILL,
    };
    let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&SigSet::from_iter([signal])), None);
    let _ = nix::sys::signal::raise(signal);
    std::process::exit(128 + signal as i32)
}

/// The program's own process, up to its last step.
fn program(policy: &Policy, report: &Report) -> Step<Infallible> {
    setsid().at("session", "of the program")?;
    root::enter_directory(policy)?;
    landlock::restrict(policy, report)?;
    if policy.layers.namespaces && policy.limits.processes > 0 {
        // Counted in this user namespace, where monitor and pid 1 are too.
        let most = policy.limits.processes + 2;
        steps::lower(Resource::RLIMIT_NPROC, most).at("processes", "")?;
        if policy.cgroup.is_none() && nix::unistd::getuid().is_root() {
            report.off("processes", "the kernel holds root to no number of processes");
        } else {
            report.on("processes", &format!("{} at most", policy.limits.processes));
        }
    }
    let (path, args, env) = steps::command(policy)?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).at("signals", "")?;
    if policy.layers.seccomp {
        seccomp::restrict(policy, report)?;
    }
    report.exec();
    execve(&path, &args, &env).at("execve", policy.program.display().to_string())
}
