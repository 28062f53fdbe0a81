//! Starts a backend through the launcher, and holds its lifeline.
//!
//! A child gets nothing of ours by inheritance: the launcher starts with an empty environment and a
//! socket, and what is the backend's goes through that socket as descriptors.

use std::{
    fs::File,
    io::{self, IoSlice, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::{ExitStatus, Stdio},
};

use nix::{
    sys::{
        signal::{Signal, kill},
        socket::{ControlMessage, MsgFlags, sendmsg},
    },
    unistd::Pid,
};
use tokio::{io::AsyncReadExt, net::unix::pipe};

use super::cgroup::{Ended, Leaf};
use crate::launcher::{HELLO, Received};

/// The most that a report can be; a launcher does not write a tenth of it.
const REPORT: u64 = 64 << 10;

/// The launcher's file, opened once: an upgrade on disk does not mix versions.
#[derive(Debug)]
pub struct Launcher(
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))] File,
    std::path::PathBuf,
);

impl Launcher {
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Launcher(File::open(path)?, path.to_owned()))
    }

    pub fn path(&self) -> &Path {
        &self.1
    }

    fn command(&self) -> tokio::process::Command {
        // Found before descriptors are closed on exec.
        #[cfg(target_os = "linux")]
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        #[cfg(not(target_os = "linux"))]
        let path = &self.1;
        #[expect(clippy::disallowed_methods, reason = "the one place that starts children")]
        let mut command = tokio::process::Command::new(path);
        command.arg0(&self.1).env_clear();
        command
    }
}

pub struct Pipes {
    pub stdin: pipe::Sender,
    pub stdout: pipe::Receiver,
    pub stderr: pipe::Receiver,
}

/// A backend's monitor, and with it all that the backend has. Dropping it ends them.
#[derive(Debug)]
pub struct Child {
    inner: tokio::process::Child,
    pid: i32,
    /// Nobody else has this end. Once it is closed, nothing of the backend is left.
    lifeline: Option<OwnedFd>,
    reaped: bool,
    leaf: Option<Leaf>,
    left: Ended,
}

/// What the launcher has to say, until the program runs or will not.
pub struct Report(pipe::Receiver);

impl Report {
    /// Its end. Cancel safe for those who then drop it.
    pub async fn read(self) -> io::Result<Received> {
        let mut text = Vec::new();
        self.0.take(REPORT).read_to_end(&mut text).await?;
        Ok(Received::parse(&String::from_utf8_lossy(&text)))
    }
}

/// Starts the launcher with an encoded policy.
pub fn spawn(launcher: &Launcher, policy: &[u8]) -> io::Result<(Child, Pipes, Report)> {
    let (stdin, our_stdin) = io::pipe()?;
    let (our_stdout, stdout) = io::pipe()?;
    let (our_stderr, stderr) = io::pipe()?;
    let (our_report, report) = io::pipe()?;
    let (lifeline, held) = io::pipe()?;
    let (ours, theirs) = UnixStream::pair()?;
    let policy = sealed(policy)?;
    let fds = [
        stdin.as_raw_fd(),
        stdout.as_raw_fd(),
        policy.as_raw_fd(),
        report.as_raw_fd(),
        lifeline.as_raw_fd(),
    ];
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(ours.as_raw_fd(), &[IoSlice::new(HELLO)], &rights, MsgFlags::empty(), None)?;
    let inner = launcher
        .command()
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::from(OwnedFd::from(stderr)))
        .spawn()?;
    let pid = inner.id().and_then(|pid| i32::try_from(pid).ok());
    let pid = pid.ok_or_else(|| io::Error::other("the child is gone already"))?;
    let child = Child {
        inner,
        pid,
        lifeline: Some(held.into()),
        reaped: false,
        leaf: None,
        left: Ended::default(),
    };
    let pipes = Pipes {
        stdin: pipe::Sender::from_owned_fd(nonblocking(our_stdin)?)?,
        stdout: pipe::Receiver::from_owned_fd(nonblocking(our_stdout)?)?,
        stderr: pipe::Receiver::from_owned_fd(nonblocking(our_stderr)?)?,
    };
    Ok((child, pipes, Report(pipe::Receiver::from_owned_fd(nonblocking(our_report)?)?)))
}

/// Our end only: the backend's is another open file.
fn nonblocking(fd: impl Into<OwnedFd>) -> io::Result<OwnedFd> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let fd = fd.into();
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(fd)
}

/// A file in memory that nobody can change any more, at its beginning.
#[cfg(target_os = "linux")]
fn sealed(bytes: &[u8]) -> io::Result<File> {
    use nix::{
        fcntl::{FcntlArg, SealFlag, fcntl},
        sys::memfd::{MFdFlags, memfd_create},
    };
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create("policy", flags)?);
    file.write_all(bytes)?;
    let seals = SealFlag::F_SEAL_SEAL
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    io::Seek::rewind(&mut file)?;
    Ok(file)
}

/// A file without a name, at its beginning.
#[cfg(not(target_os = "linux"))]
fn sealed(bytes: &[u8]) -> io::Result<File> {
    let (fd, path) = nix::unistd::mkstemp(&std::env::temp_dir().join("mcp-gateway-XXXXXX"))?;
    std::fs::remove_file(path)?;
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    io::Seek::rewind(&mut file)?;
    Ok(file)
}

impl Child {
    /// The monitor's pid.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits for the backend's end, after which nothing of it is left. Cancel safe.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.inner.wait().await?;
        self.reaped = true;
        if let Some(leaf) = self.leaf.take() {
            self.left = leaf.ended();
        }
        Ok(status)
    }

    /// The cgroup that it is in, if any, goes with it.
    pub fn hold(&mut self, leaf: Option<Leaf>) {
        self.leaf = leaf;
    }

    /// What its cgroup said at its end.
    pub fn left(&self) -> Ended {
        self.left
    }

    /// Asks the backend's process group to end.
    pub fn terminate(&self) {
        if !self.reaped {
            let _ = kill(Pid::from_raw(self.pid), Signal::SIGTERM);
        }
    }

    /// Ends all that the backend has. Never by a signal: where there is no pid namespace the
    /// monitor must live to find what the backend has started.
    pub fn kill(&mut self) {
        self.lifeline.take();
    }
}
