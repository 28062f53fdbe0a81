//! What a program needs to be read so that it can run at all: the tree of its interpreter, which for
//! nvm, pyenv, uv and their like lies in the user's home, and the tree of a script's own project.
//!
//! Looks at files, changes none. Gives no folder that holds more than programs.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
};

pub(super) use crate::brief::SYSTEM;

/// A chain of links or scripts is not longer.
const DEEPEST: usize = 16;

/// Folders of version managers that hold programs and nothing else.
const MANAGERS: [&str; 3] = [".pyenv", ".rbenv", ".nodenv"];

/// Folders that look like an installation and hold a user's other things too.
const MIXED: [&str; 4] = [".local", ".cargo", ".deno", ".bun"];

/// What makes a folder the root of a script's project.
const PROJECT: [&str; 6] =
    ["package.json", "pyproject.toml", "requirements.txt", "setup.py", "deno.json", ".git"];

/// What files of code end in.
const CODE: [&str; 9] = ["js", "mjs", "cjs", "ts", "mts", "py", "rb", "pl", "php"];

/// Everything that `program` needs besides the system's own files.
pub(super) fn trees(program: &Path, path: &OsString, home: Option<&Path>) -> Vec<PathBuf> {
    let mut found = Vec::new();
    visit(program, path, home, DEEPEST, &mut found);
    found.sort();
    found.dedup();
    let all = found.clone();
    found.retain(|tree| !all.iter().any(|other| tree != other && tree.starts_with(other)));
    found
}

fn is_system(path: &Path) -> bool {
    SYSTEM.iter().any(|system| path.starts_with(system))
}

fn visit(
    program: &Path,
    path: &OsString,
    home: Option<&Path>,
    depth: usize,
    found: &mut Vec<PathBuf>,
) {
    let Some(depth) = depth.checked_sub(1) else { return };
    // A small program that runs the one beside it.
    if program.file_name().is_some_and(|name| name == "uvx") {
        let beside = program.with_file_name("uv");
        if beside.is_file() {
            visit(&beside, path, home, depth, found);
        }
    }
    if !is_system(program) {
        found.extend(tree_of(program, home));
    }
    if let Ok(to) = fs::read_link(program) {
        let to = program.parent().unwrap_or(Path::new("/")).join(to);
        return visit(&clean(&to), path, home, depth, found);
    }
    // The folders on the way may be links as well.
    if let Ok(real) = fs::canonicalize(program)
        && real != program
    {
        return visit(&real, path, home, depth, found);
    }
    if let Some(interpreter) = interpreter(program, path) {
        found.extend(project(program, home).filter(|_| !is_system(program)));
        visit(&interpreter, path, home, depth, found);
    }
}

/// Without `.` and `..`, as they are written.
fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                out.pop();
            }
            std::path::Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}

/// The installation that a program belongs to, or the program's file alone.
fn tree_of(program: &Path, home: Option<&Path>) -> Vec<PathBuf> {
    let alone = vec![program.to_owned()];
    if let Some(manager) = program.ancestors().find(|folder| {
        folder.file_name().is_some_and(|name| MANAGERS.iter().any(|manager| name == *manager))
    }) {
        return vec![manager.to_owned()];
    }
    let Some(bin) = program.parent() else { return alone };
    let Some(prefix) = bin.parent().filter(|_| bin.ends_with("bin")) else { return alone };
    if let Ok(text) = fs::read_to_string(prefix.join("pyvenv.cfg")) {
        let base =
            text.lines().find_map(|line| line.strip_prefix("home")?.trim().strip_prefix('='));
        let base = base.map(|base| Path::new(base.trim()).join("python3"));
        let base = base.filter(|base| !is_system(base)).map(|base| tree_of(&base, home));
        return std::iter::once(prefix.to_owned()).chain(base.into_iter().flatten()).collect();
    }
    let mixed = prefix.file_name().is_some_and(|name| MIXED.iter().any(|mixed| name == *mixed));
    let installed = prefix.join("lib").is_dir() && prefix.parent().is_some() && !mixed;
    let holds_home = home.is_some_and(|home| home.starts_with(prefix));
    if installed && !holds_home { vec![prefix.to_owned()] } else { alone }
}

