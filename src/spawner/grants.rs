//! What of this machine a server is given: by its config, and, where a person has started the
//! gateway, by what its command line plainly needs.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{Env, Spawner, runtime, search_path};
use crate::{
    config::{self, Layer, Mode, Profile, Server, refused},
    launcher::Network,
};

/// One path, and why it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub path: PathBuf,
    pub write: bool,
    pub why: &'static str,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    pub given: Vec<Grant>,
    /// What stands in its arguments and is not given, and why.
    pub refused: Vec<(PathBuf, String)>,
    /// What the config gives and cannot be given, and why.
    pub missing: Option<(PathBuf, String)>,
    pub network: Network,
    /// Its own folder, which is its HOME.
    pub home: Option<PathBuf>,
    /// Why its program cannot be started.
    pub program: Option<String>,
}

impl Grants {
    /// Its box in one line.
    pub fn summary(&self, server: &Server) -> String {
        let profile = server.sandbox.profile;
        if profile == Profile::Off {
            return "off: no sandbox, it may do whatever you may".to_owned();
        }
        let network = match &self.network {
            Network::None => "no network".to_owned(),
            Network::Host => "the whole network".to_owned(),
            Network::Ports { tcp, udp } => {
                let ports: Vec<String> = tcp.iter().map(u16::to_string).collect();
                let names = if *udp { " and UDP, for names" } else { "" };
                format!("TCP to {}{names} (reduces, does not contain)", ports.join(", "))
            }
        };
        let home = self.home.as_ref().map(|home| format!(", home {}", home.display()));
        let left_out: Vec<&str> = ALL
            .iter()
            .filter(|layer| !server.sandbox.require.contains(layer))
            .map(|layer| layer.word())
            .collect();
        let weaker = match left_out.as_slice() {
            [] => String::new(),
            layers => format!(", starts without {} where need be", layers.join(", ")),
        };
        format!("{}, {network}{}{weaker}", profile.word(), home.unwrap_or_default())
    }

    /// Whether `path` can be seen inside.
    pub(super) fn shows(&self, path: &Path) -> bool {
        let system = runtime::SYSTEM.iter().map(Path::new);
        let given = self.given.iter().map(|grant| grant.path.as_path());
        system.chain(given).any(|shown| path.starts_with(shown))
    }
}

const ALL: [Layer; 4] = [Layer::Namespaces, Layer::Landlock, Layer::Scopes, Layer::Seccomp];

/// The network of a server, as the launcher is told it.
pub(super) fn network(server: &Server, mode: Mode) -> Network {
    let default = match mode {
        Mode::Foreground => config::Network::Web,
        Mode::System => config::Network::None,
    };
    match server.sandbox.network.as_ref().unwrap_or(&default) {
        config::Network::None => Network::None,
        config::Network::Host => Network::Host,
        config::Network::Web => Network::Ports { tcp: vec![443, 80, 53], udp: true },
        config::Network::Ports(ports) => {
            Network::Ports { tcp: ports.clone(), udp: ports.contains(&53) }
        }
    }
}

pub(super) fn find(
    spawner: &Spawner,
    server: &Server,
    program: Option<&Path>,
    env: &Env,
) -> Grants {
    let mut grants = Grants { network: network(server, spawner.mode), ..Grants::default() };
    let mut given = BTreeMap::new();
    let sandbox = &server.sandbox;
    let listed = [(false, &sandbox.read), (true, &sandbox.write)];
    for (write, path) in listed
        .into_iter()
        .flat_map(|(write, paths)| paths.iter().flatten().map(move |path| (write, path)))
    {
        match spawner.may_give(path, write) {
            Ok(()) => add(&mut given, path, write, "config"),
            Err(why) => {
                grants.missing.get_or_insert_with(|| (path.clone(), why));
            }
        }
    }
    let home = spawner.home.as_deref();
    let mut offer = |path: &Path, write, why| match spawner.may_give(path, write) {
        Ok(()) => add(&mut given, path, write, why),
        Err(why) => grants.refused.push((path.to_owned(), why)),
    };
    let silent = sandbox.read.is_none() && sandbox.write.is_none();
    let writable = spawner.mode == Mode::Foreground;
    for path in arguments(server) {
        if runtime::is_code(&path) && (silent || writable) {
            let project = runtime::project(&path, home);
            offer(project.as_deref().unwrap_or(&path), false, "a script in its args");
        } else if silent && !runtime::SYSTEM.iter().any(|system| path.starts_with(system)) {
            offer(&path, writable, "in its args");
        }
    }
    if let Some(cwd) = &server.cwd
        && (silent && writable || sandbox.profile == Profile::Dev)
    {
        offer(cwd, true, "its working directory");
    }
    if writable && let Some(program) = program {
        for tree in runtime::trees(program, &search_path(env), home) {
            // A tree that may not be given is still no secret: the program alone then.
            match spawner.may_give(&tree, false) {
                Ok(()) => add(&mut given, &tree, false, "its program"),
                Err(_) if spawner.may_give(program, false).is_ok() => {
                    add(&mut given, program, false, "its program");
                }
                Err(_) => {}
            }
        }
    }
    grants.given = given.into_values().collect();
    grants
}

/// Writing wins over reading; the first reason stays.
fn add(given: &mut BTreeMap<PathBuf, Grant>, path: &Path, write: bool, why: &'static str) {
    let grant = Grant { path: path.to_owned(), write, why };
    given.entry(path.to_owned()).and_modify(|known| known.write |= write).or_insert(grant);
}

/// Every path of the arguments that exists: alone, or after the `=` of an option.
fn arguments(server: &Server) -> Vec<PathBuf> {
    let paths = server.args.iter().filter_map(|arg| {
        let path = match arg.split_once('=') {
            Some((option, path)) if option.starts_with('-') => path,
            _ => arg,
        };
        let path: PathBuf = Path::new(path).components().collect();
        (path.is_absolute() && path.exists()).then_some(path)
    });
    paths.collect()
}

impl Spawner {
    /// Whether `path` may be given, as it is written and where it leads.
    pub(super) fn may_give(&self, path: &Path, write: bool) -> Result<(), String> {
        let refused = |path: &Path| refused(path, write, self.home.as_deref(), &self.own);
        if let Some(why) = refused(path) {
            return Err(why);
        }
        let real = fs::canonicalize(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "does not exist".to_owned(),
            _ => format!("cannot be looked at: {error}"),
        })?;
        match refused(&real).filter(|_| real != path) {
            Some(why) => Err(format!("leads to {}, which {why}", real.display())),
            None => Ok(()),
        }
    }
}
