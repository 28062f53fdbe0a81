//! The servers that run the config's plugins: one Python for each set of them, with the package
//! that this gateway brings, and their code to read.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
};

use super::{Spawner, runtime};
use crate::config::{Code, Config, Mode, Plugin, Profile, Secret, Server, Source};

/// What runs plugins where their entry names no Python.
const PYTHON: &str = "python3";
/// Names the folder of our Python package, for a gateway that does not lie where it was installed.
const PACKAGE_VAR: &str = "MCP_GATEWAY_PYTHON";
/// What of a folder is taken for code, where the whole of it may not be given.
const PARTS: usize = 500;

impl Spawner {
    /// One server for each set of plugins that a process can run, in the order of the file.
    pub fn plugin_hosts(&self, config: &Config) -> Vec<Server> {
        let mut sets: Vec<Vec<&Plugin>> = Vec::new();
        for plugin in &config.plugins {
            match sets.iter_mut().find(|set| set[0].goes_with(plugin)) {
                Some(set) => set.push(plugin),
                None => sets.push(vec![plugin]),
            }
        }
        let mut taken: BTreeSet<String> =
            config.servers.iter().map(|server| server.name.clone()).collect();
        let folder = config.path.as_ref().and_then(|path| std::path::absolute(path).ok());
        let folder = folder.as_deref().and_then(Path::parent);
        sets.iter().map(|set| self.plugin_host(set, folder, &mut taken)).collect()
    }

    fn plugin_host(
        &self,
        set: &[&Plugin],
        folder: Option<&Path>,
        taken: &mut BTreeSet<String>,
    ) -> Server {
        let first = set[0];
        let mut host = first.host.clone();
        host.name = free_name(&host.name, taken);
        host.command = first.python.clone().unwrap_or_else(|| PYTHON.to_owned());
        let own_path = host.env.iter().find(|(name, _)| name == "PYTHONPATH");
        let own_path = own_path.map(|(_, value)| value.expose().to_owned());
        let own_path = own_path.or_else(|| env::var("PYTHONPATH").ok()).unwrap_or_default();

        let mut search: Vec<PathBuf> = Vec::new();
        let mut add = |path: PathBuf| {
            if path.is_dir() && !search.contains(&path) {
                search.push(path);
            }
        };
        set.iter().filter_map(|plugin| plugin.path.clone()).for_each(&mut add);
        folder.map(Path::to_owned).into_iter().for_each(&mut add);
        if self.mode == Mode::Foreground {
            env::current_dir().into_iter().for_each(&mut add);
        }
        let paths = env::split_paths(&own_path).filter(|path| path.is_absolute());
        paths.for_each(&mut add);

        let mut args: Vec<String> =
            ["-m", "mcp_gateway.host", "--name", &host.name].map(str::to_owned).to_vec();
        for path in &search {
            args.extend(["--search".to_owned(), path.to_string_lossy().into_owned()]);
        }
        let mut code = BTreeSet::new();
        for plugin in set {
            let (option, value) = match &plugin.source {
                Source::Module(name) => {
                    code.extend(search.iter().find(|folder| holds(folder, name)).cloned());
                    ("--module", name.clone())
                }
                Source::File(path) => {
                    code.extend(path.parent().map(Path::to_owned));
                    ("--file", path.to_string_lossy().into_owned())
                }
                Source::Dir(path) => {
                    code.insert(path.clone());
                    ("--dir", path.to_string_lossy().into_owned())
                }
            };
            args.extend([option.to_owned(), value]);
        }
        host.args = args;
        let code: Vec<PathBuf> = code.iter().flat_map(|folder| self.code_of(folder)).collect();

        let package = package();
        let path = package.iter().map(|path| path.to_string_lossy().into_owned());
        let path: Vec<String> = path.chain((!own_path.is_empty()).then_some(own_path)).collect();
        let cache = self.home_of(&host).map(|home| home.join("pycache"));
        let mut give = |name: &str, value: String| {
            host.env.retain(|(known, _)| known != name);
            host.env.push((name.to_owned(), Secret::new(value)));
        };
        if !path.is_empty() {
            give("PYTHONPATH", path.join(":"));
        }
        // The folders of its code are not its to write in.
        if let Some(cache) = cache {
            give("PYTHONPYCACHEPREFIX", cache.to_string_lossy().into_owned());
        }
        if host.sandbox.profile != Profile::Off {
            let read = host.sandbox.read.get_or_insert_default();
            let seen = |path: &&PathBuf| !runtime::SYSTEM.iter().any(|it| path.starts_with(it));
            let all = code.iter().chain(&package).filter(seen);
            read.extend(all.filter(|path| self.may_give(path, false).is_ok()).cloned());
        }
        host.code = Some(Code { paths: code, watch: first.watch });
        host
    }

