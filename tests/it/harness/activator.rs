//! Holds a socket and starts the gateway when somebody connects, as an init system does: again and
//! again, always with the same socket, which it never closes.

use std::{
    fs,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::{UnixDatagram, UnixListener},
    },
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Running, World, eventually};

/// What stands between the init system's fork and the gateway: descriptors from 3 on, and the pid
/// that only the new process knows.
const EXEC: &str = "exec 3<&0 0</dev/null; LISTEN_PID=$$ exec \"$@\"";

/// One descriptor and the name that it is passed under.
pub struct Passed {
    pub socket: OwnedFd,
    pub name: &'static str,
}

impl World {
    /// `serve`, with this socket passed to it.
    pub fn passed(&self, passed: Passed, args: &[&str]) -> Running {
        let command = self.command(&[&["serve"], args].concat());
        start(&command, passed.socket, passed.name, None)
    }

    /// An init system that holds the socket `socket` for `serve` with these arguments.
    pub fn activator(&self, args: &[&str]) -> Activator {
        Activator::new(self, args)
    }
}

fn start(serve: &Command, socket: OwnedFd, name: &str, notify: Option<&PathBuf>) -> Running {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", EXEC, "sh"]).arg(serve.get_program()).args(serve.get_args());
    command.env_clear().current_dir(serve.get_current_dir().unwrap());
    let env = serve.get_envs().filter_map(|(name, value)| Some((name, value?)));
    command.envs(env).env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", name);
    command.envs(notify.map(|path| ("NOTIFY_SOCKET", path)));
    Running::start_with(command, Stdio::from(socket))
}

pub struct Activator {
    pub socket: PathBuf,
    stop: Arc<AtomicBool>,
    ends: Arc<Mutex<Vec<ExitStatus>>>,
    told: Arc<Mutex<Vec<String>>>,
    log: Arc<Mutex<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Activator {
    fn new(world: &World, args: &[&str]) -> Self {
        let socket = world.path("held.socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let notify = world.path("notify");
        let ear = UnixDatagram::bind(&notify).unwrap();
        ear.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let serve = world.command(&[&["serve"], args].concat());
        let mut activator = Activator {
            socket,
            stop: Arc::default(),
            ends: Arc::default(),
            told: Arc::default(),
            log: Arc::default(),
            thread: None,
        };
        let (stop, told) = (Arc::clone(&activator.stop), Arc::clone(&activator.told));
        thread::spawn(move || {
            let mut text = [0; 4096];
            while !stop.load(Ordering::Relaxed) {
                if let Ok(len) = ear.recv(&mut text) {
                    told.lock().unwrap().push(String::from_utf8_lossy(&text[..len]).into_owned());
                }
            }
        });
        let (stop, ends) = (Arc::clone(&activator.stop), Arc::clone(&activator.ends));
        let log = Arc::clone(&activator.log);
        activator.thread = Some(thread::spawn(move || {
            let dup = || listener.as_fd().try_clone_to_owned().unwrap();
            while !stop.load(Ordering::Relaxed) {
                let mut waits = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
                if poll(&mut waits, PollTimeout::from(20_u8)).unwrap() == 0 {
                    continue;
                }
                let mut running = start(&serve, dup(), "mcp-gateway.socket", Some(&notify));
                while running.is_running() && !stop.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(1));
                }
                if !running.is_running() {
                    ends.lock().unwrap().push(running.ended());
                }
                *log.lock().unwrap() = running.log();
            }
        }));
        activator
    }

    /// How each gateway so far has ended.
    pub fn ends(&self) -> Vec<ExitStatus> {
        self.ends.lock().unwrap().clone()
    }

    /// Waits until so many gateways have ended.
    pub fn ended(&self, many: usize) -> Vec<ExitStatus> {
        let enough = || Some(self.ends()).filter(|ends| ends.len() >= many);
        eventually(&format!("{many} ends"), enough)
    }

    /// What the service manager was told, up to now.
    pub fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }

    /// Waits until it was told this.
    pub fn hears(&self, words: &str) -> String {
        let find = || self.told().into_iter().find(|told| told.contains(words));
        eventually(&format!("{words:?} for the service manager"), find)
    }

    /// What the last gateway that has ended has logged.
    pub fn last_log(&self) -> String {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Activator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
        if thread::panicking() {
            eprintln!("--- told: {:?}\n--- last log: {}", self.told(), self.last_log());
        }
        let _ = fs::remove_file(&self.socket);
    }
}
