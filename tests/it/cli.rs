//! The command line as one types it: the words, the texts, the exit codes.

mod call;
mod config;
mod serve;
mod words;

use std::{
    io::Write,
    process::{Command, Output, Stdio},
    sync::mpsc::channel,
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::harness::{PATIENCE, World};

const GATEWAY: &str = env!("CARGO_BIN_EXE_mcp-gateway");

/// What a verb did.
struct Did {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Did {
    fn from(output: Output) -> Did {
        Did {
            code: output.status.code().unwrap_or_else(|| panic!("{output:?}")),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// The gateway in this world's folder, with nothing of our own environment but `PATH`.
fn command(world: &World, args: &[&str]) -> Command {
    let mut command = Command::new(GATEWAY);
    command
        .args(args)
        .current_dir(world.folder())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", world.folder())
        .env("MCP_GATEWAY_CACHE", world.path("cache"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs it to its end, which must come in time.
fn finish(mut command: Command, input: Option<&str>) -> Did {
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    if let Some(input) = input {
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    }
    let (done, ended) = channel();
    thread::spawn(move || done.send(child.wait_with_output().unwrap()));
    match ended.recv_timeout(PATIENCE) {
        Ok(output) => output.into(),
        Err(_) => {
            kill(pid, Signal::SIGKILL).unwrap();
            panic!("{command:?} does not end")
        }
    }
}

fn run(world: &World, args: &[&str]) -> Did {
    finish(command(world, args), None)
}

fn run_with(world: &World, args: &[&str], env: &[(&str, &str)]) -> Did {
    let mut command = command(world, args);
    command.envs(env.iter().copied());
    finish(command, None)
}
