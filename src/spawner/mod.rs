//! Starts and stops instances. Today as plain children in their own process group.
//!
//! Decides what a child gets: its program, its environment, its folder. Does not know MCP.
#![forbid(unsafe_code)]

use std::{
    env,
    ffi::OsString,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::{
    config::Server,
    sys::spawn::{self, Child, Pipes, Spec},
};

/// What every backend gets of our own environment, where it is set; the rest is its `env:`.
const INHERITED: [&str; 6] = ["HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER"];

/// Where programs are looked for when the environment names no PATH.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Why an instance could not be started. Each names the thing and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("no program \"{command}\" in {path}: install it, or write its full path")]
    NotInPath { command: String, path: String },
    #[error("no file {}", .0.display())]
    Missing(PathBuf),
    #[error("{} is not executable (chmod +x, or name its interpreter as the command)", .0.display())]
    NotExecutable(PathBuf),
    #[error("cwd {} is not a folder", .0.display())]
    NoFolder(PathBuf),
    #[error("{} cannot be run: its interpreter (the `#!` line) is missing", .0.display())]
    NoInterpreter(PathBuf),
    #[error("{} cannot be run: {error}", program.display())]
    Exec { program: PathBuf, error: io::Error },
}

#[derive(Debug, Default)]
pub struct Spawner;

impl Spawner {
    pub fn start(&self, server: &Server) -> Result<(Child, Pipes), StartError> {
        let env = environment(server);
        let cwd = server.cwd.as_deref();
        if let Some(cwd) = cwd
            && !cwd.is_dir()
        {
            return Err(StartError::NoFolder(cwd.to_owned()));
        }
        let program = resolve(&server.command, &env, cwd)?;
        spawn::spawn(Spec { program: &program, args: &server.args, env, cwd }).map_err(|error| {
            match error.kind() {
                io::ErrorKind::NotFound => StartError::NoInterpreter(program),
                io::ErrorKind::PermissionDenied => StartError::NotExecutable(program),
                _ => StartError::Exec { program, error },
            }
        })
    }
}

fn environment(server: &Server) -> Vec<(OsString, OsString)> {
    let own = INHERITED.iter().filter_map(|name| Some((OsString::from(name), env::var_os(name)?)));
    let mut all: Vec<(OsString, OsString)> = own.collect();
    for (name, value) in &server.env {
        all.retain(|(known, _)| known.to_str() != Some(name));
        all.push((name.into(), value.expose().into()));
    }
    all
}

/// The program's file: as given where it has a slash, else the first match in the child's PATH.
fn resolve(
    command: &str,
    env: &[(OsString, OsString)],
    cwd: Option<&Path>,
) -> Result<PathBuf, StartError> {
    if command.contains('/') {
        let path = cwd.map_or_else(|| PathBuf::from(command), |cwd| cwd.join(command));
        return if !path.is_file() {
            Err(StartError::Missing(path))
        } else if !is_executable(&path) {
            Err(StartError::NotExecutable(path))
        } else {
            Ok(path)
        };
    }
    let path = env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
    let path = path.unwrap_or_else(|| DEFAULT_PATH.into());
    let found: Vec<PathBuf> = env::split_paths(&path)
        .map(|folder| folder.join(command))
        .filter(|p| p.is_file())
        .collect();
    if let Some(program) = found.iter().find(|program| is_executable(program)) {
        return Ok(program.clone());
    }
    match found.into_iter().next() {
        Some(program) => Err(StartError::NotExecutable(program)),
        None => Err(StartError::NotInPath {
            command: command.to_owned(),
            path: format!("PATH ({})", path.to_string_lossy()),
        }),
    }
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0)
}
