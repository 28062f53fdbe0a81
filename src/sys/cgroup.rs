//! A cgroup for each instance, where the part of the tree that we are in has been handed to us.
//!
//! Handed to us: its files are ours without our being root, or systemd has marked it so
//! (`Delegate=yes`), and nobody else is in it. Everywhere else nothing is touched, and limits are
//! kept as well as they can be without.

use std::{
    fmt, fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// How long the kernel may take to collect what it has killed.
const COLLECTING: Duration = Duration::from_secs(2);
/// How long a process that has been killed may still be seen.
const DYING: Duration = Duration::from_millis(100);
/// Below ours, which is the default of 100: who answers comes before who is asked.
const WEIGHT: &str = "50";
/// Where we are ourselves: a cgroup with children that are limited has no process of its own.
const OWN: &str = "gateway";
/// What the names of instances' cgroups begin with.
const INSTANCE: &str = "instance-";

/// The part of the tree that is ours.
#[derive(Debug)]
pub struct Tree {
    at: PathBuf,
    next: AtomicU64,
    /// Instances of a previous life that were still there.
    pub leftovers: u64,
}

/// What an instance is held to; 0 is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    pub memory: u64,
    pub processes: u64,
}

/// One instance's cgroup. Dropping it kills what is in it.
pub struct Leaf(PathBuf);

/// What came of an instance's cgroup.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// The kernel killed it for its memory.
    pub out_of_memory: bool,
    /// Something was still in it.
    pub populated: bool,
}

impl Tree {
    /// Finds it and moves us out of the way of the instances. Why not, if it is not ours.
    pub fn find() -> Result<Self, String> {
        let at = own_cgroup()?;
        let shown = at.display();
        let meta = fs::metadata(&at).map_err(|error| format!("{shown}: {error}"))?;
        let (own, root) = (nix::unistd::geteuid(), nix::unistd::geteuid().is_root());
        let ours = if root { is_delegated(&at) } else { meta.uid() == own.as_raw() };
        if !ours {
            return Err(format!("{shown} is not ours (a unit with Delegate=yes has its own)"));
        }
        let present = read(&at, "cgroup.procs")?;
        if present.lines().any(|pid| pid.parse() != Ok(std::process::id())) {
            return Err(format!(
                "others are in {shown} too (start it as a unit, or by systemd-run --user --scope -p Delegate=yes)"
            ));
        }
        let write = |path: PathBuf, text: &str| {
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
        };
        let has = read(&at, "cgroup.controllers")?;
        let wanted = ["memory", "pids", "cpu"];
        let mine: Vec<&str> = has.split_whitespace().filter(|name| wanted.contains(name)).collect();
        if !mine.contains(&"memory") {
            return Err(format!("{shown} has no memory controller"));
        }
        let own = at.join(OWN);
        if !own.is_dir() {
            fs::create_dir(&own).map_err(|error| format!("{}: {error}", own.display()))?;
        }
        write(own.join("cgroup.procs"), "0")?;
        for name in mine {
            write(at.join("cgroup.subtree_control"), &format!("+{name}"))?;
        }
        let leftovers = sweep(&at);
        Ok(Tree { at, next: AtomicU64::new(1), leftovers })
    }

    /// A new cgroup that is held to this.
    pub fn leaf(&self, server: &str, held: Held) -> io::Result<Leaf> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.at.join(format!("{INSTANCE}{number}-{server}"));
        fs::create_dir(&path)?;
        let leaf = Leaf(path);
        if held.memory > 0 {
            leaf.write("memory.max", &held.memory.to_string())?;
            // Without it memory would merely go to the swap, without end.
            let _ = leaf.write("memory.swap.max", &held.memory.to_string());
            leaf.write("memory.oom.group", "1")?;
        }
        if held.processes > 0 {
            // Beside the launcher's own two, and one on its way.
            let _ = leaf.write("pids.max", &(held.processes + 3).to_string());
        }
        let _ = leaf.write("cpu.weight", WEIGHT);
        Ok(leaf)
    }
}

impl Leaf {
    pub fn path(&self) -> &Path {
        &self.0
    }

    fn write(&self, file: &str, text: &str) -> io::Result<()> {
        fs::write(self.0.join(file), text)
    }

    /// Once the instance has ended: how, and whether all of it has.
    pub fn ended(&self) -> Ended {
        let until = Instant::now() + DYING;
        while populated(&self.0) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        let events = fs::read_to_string(self.0.join("memory.events")).unwrap_or_default();
        let killed = events.lines().find_map(|line| line.strip_prefix("oom_kill "));
        Ended {
            out_of_memory: killed.is_some_and(|count| count != "0"),
            populated: populated(&self.0),
        }
    }
}

impl Drop for Leaf {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.display())
    }
}

fn populated(path: &Path) -> bool {
    let events = fs::read_to_string(path.join("cgroup.events")).unwrap_or_default();
    events.lines().any(|line| line == "populated 1")
}

/// Kills what is in it and removes it. An empty one goes at once.
fn remove(path: &Path) {
    if fs::remove_dir(path).is_ok() {
        return;
    }
    let _ = fs::write(path.join("cgroup.kill"), "1");
    let until = Instant::now() + COLLECTING;
    while fs::remove_dir(path).is_err_and(|error| error.kind() != io::ErrorKind::NotFound)
        && Instant::now() < until
    {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Ends what a previous life of ours has left in `at`; how many instances still had processes.
fn sweep(at: &Path) -> u64 {
    let entries = fs::read_dir(at).into_iter().flatten().flatten();
    let mut found = 0;
    for path in entries.map(|entry| entry.path()) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        if name.is_some_and(|name| name.starts_with(INSTANCE)) {
            found += u64::from(populated(&path));
            remove(&path);
        }
    }
    found
}

fn read(at: &Path, file: &str) -> Result<String, String> {
    let path = at.join(file);
    fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Our cgroup's folder in the second version's tree.
fn own_cgroup() -> Result<PathBuf, String> {
    let read = |path: &str| fs::read_to_string(path).map_err(|error| format!("{path}: {error}"));
    let mounts = read("/proc/self/mountinfo")?;
    let mount = mounts.lines().find_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let mut words = place.split(' ').skip(3);
        let (root, at) = (words.next()?, words.next()?);
        (kind.starts_with("cgroup2 ") && root == "/").then(|| at.to_owned())
    });
    let mount = mount.ok_or("there is no tree of cgroups of the second version")?;
    let own = read("/proc/self/cgroup")?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::"));
    match own.filter(|own| own.len() > 1) {
        Some(own) => Ok(PathBuf::from(mount).join(own.trim_start_matches('/'))),
        None => Err("we are in the root of the tree of cgroups, which is nobody's".to_owned()),
    }
}

/// There are none.
#[cfg(not(target_os = "linux"))]
fn is_delegated(_: &Path) -> bool {
    false
}

/// What systemd says of a cgroup.
#[cfg(target_os = "linux")]
fn is_delegated(at: &Path) -> bool {
    use std::{ffi::CStr, os::unix::ffi::OsStrExt};

    use nix::libc;

    let Ok(path) = std::ffi::CString::new(at.as_os_str().as_bytes()) else { return false };
    let marked = |name: &CStr| {
        let mut value = [0_u8; 2];
        // SAFETY: both names are C strings that live through the call, which writes no more than
        // the length that it is told into a buffer of that length.
        let length = unsafe {
            libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
        };
        length == 1 && value[0] == b'1'
    };
    marked(c"user.delegate") || marked(c"trusted.delegate")
}