/// What the first line of a script names, found in PATH if `env` is to look for it.
fn interpreter(program: &Path, path: &OsString) -> Option<PathBuf> {
    let mut start = [0; 256];
    let count = File::open(program).and_then(|mut file| file.read(&mut start)).ok()?;
    let line = start[..count].split(|byte| *byte == b'\n').next()?.strip_prefix(b"#!")?;
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split_whitespace();
    let first = Path::new(words.next()?);
    if !first.ends_with("env") {
        return Some(first.to_owned());
    }
    let name = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
    std::env::split_paths(path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// True for a file that an interpreter runs.
pub(super) fn is_code(path: &Path) -> bool {
    let end = path.extension().and_then(|end| end.to_str());
    path.is_file() && end.is_some_and(|end| CODE.contains(&end))
}

/// The project that a script is part of: the nearest folder above it that looks like one, but not
/// the user's home or what that is in; else the script's own folder, under the same condition.
pub(super) fn project(script: &Path, home: Option<&Path>) -> Option<PathBuf> {
    let fits = |folder: &&Path| {
        folder.parent().is_some() && !home.is_some_and(|home| home.starts_with(folder))
    };
    let above = || script.ancestors().skip(1).take_while(fits);
    // A package that is installed finds its own ones beside it, up to the outermost folder of them.
    let installed = above().filter(|folder| folder.ends_with("node_modules")).last();
    if let Some(root) = installed.and_then(Path::parent).filter(fits) {
        return Some(root.to_owned());
    }
    let root = above().find(|folder| PROJECT.iter().any(|name| folder.join(name).exists()));
    root.or_else(|| above().next()).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn file(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn interpreters_are_found_wherever_they_hide() {
        let folder = tempfile::tempdir().unwrap();
        let home = &folder.path().canonicalize().unwrap();
        let at = |path: &str| home.join(path);
        let none = OsString::from("/usr/bin");
        let trees = |program: &str, path: &OsString| -> Vec<String> {
            let found = super::trees(&at(program), path, Some(home));
            found
                .iter()
                .map(|tree| tree.strip_prefix(home).unwrap().display().to_string())
                .collect()
        };
        // nvm: the one version, and npx's link into it.
        file(&at(".nvm/v20/bin/node"), "");
        file(&at(".nvm/v20/lib/npm/npx-cli.js"), "#!/usr/bin/env node\n");
        symlink("../lib/npm/npx-cli.js", at(".nvm/v20/bin/npx")).unwrap();
        let path = OsString::from(at(".nvm/v20/bin"));
        assert_eq!(trees(".nvm/v20/bin/npx", &path), [".nvm/v20"]);
        // pyenv: a shim in the shell, which looks for everything below it.
        file(&at(".pyenv/shims/python3"), "#!/usr/bin/env bash\n");
        assert_eq!(trees(".pyenv/shims/python3", &none), [".pyenv"]);
        // A program in ~/.local/bin is that program: keyrings are in ~/.local.
        file(&at(".local/bin/uvx"), "");
        file(&at(".local/bin/uv"), "");
        fs::create_dir_all(at(".local/lib")).unwrap();
        assert_eq!(trees(".local/bin/uvx", &none), [".local/bin/uv", ".local/bin/uvx"]);
        // A venv, and the Python that it was made of.
        file(&at("py/3.12/bin/python3"), "");
        fs::create_dir_all(at("py/3.12/lib")).unwrap();
        file(&at("venv/pyvenv.cfg"), &format!("home = {}\n", at("py/3.12/bin").display()));
        fs::create_dir_all(at("venv/bin")).unwrap();
        symlink(at("py/3.12/bin/python3"), at("venv/bin/python")).unwrap();
        assert_eq!(trees("venv/bin/python", &none), ["py/3.12", "venv"]);
        // ~/bin is no installation.
        file(&at("bin/server"), "");
        fs::create_dir_all(at("lib")).unwrap();
        assert_eq!(trees("bin/server", &none), ["bin/server"]);
        // The system's own need nothing.
        assert!(super::trees(Path::new("/usr/bin/env"), &none, None).is_empty());
    }

    #[test]
    fn a_script_brings_its_project() {
        let folder = tempfile::tempdir().unwrap();
        let home = &folder.path().canonicalize().unwrap();
        file(&home.join("src/x/package.json"), "");
        file(&home.join("src/x/build/index.js"), "");
        file(&home.join("lone/server.py"), "");
        file(&home.join("top.py"), "");
        let project = |path: &str| super::project(&home.join(path), Some(home));
        assert_eq!(project("src/x/build/index.js"), Some(home.join("src/x")));
        file(&home.join("npm/node_modules/@a/b/package.json"), "");
        file(&home.join("npm/node_modules/@a/b/dist/index.js"), "");
        assert_eq!(project("npm/node_modules/@a/b/dist/index.js"), Some(home.join("npm")));
        assert_eq!(project("lone/server.py"), Some(home.join("lone")));
        assert_eq!(project("top.py"), None);
    }
}
