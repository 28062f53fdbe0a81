//! Which processes there are, what memory they hold, and the end of them where no namespace ends
//! them all at once.

use std::{
    fmt, fs,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// How long runners may escape being stopped before they are killed as they are.
const FREEZING: Duration = Duration::from_secs(2);

pub(super) struct Process {
    pub(super) pid: Pid,
    parent: Pid,
    state: u8,
}

/// Everything that /proc shows.
fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(look).collect()
}

fn look(pid: i32) -> Option<Process> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything, brackets too.
    let after = stat.iter().rposition(|byte| *byte == b')')? + 2;
    let mut words = std::str::from_utf8(stat.get(after..)?).ok()?.split(' ');
    let state = *words.next()?.as_bytes().first()?;
    let parent = words.next()?.parse().ok()?;
    Some(Process { pid: Pid::from_raw(pid), parent: Pid::from_raw(parent), state })
}

/// All of a pid namespace but pid 1, which asks.
pub(super) fn everyone() -> Vec<Process> {
    all().into_iter().filter(|process| process.pid != Pid::from_raw(1)).collect()
}

/// All that descend from `root`, which is no part of it.
pub(super) fn descendants(root: Pid) -> Vec<Process> {
    let mut rest = all();
    let mut found: Vec<Process> = Vec::new();
    loop {
        let known = |pid| pid == root || found.iter().any(|process| process.pid == pid);
        let (next, others) = rest.into_iter().partition(|process| known(process.parent));
        rest = others;
        let next: Vec<Process> = next;
        if next.is_empty() {
            return found;
        }
        found.extend(next);
    }
}

/// Stops all that descend from us until none runs, and so none forks; then kills them. Killing
/// alone never catches up with a fork bomb.
pub(super) fn freeze_and_kill(own: Pid) {
    loop {
        let began = Instant::now();
        let alive = loop {
            let alive: Vec<Process> =
                descendants(own).into_iter().filter(|process| process.state != b'Z').collect();
            let mut any = false;
            for runner in alive.iter().filter(|process| !matches!(process.state, b'T' | b't')) {
                let _ = kill(runner.pid, Signal::SIGSTOP);
                // One that waits in the kernel, as for a child of vfork, stops before it runs on.
                any |= runner.state != b'D';
            }
            if !any || began.elapsed() > FREEZING {
                break alive;
            }
        };
        for process in &alive {
            let _ = kill(process.pid, Signal::SIGKILL);
        }
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => break,
                Ok(_) => {}
                Err(_) => return,
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What a sandbox's processes hold, against its limit. Looked at now and then, so best effort: in
/// between, the kernel's limit for each process holds.
pub(super) struct Gauge {
    limit: u64,
    held: u64,
    over: u32,
}

impl Gauge {
    pub(super) fn new(limit: u64) -> Self {
        Gauge { limit, held: 0, over: 0 }
    }

    /// The nearer the limit, the sooner we look again.
    pub(super) fn interval(&self) -> Option<Duration> {
        match self.limit {
            0 => None,
            limit if self.held > limit / 2 => Some(Duration::from_millis(250)),
            limit if self.held > limit / 4 => Some(Duration::from_secs(1)),
            _ => Some(Duration::from_secs(2)),
        }
    }

    /// Over the limit twice in a row.
    pub(super) fn is_over(&mut self, processes: &[Process]) -> bool {
        self.held = processes.iter().map(|process| resident(process.pid)).sum();
        if self.held > self.limit {
            // What is shared counts once: the exact sum is dear, so only now.
            let exact: u64 = processes.iter().map(|process| proportional(process.pid)).sum();
            self.held = exact;
        }
        self.over = if self.held > self.limit { self.over + 1 } else { 0 };
        self.over > 1
    }
}

impl fmt::Display for Gauge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB, limits.memory allows {}", self.held >> 20, self.limit >> 20)
    }
}

fn resident(pid: Pid) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    pages * page.ok().flatten().and_then(|size| u64::try_from(size).ok()).unwrap_or(4096)
}

/// A process that hides from us is counted by all it has.
fn proportional(pid: Pid) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map_or_else(|| resident(pid), |kib| kib << 10)
}
