//! Starts a child in a process group of its own, with nothing but what it is given.

use std::{
    ffi::OsString,
    io,
    path::Path,
    process::{ExitStatus, Stdio},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};

/// Everything that a child gets.
pub struct Spec<'a> {
    pub program: &'a Path,
    pub args: &'a [String],
    pub env: Vec<(OsString, OsString)>,
    pub cwd: Option<&'a Path>,
}

pub struct Pipes {
    pub stdin: ChildStdin,
    pub stdout: ChildStdout,
    pub stderr: ChildStderr,
}

/// A child and its process group. Dropping it kills the group.
#[derive(Debug)]
pub struct Child {
    inner: tokio::process::Child,
    group: Pid,
    reaped: bool,
}

pub fn spawn(spec: Spec<'_>) -> io::Result<(Child, Pipes)> {
    #[expect(clippy::disallowed_methods, reason = "the one place that starts children")]
    let mut command = tokio::process::Command::new(spec.program);
    command
        .args(spec.args)
        .env_clear()
        .envs(spec.env)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    if let Some(cwd) = spec.cwd {
        command.current_dir(cwd);
    }
    let mut inner = command.spawn()?;
    let missing = || io::Error::other("the child has no pipe");
    let pipes = Pipes {
        stdin: inner.stdin.take().ok_or_else(missing)?,
        stdout: inner.stdout.take().ok_or_else(missing)?,
        stderr: inner.stderr.take().ok_or_else(missing)?,
    };
    let pid = inner.id().ok_or_else(|| io::Error::other("the child is gone already"))?;
    let group = Pid::from_raw(i32::try_from(pid).map_err(io::Error::other)?);
    Ok((Child { inner, group, reaped: false }, pipes))
}

impl Child {
    pub fn pid(&self) -> i32 {
        self.group.as_raw()
    }

    /// Waits for the leader, then kills what it leaves behind in its group. Cancel safe.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.inner.wait().await?;
        self.reaped = true;
        // The group's number cannot have been given to anyone else while a member lives; if none
        // does, this is ESRCH.
        let _ = killpg(self.group, Signal::SIGKILL);
        Ok(status)
    }

    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    fn signal(&self, signal: Signal) {
        if !self.reaped {
            let _ = killpg(self.group, signal);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}
