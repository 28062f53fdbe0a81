//! What the launcher tells whoever started it, over a pipe: which layers are on, with their
//! evidence, and the step that failed, with its errno. The pipe's end without a failure, after
//! [`Line::Exec`], means that the program runs.

use std::{fs::File, io::Write, mem::ManuallyDrop};

/// One step that did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which one: see [`super::STEPS`].
    pub step: &'static str,
    /// 0 where no system call failed.
    pub errno: i32,
    /// On what, or what was found instead.
    pub what: String,
}

pub type Step<T = ()> = Result<T, Fault>;

/// Names the step that an outcome belongs to.
pub(super) trait At<T> {
    fn at(self, step: &'static str, what: impl Into<String>) -> Step<T>;
}

impl<T> At<T> for nix::Result<T> {
    fn at(self, step: &'static str, what: impl Into<String>) -> Step<T> {
        self.map_err(|errno| Fault { step, errno: errno as i32, what: what.into() })
    }
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, step: &'static str, what: impl Into<String>) -> Step<T> {
        self.map_err(|error| {
            let what = match error.raw_os_error() {
                Some(_) => what.into(),
                None => format!("{} {error}", what.into()),
            };
            Fault { step, errno: error.raw_os_error().unwrap_or(0), what }
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

/// One layer as it came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    pub name: String,
    pub on: bool,
    /// What shows that it is on, or why it is not.
    pub evidence: String,
}

/// A report as it was received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Received {
    pub layers: Vec<Layer>,
    /// Step, errno, on what.
    pub failed: Option<(String, i32, String)>,
    /// The program was about to run.
    pub exec: bool,
}

impl Received {
    pub fn parse(text: &str) -> Self {
        let mut received = Self::default();
        for line in text.lines() {
            let mut words = line.splitn(4, '\t');
            let mut next = || words.next().unwrap_or_default().to_owned();
            match next().as_str() {
                state @ ("on" | "off") => {
                    let on = state == "on";
                    received.layers.push(Layer { name: next(), on, evidence: next() });
                }
                "fail" if received.failed.is_none() => {
                    received.failed = Some((next(), next().parse().unwrap_or(0), next()));
                }
                "exec" => received.exec = true,
                _ => {}
            }
        }
        received
    }

    /// The program runs, as far as the launcher could see.
    pub fn is_running(&self) -> bool {
        self.exec && self.failed.is_none()
    }
}
