//! Starts and stops instances, each in its sandbox. Decides what a child gets: its program, its
//! environment, its folders, its box. Does not know MCP.
#![forbid(unsafe_code)]

mod error;
mod examine;
mod fetch;
mod grants;
mod keeping;
mod package;
mod plugins;
mod runtime;

use std::{
    env,
    ffi::OsString,
    fs::DirBuilder,
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

pub use error::StartError;
pub use examine::{Examined, Outcome, Reached};
pub use grants::{Grant, Grants};
pub use package::Fetched;

use crate::{
    config::{Config, Folders, Layer, Mode, Profile, Server},
    launcher::{Layer as Told, Layers, Limits, Network, Policy, Shape},
    sys::spawn::{self, Child, Launcher, Pipes},
};

/// What every backend gets of our own environment, where it is set; the rest is its `env:`.
const INHERITED: [&str; 6] = ["HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER"];

/// Where programs are looked for when the environment names no PATH.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A launcher that has said nothing for so long hangs.
const LAUNCH: Duration = Duration::from_secs(20);

type Env = Vec<(OsString, OsString)>;

/// Starts instances, as who we are.
#[derive(Debug)]
pub struct Spawner {
    launcher: Result<Launcher, PathBuf>,
    folders: Folders,
    home: Option<PathBuf>,
    /// What no backend is given without being told so: our files and folders.
    own: Vec<PathBuf>,
    mode: Mode,
    fetches: fetch::Fetches,
    keeper: keeping::Keeper,
}

/// A backend that runs, and the layers of its box.
pub struct Started {
    pub child: Child,
    pub pipes: Pipes,
    pub layers: Vec<Told>,
}

impl Spawner {
    pub fn new(config: &Config, mode: Mode) -> Self {
        let folders = Folders::find(&|name| env::var(name).ok());
        let mut own = folders.all();
        own.extend(config.path.as_ref().and_then(|path| std::path::absolute(path).ok()));
        let file = launcher_file();
        let launcher = Launcher::open(&file).map_err(|_| file);
        let home = env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute());
        let (fetches, keeper) = Default::default();
        Spawner { launcher, folders, home, own, mode, fetches, keeper }
    }

    /// Starts `server` and waits until its program runs. Dropping this ends what it began.
    pub async fn start(&self, server: &Server) -> Result<Started, StartError> {
        let server = &*self.offline(server);
        let policy = self.policy(server)?;
        self.launch(server, policy).await.map(|(started, _)| started)
    }

    /// Puts the box of `server` around whatever the policy says is the program; also tells what
    /// the box was in the end.
    async fn launch(
        &self,
        server: &Server,
        mut policy: Policy,
    ) -> Result<(Started, Policy), StartError> {
        let launcher =
            self.launcher.as_ref().map_err(|file| StartError::NoLauncher(file.clone()))?;
        loop {
            let leaf = self.leaf(server, &policy.limits);
            policy.cgroup = leaf.as_ref().map(|leaf| leaf.path().to_owned());
            let blob = policy.encode().map_err(|_| StartError::TooMuch)?;
            let (mut child, pipes, report) =
                spawn::spawn(launcher, &blob).map_err(StartError::Launcher)?;
            self.keep(&mut child, leaf);
            let received = tokio::time::timeout(LAUNCH, report.read())
                .await
                .map_err(|_| StartError::Launcher(io::ErrorKind::TimedOut.into()))?
                .map_err(StartError::Launcher)?;
            if received.is_running() {
                return Ok((Started { child, pipes, layers: received.layers }, policy));
            }
            let missing = error::missing_layer(&received);
            match missing.filter(|layer| !server.sandbox.require.contains(layer)) {
                // Without it, then, as the file allows.
                Some(layer) if without(&mut policy.layers, layer) => {
                    tracing::warn!(
                        server = server.name,
                        "its sandbox has no {}: {}",
                        layer.word(),
                        error::reason(&received)
                    );
                    if layer == Layer::Namespaces {
                        self.make_portable(&mut policy);
                    }
                }
                _ => return Err(error::failed(&received, &policy, self.home.as_deref())),
            }
        }
    }

    /// What its sandbox has to do with a backend's last words, if it does.
    pub fn explain(&self, server: &Server, words: &[String]) -> Option<String> {
        let contained = server.sandbox.profile != Profile::Off;
        contained.then(|| error::explain(server, &grants::network(server, self.mode), words))?
    }

    /// What `server` is given on this machine, and what it is not and why.
    pub fn grants(&self, server: &Server) -> Grants {
        let env = self.environment(server);
        let program = resolve(&server.command, &env, server.cwd.as_deref());
        if server.sandbox.profile == Profile::Off {
            let program = program.err().map(|error| error.to_string());
            return Grants { program, network: Network::Host, ..Grants::default() };
        }
        let mut grants = grants::find(self, server, program.as_deref().ok(), &env);
        grants.home = self.home_of(server);
        grants.program = match program {
            Ok(program) if !grants.shows(&program) => {
                Some(StartError::Hidden { program, home: self.home.clone() }.to_string())
            }
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        grants
    }

    /// Everything that the launcher is told for `server`.
    pub fn policy(&self, server: &Server) -> Result<Policy, StartError> {
        let env = self.environment(server);
        let cwd = server.cwd.as_deref();
        if let Some(cwd) = cwd
            && !cwd.is_dir()
        {
            return Err(StartError::NoFolder(cwd.to_owned()));
        }
        let program = resolve(&server.command, &env, cwd)?;
        let args = std::iter::once(program.clone().into_os_string());
        let args = args.chain(server.args.iter().map(OsString::from)).collect();
        let here = || env::current_dir().ok();
        let mut policy = Policy {
            args,
            env,
            cwd: cwd.map(Path::to_owned).or_else(here),
            program,
            ..Policy::default()
        };
        let profile = server.sandbox.profile;
        if profile == Profile::Off {
            policy.home.clone_from(&self.home);
            policy.network = Network::Host;
            policy.limits = limits(server);
            return Ok(policy);
        }
        let grants = grants::find(self, server, Some(&policy.program), &policy.env);
        if let Some((path, why)) = &grants.missing {
            return Err(StartError::NoGrant { path: path.clone(), why: why.clone() });
        }
        for (path, why) in &grants.refused {
            tracing::warn!(server = server.name, "{} is not given to it: {why}", path.display());
        }
        if !grants.shows(&policy.program) {
            let program = policy.program;
            return Err(StartError::Hidden { program, home: self.home.clone() });
        }
        policy.home = Some(self.state_of(server)?);
        let paths = |write| {
            let of = grants.given.iter().filter(move |grant| grant.write == write);
            of.map(|grant| grant.path.clone()).collect()
        };
        (policy.read, policy.write) = (paths(false), paths(true));
        policy.network = grants.network;
        policy.layers = Layers::ALL;
        policy.shape = Shape {
            nested: profile == Profile::Browser,
            trace: profile == Profile::Dev,
            fonts: profile == Profile::Browser,
        };
        policy.limits = limits(server);
        Ok(policy)
    }

    /// A private /tmp is there no more.
    fn make_portable(&self, policy: &mut Policy) {
        let Some(home) = &policy.home else { return };
        let tmp = home.join("tmp");
        let _ = DirBuilder::new().mode(0o700).recursive(true).create(&tmp);
        set(&mut policy.env, "TMPDIR", tmp.into());
    }

    /// Its home, which is there from now on. Nobody else may look into it.
    fn state_of(&self, server: &Server) -> Result<PathBuf, StartError> {
        let state = self.home_of(server).ok_or(StartError::NoState)?;
        DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(&state)
            .map_err(|error| StartError::State { path: state.clone(), error })?;
        Ok(state)
    }

    /// Where its home is.
    pub fn home_of(&self, server: &Server) -> Option<PathBuf> {
        Some(self.folders.state.as_ref()?.join("backends").join(&server.name))
    }

    fn environment(&self, server: &Server) -> Env {
        let own =
            INHERITED.iter().filter_map(|name| Some((OsString::from(name), env::var_os(name)?)));
        let mut all: Env = own.collect();
        if server.sandbox.profile != Profile::Off
            && let Some(home) = self.home_of(server)
        {
            set(&mut all, "HOME", home.into());
        }
        for (name, value) in &server.env {
            set(&mut all, name, value.expose().into());
        }
        all
    }
}

fn set(env: &mut Env, name: &str, value: OsString) {
    match env.iter_mut().find(|(known, _)| known.to_str() == Some(name)) {
        Some((_, old)) => *old = value,
        None => env.push((name.into(), value)),
    }
}

/// Beside our own file, or where packages put it.
fn launcher_file() -> PathBuf {
    const NAME: &str = "mcp-gateway-exec";
    let own = env::current_exe().unwrap_or_default();
    let beside = own.with_file_name(NAME);
    let prefix = own.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
    // The last is for tests that run in their own binary, a folder deeper.
    let places = [beside.clone(), prefix.join("libexec").join(NAME), prefix.join(NAME)];
    places.into_iter().find(|path| path.is_file()).unwrap_or(beside)
}

fn without(layers: &mut Layers, layer: Layer) -> bool {
    let slot = match layer {
        Layer::Namespaces => &mut layers.namespaces,
        Layer::Landlock => &mut layers.landlock,
        Layer::Scopes => &mut layers.scopes,
        Layer::Seccomp => &mut layers.seccomp,
    };
    std::mem::replace(slot, false)
}

/// What the file says, else what the profile does.
pub fn limits(server: &Server) -> Limits {
    const MIB: u64 = 1 << 20;
    let (memory, processes, open_files, tmp, shm) = match server.sandbox.profile {
        Profile::Strict => (1024 * MIB, 64, 1024, 64 * MIB, 64 * MIB),
        Profile::Browser => (2048 * MIB, 512, 4096, 512 * MIB, 512 * MIB),
        Profile::Dev => (0, 512, 4096, 1024 * MIB, 64 * MIB),
        Profile::Off => (0, 0, 0, 0, 0),
    };
    let given = &server.limits;
    Limits {
        memory: given.memory.unwrap_or(memory),
        processes: given.processes.unwrap_or(processes),
        open_files: given.open_files.unwrap_or(open_files),
        file: 0,
        tmp: given.tmp.unwrap_or(tmp),
        shm,
    }
}

/// The program's file: as given where it has a slash, else the first match in the child's PATH.
fn resolve(
    command: &str,
    env: &[(OsString, OsString)],
    cwd: Option<&Path>,
) -> Result<PathBuf, StartError> {
    if command.contains('/') {
        let path = cwd.map_or_else(|| PathBuf::from(command), |cwd| cwd.join(command));
        let path = std::path::absolute(&path).unwrap_or(path);
        return if !path.is_file() {
            Err(StartError::Missing(path))
        } else if !is_executable(&path) {
            Err(StartError::NotExecutable(path))
        } else {
            Ok(path)
        };
    }
    let path = search_path(env);
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

fn search_path(env: &[(OsString, OsString)]) -> OsString {
    let path = env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
    path.unwrap_or_else(|| DEFAULT_PATH.into())
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0)
}
