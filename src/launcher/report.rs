//! What the launcher tells whoever started it, over a pipe: which layers are on, with their
//! evidence, and the step that failed, with its errno. The pipe's end without a failure, after
//! `exec`, means that the program runs.

use std::{
    fs::File,
    io::{self, Write},
    mem::ManuallyDrop,
};

/// One step that did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Which one.
    pub(super) step: &'static str,
    /// 0 where no system call failed.
    pub(super) errno: i32,
    /// On what, or what was found instead.
    pub(super) what: String,
}

pub(super) type Step<T = ()> = Result<T, Fault>;

/// Names the step that an outcome belongs to.
pub(super) trait At<T> {
    fn at(self, step: &'static str, what: impl Into<String>) -> Step<T>;
}

impl<T, E: Into<io::Error>> At<T> for Result<T, E> {
    fn at(self, step: &'static str, what: impl Into<String>) -> Step<T> {
        self.map_err(|error| {
            let (error, what) = (error.into(), what.into());
            match error.raw_os_error() {
                Some(errno) => Fault { step, errno, what },
                None => Fault { step, errno: 0, what: format!("{what} {error}") },
            }
        })
    }
}

pub(super) fn fault<T>(step: &'static str, what: impl Into<String>) -> Step<T> {
    Err(Fault { step, errno: 0, what: what.into() })
}

/// The writing end, which each process of the launcher has until the program runs.
pub(super) struct Report(ManuallyDrop<File>);

impl Report {
    /// Closes nothing when it goes: the descriptor is the process's.
    pub(super) fn new(file: File) -> Self {
        Report(ManuallyDrop::new(file))
    }

    pub(super) fn on(&self, layer: &str, evidence: &str) {
        self.line(&["on", layer, evidence]);
    }

    pub(super) fn off(&self, layer: &str, why: &str) {
        self.line(&["off", layer, why]);
    }

    pub(super) fn failed(&self, fault: &Fault) {
        self.line(&["fail", fault.step, &fault.errno.to_string(), &fault.what]);
    }

    pub(super) fn exec(&self) {
        self.line(&["exec"]);
    }

    /// One write, so that lines of several processes do not mix. Nobody may listen any more.
    fn line(&self, words: &[&str]) {
        let mut line = words.join("\t").replace('\n', " ");
        while line.len() > 4000 {
            line.pop();
        }
        line.push('\n');
        let _ = (&*self.0).write_all(line.as_bytes());
    }
}
