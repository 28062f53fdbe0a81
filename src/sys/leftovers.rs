//! What a life of ours that ended badly may have left running, and the end of it.
//!
//! Lifelines end every instance with the gateway that started it. This is the second look: each life
//! keeps a list of its monitors, and the next one goes through the lists of those that have ended.
//! A process is known by its pid and the time of its start, never by its pid alone, and is held by
//! a pidfd from before that is compared until after it is killed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// How long what has lost its lifeline may take to end by itself.
const ENDING: Duration = Duration::from_secs(1);
/// A list is not longer, nor are there more of them.
const LONGEST: usize = 1 << 20;
const LISTS: usize = 1000;

/// The list of one life. Dropping it says that the life ended well.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    file: File,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    /// In the kernel's ticks since it booted.
    began: u64,
}

impl Process {
    fn look(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in brackets may hold anything.
        let after = stat.rsplit_once(") ")?.1;
        let dead = after.starts_with(['Z', 'X']);
        let began = after.split(' ').nth(19)?.parse().ok()?;
        (!dead).then_some(Process { pid, began })
    }

    fn read(text: &str) -> Option<Self> {
        let (pid, began) = text.split_once('.')?;
        Some(Process { pid: pid.parse().ok()?, began: began.parse().ok()? })
    }

    fn lives(self) -> bool {
        Process::look(self.pid) == Some(self)
    }

    fn parent(self) -> Option<i32> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    }
}

impl Ledger {
    /// Begins the list of this life in `folder`.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let folder = &of_this_boot(folder)?;
        fs::DirBuilder::new().mode(0o700).recursive(true).create(folder)?;
        let own = i32::try_from(std::process::id()).map_err(io::Error::other)?;
        let own =
            Process::look(own).ok_or_else(|| io::Error::other("/proc shows nothing of us"))?;
        let path = folder.join(format!("{}.{}", own.pid, own.began));
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        Ok(Ledger { path, file })
    }

    /// One monitor of ours.
    pub fn note(&self, pid: i32) {
        if let Some(it) = Process::look(pid) {
            let _ = (&self.file).write_all(format!("{}.{}\n", it.pid, it.began).as_bytes());
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Ends what lives that have ended have left; how many instances did not end by themselves.
pub fn sweep(folder: &Path) -> u64 {
    let Ok(now) = of_this_boot(folder) else { return 0 };
    for before in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if before != now {
            let _ = fs::remove_dir_all(before);
        }
    }
    let folder = &now;
    let lists = fs::read_dir(folder).into_iter().flatten().flatten().take(LISTS);
    let mut left = Vec::new();
    for path in lists.map(|entry| entry.path()) {
        let owner = path.file_name().and_then(|name| Process::read(name.to_str()?));
        if owner.is_none_or(Process::lives) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        let text = text.get(..text.len().min(LONGEST)).unwrap_or_default();
        left.extend(text.lines().filter_map(Process::read).filter(|it| it.lives()));
        let _ = fs::remove_file(path);
    }
    let until = Instant::now() + ENDING;
    while left.iter().any(|it| it.lives()) && Instant::now() < until {
        thread::sleep(Duration::from_millis(2));
    }
    left.retain(|it| it.lives());
    for it in &left {
        end(*it);
    }
    left.len() as u64
}

/// Pids and times are of one boot.
fn of_this_boot(folder: &Path) -> io::Result<PathBuf> {
    Ok(folder.join(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim()))
}

/// Everything below it first: once a monitor without a pid namespace has gone, nobody knows what
/// it held.
fn end(monitor: Process) {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut rest: Vec<Process> = pids.filter_map(Process::look).collect();
    let mut found = vec![monitor];
    loop {
        let is_below = |it: &Process| {
            it.parent().is_some_and(|parent| found.iter().any(|known| known.pid == parent))
        };
        let (below, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(is_below);
        rest = others;
        rest.retain(|it| *it != monitor);
        if below.is_empty() {
            break;
        }
        found.extend(below);
    }
    for it in found.into_iter().rev() {
        kill(it);
    }
}

#[cfg(target_os = "linux")]
fn kill(it: Process) {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    use nix::libc;

    // SAFETY: takes two numbers; a descriptor of our own returns.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, it.pid, 0) };
    if fd < 0 {
        return;
    }
    // SAFETY: the call has just made this descriptor, for us alone.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    // Held now; is it the one that is meant?
    if it.lives() {
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is open, and without a siginfo the kernel fills in its own.
        unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), libc::SIGKILL, none, 0)
        };
    }
}

#[cfg(not(target_os = "linux"))]
fn kill(_: Process) {}
