//! A world for one test: a temp folder, a config in it, the real binary, and clients of it.
//!
//! Everything that is started has the folder as its `HOME`, backends too, since that is one of the
//! six variables they inherit. So a test can see what it left behind, and dropping the [`World`]
//! ends it. Nothing waits without a deadline.

mod activator;
mod framed;
mod http;
mod message;
mod process;

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use nix::{sys::signal::Signal, unistd::Pid};
use tempfile::TempDir;

pub use activator::{Activator, Passed};
pub use framed::Framed;
pub use http::{Exchange, Http};
pub use message::{Client, Msg};
pub use process::{Daemon, Running};

/// No wait of a test is longer.
pub const PATIENCE: Duration = Duration::from_secs(30);

const GATEWAY: &str = env!("CARGO_BIN_EXE_mcp-gateway");
pub const BRIDGE: &str = env!("CARGO_BIN_EXE_mcp-gateway-stdio");

/// The words of `name: {command: …}` for `faulty.py MODE [ARGUMENT…]` with more keys.
pub fn faulty(name: &str, mode: &str, keys: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/backends/faulty.py");
    let mode: Vec<String> = mode.split(' ').map(|word| format!("{word:?}")).collect();
    let keys = if keys.is_empty() { String::new() } else { format!(", {keys}") };
    let mode = mode.join(", ");
    format!("  {name}: {{command: {}, args: [-S, -E, {script}, {mode}]{keys}}}\n", python())
}

/// One of our cargo examples as a backend.
pub fn example(name: &str, program: &str, args: &str, keys: &str) -> String {
    let path = Path::new(GATEWAY).with_file_name("examples").join(program);
    assert!(path.exists(), "{} is missing: cargo build --examples", path.display());
    let keys = if keys.is_empty() { String::new() } else { format!(", {keys}") };
    format!("  {name}: {{command: {}, args: [{args}]{keys}}}\n", path.display())
}

/// Says that a test was not made, and counts it where tests/run.sh counts: for libtest it has
/// passed, and what it prints is seen by nobody.
pub fn skipped(why: &str) {
    eprintln!("skipped: {why}");
    if let Some(path) = std::env::var_os("MCP_GATEWAY_SKIPS") {
        let mut file = fs::File::options().append(true).create(true).open(path).unwrap();
        writeln!(file, "{why}").unwrap();
    }
}

/// The interpreter itself: a shim would start three processes, and look into `HOME`.
pub fn python() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let said =
            Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
        String::from_utf8(said.expect("python3 is needed").stdout).unwrap().trim().to_owned()
    })
}

/// Asks again and again until there is an answer.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub struct World {
    folder: TempDir,
    env: Vec<(String, String)>,
}

impl World {
    /// A world whose config has these lines under `servers:`.
    pub fn with(servers: &str) -> Self {
        Self::new(&format!("servers:\n{servers}"))
    }

    /// A world with this config; `{DIR}` in it is the world's folder.
    pub fn new(config: &str) -> Self {
        Self::new_in(&std::env::temp_dir(), config)
    }

    /// The same, but in another place than the usual one.
    pub fn new_in(place: &Path, config: &str) -> Self {
        let folder = TempDir::with_prefix_in("mcp-gateway-it-", place).unwrap();
        let world = World { folder, env: Vec::new() };
        // What a backend may write to, if its config says so.
        fs::create_dir(world.path("traces")).unwrap();
        world.write("gateway.yaml", &config.replace("{DIR}", &world.folder().to_string_lossy()));
        world
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn command(&self, args: &[&str]) -> Command {
        self.command_of(GATEWAY, args)
    }

    fn command_of(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(args)
            .current_dir(self.folder())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder())
            .env("MCP_GATEWAY_CACHE", self.path("cache"))
            // Also where the build does not lie in the tree.
            .env("MCP_GATEWAY_PYTHON", concat!(env!("CARGO_MANIFEST_DIR"), "/python/src"))
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a verb to its end, behind another command.
    pub fn run_behind(&self, before: &[&str], args: &[&str]) -> Output {
        let own = self.command(args);
        let mut command = Command::new(before[0]);
        command.args(&before[1..]).arg(GATEWAY).args(args).current_dir(self.folder()).env_clear();
        let env = own.get_envs().filter_map(|(name, value)| Some((name, value?)));
        command.envs(env).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a verb to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().unwrap()
    }

    /// `mcp-gateway stdio`, not yet initialized.
    pub fn raw_stdio(&self, args: &[&str]) -> Framed {
        let mut running = Running::start(self.command(&[&["stdio"], args].concat()));
        let (input, output) = (running.stdin(), running.stdout());
        Framed::new(input, output, Some(running))
    }

    /// `mcp-gateway-stdio` to the world's own socket, not yet initialized.
    pub fn raw_bridge(&self, args: &[&str]) -> Framed {
        let mut command = self.command_of(BRIDGE, args);
        command.env("MCP_GATEWAY_SOCKET", self.path("socket"));
        let mut running = Running::start(command);
        let (input, output) = (running.stdin(), running.stdout());
        Framed::new(input, output, Some(running))
    }

    /// Runs `mcp-gateway-stdio` to its end, with no socket given.
    pub fn run_bridge(&self, args: &[&str]) -> Output {
        self.command_of(BRIDGE, args).stdin(Stdio::null()).output().unwrap()
    }

    /// A session over stdio.
    pub fn stdio(&self) -> Framed {
        self.raw_stdio(&[]).opened()
    }

    /// A session over stdio with one backend under its own names.
    pub fn stdio_with(&self, server: &str) -> Framed {
        self.raw_stdio(&["--server", server]).opened()
    }

    /// `mcp-gateway serve` on a free port and on a Unix socket.
    pub fn serve(&self) -> Daemon {
        self.serve_with(&[])
    }

    pub fn serve_with(&self, args: &[&str]) -> Daemon {
        let socket = self.path("socket");
        let given = ["serve", "--port", "0", "--socket", socket.to_str().unwrap()];
        let running = Running::start(self.command(&[&given, args].concat()));
        Daemon::new(running, socket)
    }

    /// What runs of the backends: pid and command line.
    pub fn children(&self) -> Vec<(i32, String)> {
        let all = process::with_home(self.folder()).into_iter();
        all.filter(|(_, words)| !words.starts_with(GATEWAY)).collect()
    }

    /// The one backend process there is.
    pub fn child(&self) -> i32 {
        let children = self.children();
        assert_eq!(children.len(), 1, "{children:?}");
        children[0].0
    }

    /// So many backends and no more, soon and for good.
    pub fn gone_soon(&self, left: usize) {
        eventually("the others' end", || (self.children().len() == left).then_some(()));
    }

    /// Waits until nothing that was started in this world runs.
    pub fn assert_empty(&self) {
        let mut left = Vec::new();
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            left = process::with_home(self.folder());
            if left.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("still there: {left:?}");
    }

    /// Nothing that was started in this world runs, now.
    pub fn assert_empty_now(&self) {
        let left = process::with_home(self.folder());
        assert!(left.is_empty(), "still there: {left:?}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for (pid, _) in process::with_home(self.folder()) {
            let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

impl World {
    /// Why a session with this backend alone cannot begin.
    pub fn stdio_with_error(&self, server: &str) -> String {
        let mut client = self.raw_stdio(&["--server", server]);
        let answer = client.initialize(serde_json::json!({}));
        let text = answer.json()["error"]["message"].as_str().map(str::to_owned);
        text.unwrap_or_else(|| panic!("{answer:?}"))
    }
}
