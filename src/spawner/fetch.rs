//! Fetches the packages of `npx` and `uvx` servers ahead of their start, in a sandbox of its own: with
//! a network, with the server's home to write to, and with nothing else, no secret and no folder.
//! The server itself then runs with `--offline`.
//!
//! What was fetched is noted outside of the server's reach. A package is fetched anew only if there
//! is no such note, the command line asks for another one, or the cache has gone.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

use super::{
    Spawner, StartError,
    package::{Fetched, Package, Tool},
};
use crate::config::{Limits, Network, Profile, Sandbox, Server};

/// The most that a fetch may print of what it has; npm's lock files are long.
const SAID: u64 = 64 << 20;
/// The most of a line of its stderr, and the lines that are kept.
const LINE: u64 = 4 << 10;
const WORDS: usize = 3;
/// A note is short.
const NOTE: u64 = 64 << 10;

/// Variables of a server that say how to fetch, by what they begin with; the others stay away.
const WAYS: [&str; 7] =
    ["npm_config_", "NPM_CONFIG_", "UV_", "PIP_", "SSL_CERT_", "NODE_EXTRA_CA_", "NODE_USE_"];
const PROXIES: [&str; 6] =
    ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"];

/// What is being fetched now.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    /// One at a time for each server, since they share its home.
    turns: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    running: Mutex<BTreeMap<String, String>>,
}

/// One that is shown as long as it runs.
struct Running<'a>(&'a Fetches, &'a str);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        held(&self.0.running).remove(self.1);
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Spawner {
    /// Whether `server` has to be fetched before it can start.
    pub fn must_fetch(&self, server: &Server) -> bool {
        package(server).is_some_and(|package| self.noted(server, &package).is_none())
    }

    /// What is being fetched for it now.
    pub fn fetching(&self, server: &str) -> Option<String> {
        held(&self.fetches.running).get(server).cloned()
    }

    /// What `server` has been fetched as, or what will be at its first start.
    pub fn package(&self, server: &Server) -> Option<(String, Option<Fetched>)> {
        let package = package(server)?;
        Some((package.shown(), self.noted(server, &package)))
    }

    /// `server` as it is started: without asking the network for what is there already.
    pub(super) fn offline<'a>(&self, server: &'a Server) -> Cow<'a, Server> {
        if package(server).is_none_or(|package| self.noted(server, &package).is_none()) {
            return Cow::Borrowed(server);
        }
        let mut server = server.clone();
        server.args.insert(0, "--offline".to_owned());
        Cow::Owned(server)
    }

    /// Fetches what `server` lacks.
    pub async fn prepare(&self, server: &Server) -> Result<(), StartError> {
        if !self.must_fetch(server) {
            return Ok(());
        }
        let turn = Arc::clone(held(&self.fetches.turns).entry(server.name.clone()).or_default());
        let _turn = turn.lock().await;
        if self.must_fetch(server) {
            tracing::info!(server = server.name, "fetching its package");
            let fetched = self.fetch(server, &mut |_| {}).await?;
            if let Some((spec, fetched)) = fetched {
                let Fetched { version, integrity } = fetched;
                tracing::info!(server = server.name, version, integrity, "fetched {spec}");
            }
        }
        Ok(())
    }

    /// Fetches it, whether it is there or not, and notes what came; `line` hears what is said
    /// meanwhile. `None`: there is nothing to fetch.
    pub async fn fetch(
        &self,
        server: &Server,
        line: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Option<(String, Fetched)>, StartError> {
        let Some(package) = package(server) else { return Ok(None) };
        held(&self.fetches.running).insert(server.name.clone(), package.shown());
        let _running = Running(&self.fetches, &server.name);
        let failed = |reason| StartError::Fetch { package: package.shown(), reason };
        let alone = alone(server);
        let mut policy = self.policy(&alone)?;
        let args = package.fetching(&policy.program.to_string_lossy());
        policy.args = args.into_iter().map(Into::into).collect();
        policy.program = "/bin/sh".into();
        let (mut started, _) = self.launch(&alone, policy).await?;
        drop(started.pipes.stdin);
        let mut said = String::new();
        let mut last = Vec::new();
        let (stdout, stderr) = (started.pipes.stdout, started.pipes.stderr);
        let work = async {
            let mut stdout = stdout.take(SAID);
            let reading = stdout.read_to_string(&mut said);
            let hearing = hear(stderr, &mut last, line);
            let (read, ()) = tokio::join!(reading, hearing);
            read?;
            started.child.wait().await
        };
        // A child that is late goes with what holds it.
        let ended = tokio::time::timeout(server.timeouts.fetch, work).await;
        let words = || {
            let text = last.join(" | ");
            // What is private in its address stays out of the answer.
            alone.env.iter().map(|(name, value)| (name, value.expose())).fold(
                text,
                |text, (name, value)| match value.len() {
                    0..8 => text,
                    _ => text.replace(value, &format!("${{{name}}}")),
                },
            )
        };
        match ended {
            Err(_) => {
                let most = server.timeouts.fetch.as_secs_f32();
                Err(failed(format!("not done within {most} s (timeouts.fetch): {}", words())))
            }
            Ok(Err(error)) => Err(failed(error.to_string())),
            Ok(Ok(status)) if !status.success() => Err(failed(format!("{status}: {}", words()))),
            Ok(Ok(_)) => {
                let fetched = package.said(&said);
                let fetched = fetched.ok_or_else(|| failed("it is not there".to_owned()))?;
                self.note(server, &package, &fetched)?;
                Ok(Some((package.shown(), fetched)))
            }
        }
    }

    fn note_of(&self, server: &Server) -> Option<PathBuf> {
        let state = self.folders.state.as_ref()?;
        Some(state.join("fetched").join(format!("{}.json", server.name)))
    }

    /// What was fetched, if it is this and still there.
    fn noted(&self, server: &Server, package: &Package) -> Option<Fetched> {
        let mut text = String::new();
        let file = fs::File::open(self.note_of(server)?).ok()?;
        std::io::Read::read_to_string(&mut std::io::Read::take(file, NOTE), &mut text).ok()?;
        let note: Value = serde_json::from_str(&text).ok()?;
        let is_this =
            note["packages"] == json!(package.specs) && cache(self, server, package)?.is_dir();
        let text = |key: &str| note[key].as_str().map(str::to_owned);
        is_this.then_some(Fetched { version: text("version")?, integrity: text("integrity")? })
    }

    fn note(&self, server: &Server, package: &Package, it: &Fetched) -> Result<(), StartError> {
        let path = self.note_of(server).ok_or(StartError::NoState)?;
        if let Some(before) = self.noted(server, package)
            && before.version == it.version
            && before.integrity != it.integrity
        {
            let (version, was, is) = (&it.version, &before.integrity, &it.integrity);
            tracing::error!(server = server.name, "version {version} was {was} and is {is} now");
        }
        let note = json!({
            "packages": package.specs,
            "version": it.version,
            "integrity": it.integrity,
        });
        let write = || -> std::io::Result<()> {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            let new = path.with_extension("new");
            fs::write(&new, format!("{note:#}\n"))?;
            fs::rename(&new, &path)
        };
        write().map_err(|error| StartError::State { path: path.clone(), error })
    }
}

