//! Where the config file is.
//!
//! `--config`, `./gateway.yaml`, `./mcp-gateway.yaml`, the user's, the system's: the first that
//! exists. Only the system's has a `conf.d` beside it.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::load::Mode;
use super::problem::{Problem, Problems};

const SYSTEM: &str = "/etc/mcp-gateway";
const FILE: &str = "gateway.yaml";
const PARTS: &str = "conf.d";

/// The gateway's own folders: each as the init system gives it, else the user's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folders {
    /// What servers' lists said.
    pub cache: Option<PathBuf>,
    /// The servers' own homes.
    pub state: Option<PathBuf>,
    /// Where configs are looked for.
    pub config: Vec<PathBuf>,
}

impl Folders {
    pub fn find(env: &dyn Fn(&str) -> Option<String>) -> Self {
        let absolute = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let user = |name: &str, below: &str| {
            absolute(name)
                .or_else(|| absolute("HOME").map(|home| home.join(below)))
                .map(|folder| folder.join("mcp-gateway"))
        };
        let given = |own: &str, init: &str| absolute(own).or_else(|| absolute(init));
        let config = user("XDG_CONFIG_HOME", ".config").into_iter();
        Folders {
            cache: given("MCP_GATEWAY_CACHE", "CACHE_DIRECTORY")
                .or_else(|| user("XDG_CACHE_HOME", ".cache")),
            state: given("MCP_GATEWAY_STATE", "STATE_DIRECTORY")
                .or_else(|| user("XDG_STATE_HOME", ".local/state")),
            config: config.chain([PathBuf::from(SYSTEM)]).collect(),
        }
    }

    /// All of them.
    pub fn all(&self) -> Vec<PathBuf> {
        self.cache.iter().chain(&self.state).chain(&self.config).cloned().collect()
    }
}

/// Finds the config file. `Ok(None)` is an empty gateway; an explicit path must exist, and an
/// empty one counts as not given. The machine's service looks nowhere but in the system's folder.
pub fn discover(explicit: Option<&Path>, mode: Mode) -> Result<Option<PathBuf>, Problems> {
    if mode == Mode::System {
        let nowhere = Path::new(SYSTEM);
        return discover_in(explicit, nowhere, None, nowhere);
    }
    let var = |name| std::env::var_os(name).map(PathBuf::from);
    let user = var("XDG_CONFIG_HOME")
        .filter(|dir| dir.is_absolute())
        .or_else(|| Some(var("HOME")?.join(".config")));
    discover_in(explicit, Path::new(""), user.as_deref(), Path::new(SYSTEM))
}

/// The same with every folder given, for tests.
pub(super) fn discover_in(
    explicit: Option<&Path>,
    here: &Path,
    user: Option<&Path>,
    system: &Path,
) -> Result<Option<PathBuf>, Problems> {
    if let Some(path) = explicit.filter(|path| !path.as_os_str().is_empty()) {
        if !path.exists() && parts(path.parent().filter(|dir| *dir == system)).is_empty() {
            return Err(Problem::whole_file(path, "there is no such file").into());
        }
        return Ok(Some(path.to_owned()));
    }
    let near = [here.join(FILE), here.join("mcp-gateway.yaml")];
    let user = user.map(|dir| dir.join("mcp-gateway").join(FILE));
    if let Some(found) = near.into_iter().chain(user).find(|path| path.is_file()) {
        return Ok(Some(found));
    }
    let main = system.join(FILE);
    Ok((main.is_file() || !parts(Some(system)).is_empty()).then_some(main))
}

/// Every file that belongs to the main file `path`, in the order in which they are read.
pub(super) fn files(path: &Path) -> Vec<PathBuf> {
    files_in(path, Path::new(SYSTEM))
}

pub(super) fn files_in(path: &Path, system: &Path) -> Vec<PathBuf> {
    let parts = parts(path.parent().filter(|dir| *dir == system));
    // The system's parts can stand alone; any other missing file is reported when it is read.
    let alone = !parts.is_empty() && !path.exists();
    let main = (!alone).then(|| path.to_owned());
    main.into_iter().chain(parts).collect()
}

/// `conf.d/*.yaml` in the order of their names. Hidden files, such as an editor's, are left out.
fn parts(dir: Option<&Path>) -> Vec<PathBuf> {
    let Some(dir) = dir.map(|dir| dir.join(PARTS)) else { return Vec::new() };
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        // Listed itself, so that reading it reports why: servers must not go missing in silence.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return vec![dir],
        Err(_) => return Vec::new(),
    };
    let mut parts: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension() == Some(OsStr::new("yaml")))
        .filter(|path| {
            path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."))
        })
        .collect();
    parts.sort();
    parts
}
