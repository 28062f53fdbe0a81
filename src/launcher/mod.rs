//! What `mcp-gateway-exec` does, step by step, and then `execve`: it becomes monitor, pid 1 and
//! backend.
//!
//! Stands apart: it knows no config, no MCP, and of other rooms only the brief. A process of its own,
//! since after a fork in a threaded one hardly anything is legal; it is single-threaded throughout,
//! and so may allocate and say which step failed. Every step is fatal. What is to be done comes as
//! a [`Policy`], how it went goes out as a report.
//!
//! It is started with a socket as its stdin, in which one message waits with five descriptors: the
//! backend's stdin and stdout, the policy, the report, and the lifeline, whose other end only the
//! starter has: when that closes, nothing of the backend is left. stderr is the backend's.
#![allow(unsafe_code)]

#[cfg(target_os = "linux")]
mod landlock;
#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "linux")]
mod monitor;
mod report;
#[cfg(target_os = "linux")]
mod root;
#[cfg(target_os = "linux")]
mod seccomp;
mod steps;
#[cfg(target_os = "linux")]
mod sweep;

use std::{convert::Infallible, fs::File, io::Read, process::ExitCode};

use report::{At, Report, Step, fault};

pub use crate::brief::*;

/// Where they are once the launcher has them.
const REPORT_FD: i32 = 3;
const LIFELINE_FD: i32 = 4;

/// The exit status if a step failed. The report says which.
const FAILED: u8 = 125;

pub fn main() -> ExitCode {
    let Some(policy) = steps::receive() else {
        eprintln!("mcp-gateway-exec is started by mcp-gateway, not by hand");
        return ExitCode::from(64);
    };
    let report = Report::new(steps::file(REPORT_FD));
    match run(policy, &report) {
        Ok(never) => match never {},
        Err(fault) => {
            report.failed(&fault);
            ExitCode::from(FAILED)
        }
    }
}

fn run(policy: File, report: &Report) -> Step<Infallible> {
    let policy = read(policy)?;
    steps::close_fds()?;
    steps::reset_signals()?;
    nix::unistd::setsid().at("session", "")?;
    steps::lifeline_is_held()?;
    steps::rlimits(&policy.limits)?;
    #[cfg(target_os = "linux")]
    {
        nix::sys::prctl::set_name(c"mcp-gateway-exec").at("policy", "its name")?;
        steps::linux::join_cgroup(&policy, report)?;
        steps::linux::shrink_bounding_set("bounding set")?;
        if let Some(ids) = &policy.ids {
            steps::linux::become_user(ids)?;
        }
        if policy.layers.namespaces {
            steps::linux::unshare(&policy, report)?;
            monitor::namespaced(&policy, report)
        } else {
            monitor::portable(&policy, report)
        }
    }
    #[cfg(target_os = "macos")]
    macos::run(&policy, report)
}

fn read(file: File) -> Step<Policy> {
    let mut blob = Vec::new();
    file.take(MAX as u64 + 1).read_to_end(&mut blob).at("policy", "")?;
    Policy::decode(&blob).or_else(|refused| fault("policy", format!("{refused:?}")))
}