/// What is fetched for a server; nothing where it has no box, and with that no home of its own.
fn package(server: &Server) -> Option<Package> {
    Package::of(server).filter(|_| server.sandbox.profile != Profile::Off)
}

/// Where its tool keeps what it has fetched.
fn cache(spawner: &Spawner, server: &Server, package: &Package) -> Option<PathBuf> {
    let (names, inside) = match package.tool {
        Tool::Npx => (["npm_config_cache", "NPM_CONFIG_CACHE"], ".npm"),
        Tool::Uvx => (["UV_CACHE_DIR", ""], ".cache/uv"),
    };
    let told = server.env.iter().find(|(name, _)| names.contains(&name.as_str()));
    match told {
        Some((_, path)) => Some(PathBuf::from(path.expose())),
        None => Some(spawner.home_of(server)?.join(inside)),
    }
}

/// `server` as far as fetching goes: its command, where it may find it, and how to reach the registry.
fn alone(server: &Server) -> Server {
    let command = Path::new(&server.command);
    let network = match &server.sandbox.network {
        Some(Network::Host) => Network::Host,
        Some(Network::Ports(ports)) => {
            Network::Ports([ports.as_slice(), [443, 80, 53].as_slice()].concat())
        }
        _ => Network::Web,
    };
    let holds = |path: &&PathBuf| command.is_absolute() && command.starts_with(path);
    let read = server.sandbox.read.iter().flatten().filter(holds).cloned().collect();
    let is_way =
        |name: &str| PROXIES.contains(&name) || WAYS.iter().any(|begin| name.starts_with(begin));
    Server {
        args: Vec::new(),
        cwd: None,
        env: server.env.iter().filter(|(name, _)| is_way(name)).cloned().collect(),
        limits: Limits::default(),
        sandbox: Sandbox {
            profile: Profile::Strict,
            read: Some(read),
            write: Some(Vec::new()),
            network: Some(network),
            require: server.sandbox.require.clone(),
        },
        ..server.clone()
    }
}

/// Reads it to its end; keeps the lines that tell most.
async fn hear(
    from: impl AsyncRead + Unpin,
    last: &mut Vec<String>,
    line: &mut (dyn FnMut(&str) + Send),
) {
    let mut lines = BufReader::new(from);
    loop {
        let mut bytes = Vec::new();
        match (&mut lines).take(LINE).read_until(b'\n', &mut bytes).await {
            Ok(1..) => {}
            _ => return,
        }
        let text: String = String::from_utf8_lossy(&bytes).trim().replace(char::is_control, " ");
        // npm's log is in a folder that nobody is shown.
        let is_noise =
            text.starts_with("npm notice") || text.contains("A complete log of this run");
        if text.is_empty() || is_noise {
            continue;
        }
        line(&text);
        // npm says what is wrong first and how to ask for help last.
        let is_npm = |text: &String| text.starts_with("npm error");
        if is_npm(&text) && !last.first().is_some_and(is_npm) {
            last.clear();
        }
        if last.len() == WORDS {
            if last.first().is_some_and(is_npm) {
                continue;
            }
            last.remove(0);
        }
        last.push(text);
    }
}