    /// A folder of code, or what in it is code where the rest may not be given.
    fn code_of(&self, folder: &Path) -> Vec<PathBuf> {
        if self.may_give(folder, false).is_ok() {
            return vec![folder.to_owned()];
        }
        let parts = entries(folder)
            .filter(|path| is_python(path) || entries(path).any(|path| is_python(&path)));
        parts.filter(|path| self.may_give(path, false).is_ok()).take(PARTS).collect()
    }
}

fn free_name(wanted: &str, taken: &mut BTreeSet<String>) -> String {
    let numbered = (2..).map(|n| format!("{wanted}-{n}"));
    let mut names = std::iter::once(wanted.to_owned()).chain(numbered);
    // There is always another number.
    let name = names.find(|name| taken.insert(name.clone()));
    name.unwrap_or_else(|| wanted.to_owned())
}

/// What is in a folder, without what is hidden; nothing of what is none.
fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let shown = entries.filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."));
    shown.map(|entry| entry.path())
}

fn is_python(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "py")
}

/// Whether a module of this name is in the folder, as a file or a package.
fn holds(folder: &Path, module: &str) -> bool {
    let top = module.split('.').next().unwrap_or(module);
    folder.join(format!("{top}.py")).is_file() || folder.join(top).is_dir()
}

/// The folder that our Python package is in: installed beside the program, by a package or a wheel,
/// or in the source tree.
/// Without one, the Python that runs plugins has to have it.
fn package() -> Option<PathBuf> {
    let is_one = |path: &PathBuf| path.join("mcp_gateway/host.py").is_file();
    if let Some(path) = env::var_os(PACKAGE_VAR).map(PathBuf::from) {
        return Some(path).filter(is_one);
    }
    let own = env::current_exe().ok()?;
    let own = fs::canonicalize(&own).unwrap_or(own);
    let installed = own.ancestors().nth(2).map(|prefix| prefix.join("share/mcp-gateway/python"));
    // A wheel puts the program beside the Python of its environment.
    let lib = own.ancestors().nth(2).map(|prefix| prefix.join("lib"));
    let wheel = lib.iter().flat_map(|lib| entries(lib)).map(|path| path.join("site-packages"));
    let source = own.ancestors().skip(1).take(4).map(|folder| folder.join("python/src"));
    installed.into_iter().chain(wheel).chain(source).find(is_one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_is_numbered() {
        let mut taken = BTreeSet::from(["plugins".to_owned()]);
        let names = [(); 3].map(|()| free_name("plugins", &mut taken));
        assert_eq!(names, ["plugins-2", "plugins-3", "plugins-4"]);
    }

    #[test]
    fn a_module_is_a_file_or_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("one.py"), "").unwrap();
        fs::create_dir(folder.path().join("two")).unwrap();
        for (module, there) in [("one", true), ("one.x", true), ("two.x", true), ("three", false)] {
            assert_eq!(holds(folder.path(), module), there, "{module}");
        }
    }
}
