//! A gateway that runs: its log, its signals, its end.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    os::unix::{ffi::OsStrExt, net::UnixStream, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use super::{Client, Framed, Http, eventually};

pub struct Running {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Running {
    pub(super) fn start(command: Command) -> Self {
        Self::start_with(command, Stdio::piped())
    }

    pub(super) fn start_with(mut command: Command, stdin: Stdio) -> Self {
        let mut child = command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let log = Arc::<Mutex<Vec<String>>>::default();
        let (lines, into) =
            (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&log));
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                into.lock().unwrap().push(line);
            }
        });
        Running { child, log }
    }

    pub(super) fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    pub(super) fn stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().unwrap()
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// All log lines up to now.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Waits for a log line with these words in it.
    pub fn logged(&self, words: &str) -> String {
        let find = || self.log.lock().unwrap().iter().find(|line| line.contains(words)).cloned();
        eventually(&format!("{words:?} in the log"), find)
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its exit code.
    pub fn code(&mut self) -> Option<i32> {
        eventually("the gateway's end", || self.child.try_wait().unwrap()).code()
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        let log = Arc::clone(&self.log);
        let look = || self.child.try_wait().unwrap();
        let status = eventually("the gateway's end", look);
        if !status.success() {
            eprintln!("{}", log.lock().unwrap().join("\n"));
        }
        status
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- log of {}\n{}", self.pid(), self.log());
        }
        if self.is_running() {
            let _ = killpg(Pid::from_raw(self.pid()), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// `mcp-gateway serve`, which listens.
pub struct Daemon {
    pub running: Running,
    pub address: SocketAddr,
    pub socket: PathBuf,
}

impl Daemon {
    pub(super) fn new(mut running: Running, socket: PathBuf) -> Self {
        drop(running.stdin());
        let line = running.logged("listening on http://");
        let (_, rest) = line.split_once("http://").unwrap();
        let address = rest.split('/').next().unwrap().parse().unwrap();
        running.logged(&format!("listening on {}", socket.display()));
        Daemon { running, address, socket }
    }

    /// A framed session over the Unix socket, not yet initialized; `preface` as JSON.
    pub fn raw_unix(&self, preface: &str) -> Framed {
        let stream = UnixStream::connect(&self.socket).unwrap();
        let mut framed = Framed::over_unix(stream);
        framed.send(&format!("MCP-GATEWAY 1 {preface}"));
        framed
    }

    pub fn unix(&self) -> Framed {
        self.raw_unix("{}").opened()
    }

    pub fn unix_with(&self, server: &str) -> Framed {
        self.raw_unix(&format!("{{\"server\":{server:?}}}")).opened()
    }

    /// Streamable HTTP, not yet initialized.
    pub fn raw_http(&self, path: &str) -> Http {
        Http::over_tcp(self.address, path)
    }

    pub fn http(&self) -> Http {
        self.raw_http("/mcp").opened()
    }

    pub fn http_with(&self, server: &str) -> Http {
        self.raw_http(&format!("/mcp/{server}")).opened()
    }

    /// Streamable HTTP over the Unix socket.
    pub fn http_over_unix(&self, path: &str) -> Http {
        Http::over_unix(&self.socket, path).opened()
    }

    /// HTTP+SSE, not yet initialized.
    pub fn raw_sse(&self) -> Framed {
        Framed::over_sse(self.raw_http("/sse"))
    }

    pub fn sse(&self) -> Framed {
        self.raw_sse().opened()
    }
}

/// Every process whose `HOME` is this folder or in it, as that of a backend: pid and command line.
pub(super) fn with_home(folder: &Path) -> Vec<(i32, String)> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let ours = pids.filter(|pid| {
        let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mut variables = environ.split(|byte| *byte == 0);
        variables.any(|variable| {
            let home = variable.strip_prefix(b"HOME=").map(OsStr::from_bytes);
            home.is_some_and(|home| Path::new(home).starts_with(folder))
        })
    });
    let named = ours.filter_map(|pid| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        Some((pid, String::from_utf8_lossy(&words).replace('\0', " ")))
    });
    named.collect()
}
