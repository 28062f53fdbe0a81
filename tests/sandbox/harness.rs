//! Starts the launcher as the spawner does, from a plain thread.

use std::{
    ffi::OsString,
    fs::{self, File, Permissions},
    io::{IoSlice, PipeReader, Read, Seek, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            fs::{PermissionsExt, chown},
            net::UnixStream,
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use mcp_gateway::launcher::{HELLO, Ids, Layers, Limits, Policy, Received};
use nix::{
    sys::{
        signal::{Signal, kill},
        socket::{ControlMessage, MsgFlags, sendmsg},
    },
    unistd::Pid,
};
use tempfile::TempDir;

/// A user that no machine has.
pub const UID: u32 = 61001;

/// No wait of a test is longer.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub const LAUNCHER: &str = env!("CARGO_BIN_EXE_mcp-gateway-exec");

/// Asks again and again until there is an answer.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Who starts the launcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum As {
    /// Root, and the launcher becomes the user.
    Root,
    /// The user, without any privilege.
    User,
    /// Root, and the launcher stays root, as when somebody runs the gateway in a root shell.
    RootItself,
}

impl As {
    pub fn uid(self) -> u32 {
        if self == As::RootItself { 0 } else { UID }
    }
}

/// A folder that the user can reach, with a copy of the launcher, and a tag by which everything
/// that was started from here is found again.
pub struct Place {
    pub folder: TempDir,
    pub tag: String,
}

impl Place {
    pub fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests need root");
        let folder = TempDir::with_prefix_in("mcp-gateway-box-", "/var/tmp").unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let copy = folder.path().join("mcp-gateway-exec");
        if fs::hard_link(LAUNCHER, &copy).is_err() {
            fs::copy(LAUNCHER, &copy).unwrap();
        }
        let tag = folder.path().file_name().unwrap().to_string_lossy().into_owned();
        Place { folder, tag }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A folder of the user.
    pub fn own_folder(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        chown(&path, Some(UID), Some(UID)).unwrap();
        // For root without capabilities as well.
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        path
    }

    /// What runs a program here as `by`, with every layer and nothing granted but the program.
    pub fn policy(&self, program: &str, args: &[&str], by: As) -> Policy {
        let ids = Ids { uid: UID, gid: UID, groups: Vec::new() };
        let args = [&[program], args].concat();
        Policy {
            program: program.into(),
            args: args.into_iter().map(OsString::from).collect(),
            env: vec![
                ("PATH".into(), "/usr/bin:/bin".into()),
                ("TAG".into(), self.tag.clone().into()),
            ],
            home: Some(self.own_folder("home")),
            ids: (by == As::Root).then_some(ids),
            layers: Layers::ALL,
            limits: Limits {
                memory: 0,
                processes: 64,
                open_files: 1024,
                file: 0,
                tmp: 64 << 20,
                shm: 64 << 20,
            },
            ..Policy::default()
        }
    }

    /// A shell script as the program.
    pub fn script(&self, text: &str, by: As) -> Policy {
        self.policy("/bin/sh", &["-c", text], by)
    }

    pub fn start(&self, policy: &Policy, by: As) -> Started {
        let mut command = Command::new(self.path("mcp-gateway-exec"));
        command.env_clear().env("LAUNCHER", &self.tag);
        if by == As::User {
            command.uid(UID).gid(UID);
        }
        Started::new(command, &policy.encode().unwrap())
    }

    /// Runs it to its end.
    pub fn run(&self, policy: &Policy, by: As) -> Ended {
        self.start(policy, by).end()
    }

    /// Every process that was started from here and may still do something, launchers included. One
    /// that SIGKILL waits for does nothing any more: a busy kernel may take its time to run a new
    /// process for the first and last time.
    pub fn alive(&self) -> Vec<(i32, String)> {
        let pids = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let ours = pids.filter(|pid| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.split(|byte| *byte == 0).any(|variable| {
                let variable = String::from_utf8_lossy(variable);
                // The last is a child of a starter that has not become the launcher yet.
                ["TAG=", "LAUNCHER=", "STARTER_OF="]
                    .iter()
                    .any(|name| variable.strip_prefix(name) == Some(&self.tag))
            })
        });
        let living = ours.filter(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let pending = |key| {
                let set = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or("0");
                u64::from_str_radix(set.trim(), 16).unwrap_or(0) >> 8 & 1 == 1
            };
            !pending("SigPnd:") && !pending("ShdPnd:")
        });
        let named = living.filter_map(|pid| {
            let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            Some((pid, String::from_utf8_lossy(&words).replace('\0', " ")))
        });
        named.collect()
    }

    /// How long it takes until nothing is left.
    pub fn gone(&self) -> Duration {
        let began = Instant::now();
        eventually("the end of everything", || self.alive().is_empty().then_some(()));
        began.elapsed()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for (pid, _) in self.alive() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

pub struct Started {
    pub monitor: Child,
    pub stdin: Option<std::io::PipeWriter>,
    pub stdout: PipeReader,
    pub stderr: PipeReader,
    report: PipeReader,
    /// Dropping it ends the backend.
    pub lifeline: Option<std::io::PipeWriter>,
}

pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    pub report: Received,
}

impl Started {
    pub fn new(mut command: Command, policy: &[u8]) -> Self {
        let (stdin, our_stdin) = std::io::pipe().unwrap();
        let (our_stdout, stdout) = std::io::pipe().unwrap();
        let (our_stderr, stderr) = std::io::pipe().unwrap();
        let (our_report, report) = std::io::pipe().unwrap();
        let (lifeline, held) = std::io::pipe().unwrap();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut file: File = tempfile::tempfile().unwrap();
        file.write_all(policy).unwrap();
        file.rewind().unwrap();
        let fds =
            [&stdin as &dyn AsRawFd, &stdout, &file, &report, &lifeline].map(|fd| fd.as_raw_fd());
        let rights = [ControlMessage::ScmRights(&fds)];
        sendmsg::<()>(ours.as_raw_fd(), &[IoSlice::new(HELLO)], &rights, MsgFlags::empty(), None)
            .unwrap();
        let monitor = command
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::from(OwnedFd::from(stderr)))
            .spawn()
            .unwrap();
        Started {
            monitor,
            stdin: Some(our_stdin),
            stdout: our_stdout,
            stderr: our_stderr,
            report: our_report,
            lifeline: Some(held),
        }
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.monitor.id()).unwrap()
    }

    /// The launcher's report, once the program runs or will not.
    pub fn report(&mut self) -> Received {
        let mut text = String::new();
        self.report.read_to_string(&mut text).unwrap();
        Received::parse(&text)
    }

    /// One line of its stdout.
    pub fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while self.stdout.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }

    pub fn ended(&mut self) -> ExitStatus {
        eventually("the monitor's end", || self.monitor.try_wait().unwrap())
    }

    pub fn end(mut self) -> Ended {
        self.stdin.take();
        let report = self.report();
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout).unwrap();
        self.stderr.read_to_string(&mut stderr).unwrap();
        Ended { status: self.ended(), stdout, stderr, report }
    }
}

/// Whether `path` is there.
pub fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}
