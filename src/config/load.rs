//! Reads the config file, and those in `conf.d` after it, into one [`Config`].
//!
//! Goes on after a problem wherever it can, so that one load shows them all.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::file::{self, Part};
use super::problem::{Problem, Problems, Severity};
use super::reader::Reader;
use super::suggest::did_you_mean;
use super::tree::{self, At};
use super::{Config, locate};

const MAX_FILE: u64 = 1 << 20;

/// Who reads the problems, and so what may pass with a warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Started by a person: an unset `${X}` and a null env value are warnings.
    Foreground,
    /// A service: they are errors.
    System,
}

/// A config without errors.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// In the order of the files.
    pub warnings: Vec<Problem>,
}

/// Loads `path`, and if it is the system's file also `conf.d/*.yaml` beside it in the order of
/// their names. No path is an empty gateway. `env` looks up variables, for env values and `~`.
pub fn load(
    path: Option<&Path>,
    env: &dyn Fn(&str) -> Option<String>,
    mode: Mode,
) -> Result<Loaded, Problems> {
    let files = path.map(locate::files).unwrap_or_default();
    load_files(path, &files, env, mode)
}

/// The main file at `path` and every file to read, in order.
pub(super) fn load_files(
    path: Option<&Path>,
    files: &[PathBuf],
    env: &dyn Fn(&str) -> Option<String>,
    mode: Mode,
) -> Result<Loaded, Problems> {
    let mut merge = Merge::default();
    merge.config.path = path.map(Path::to_owned);
    for file in files {
        let text = match read(file) {
            Ok(text) => text,
            Err(problem) => {
                merge.problems.push(problem);
                continue;
            }
        };
        let mut reader = Reader { path: file, env, mode, problems: Vec::new() };
        let (root, faults) = tree::parse(text.strip_prefix('\u{feff}').unwrap_or(&text));
        for fault in faults {
            reader.fault(fault);
        }
        if let Some(root) = root {
            let folder = std::path::absolute(file).unwrap_or_else(|_| file.clone());
            let folder = folder.parent().unwrap_or(Path::new("/"));
            let first = Some(file.as_path()) == path;
            let idle = merge.config.idle_timeout;
            let part = file::read(&mut reader, &root, folder, idle, first);
            merge.add(&mut reader, part);
        }
        reader.problems.sort_by_key(|problem| (problem.line, problem.column));
        merge.problems.append(&mut reader.problems);
    }
    merge.check_access();
    let Merge { config, problems, .. } = merge;
    if problems.iter().any(Problem::is_error) {
        return Err(Problems(problems));
    }
    Ok(Loaded { config, warnings: problems })
}

/// The config as far as it has been read.
#[derive(Default)]
struct Merge {
    config: Config,
    problems: Vec<Problem>,
    /// Where each server and each role stands, for messages about the second one.
    servers: HashMap<String, Place>,
    roles: HashMap<String, Place>,
    /// Where the role of each rule of `access` stands.
    access: Vec<(PathBuf, At, String)>,
    /// Enabled servers by their names without case, and with `_` for `-`.
    similar: HashMap<String, String>,
}

type Place = (PathBuf, At);

impl Merge {
    fn add(&mut self, reader: &mut Reader<'_>, part: Part) {
        let config = &mut self.config;
        if let Some(name) = part.name {
            config.name = name;
        }
        if let Some(idle) = part.idle_timeout {
            config.idle_timeout = idle;
        }
        if let Some(session) = part.session_timeout {
            config.session_timeout = session;
        }
        config.exit_idle = part.exit_idle.or(config.exit_idle);
        for (at, server) in part.servers {
            let place = format!("servers.{}", server.name);
            if !claim(&mut self.servers, reader, &server.name, at, &place) {
                continue;
            }
            if server.enabled {
                let folded = server.name.to_ascii_lowercase().replace('-', "_");
                if let Some(other) = self.similar.insert(folded, server.name.clone()) {
                    let what = format!("differs from `{other}` only in case, or in `-` and `_`");
                    reader.note(Severity::Warning, at, &place, what);
                }
            }
            config.servers.push(server);
        }
        config.plugins.extend(part.plugins);
        if let Some(access) = part.access {
            let all = config.access.get_or_insert_default();
            for (at, place, rule) in access {
                all.push(rule);
                self.access.push((reader.path.to_owned(), at, place));
            }
        }
        if let Some(roles) = part.roles {
            let all = config.roles.get_or_insert_default();
            for (at, name, rule) in roles {
                if claim(&mut self.roles, reader, &name, at, &format!("roles.{name}")) {
                    all.push((name, rule));
                }
            }
        }
    }
}

impl Merge {
    /// Every role that a rule gives is one: they may stand in different files.
    fn check_access(&mut self) {
        let known: Vec<&str> = self.roles.keys().map(String::as_str).collect();
        for (rule, (path, at, place)) in self.config.access.iter().flatten().zip(&self.access) {
            if known.contains(&rule.role.as_str()) {
                continue;
            }
            let hint = did_you_mean(&rule.role, &known);
            let what = format!("no role named \"{}\" in `roles:`{hint}", rule.role);
            self.problems.push(Problem {
                line: at.line,
                column: at.column,
                place: place.clone(),
                ..Problem::whole_file(path, what)
            });
        }
    }
}

/// Whether `name` is new; if not, both files are named.
fn claim(
    taken: &mut HashMap<String, Place>,
    reader: &mut Reader<'_>,
    name: &str,
    at: At,
    place: &str,
) -> bool {
    if let Some((path, first)) = taken.get(name) {
        let (path, line, here) = (path.display(), first.line, reader.path.display());
        let what = format!("is in {path} (line {line}) and again in {here}; remove one");
        reader.note(Severity::Error, at, place, what);
        return false;
    }
    taken.insert(name.to_owned(), (reader.path.to_owned(), at));
    true
}

fn read(path: &Path) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| Problem::whole_file(path, format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Problem::whole_file(path, "is larger than 1 MiB"));
    }
    let (valid, odd) = match std::str::from_utf8(&bytes) {
        // The parser would take a NUL for the end of the file.
        Ok(text) => (text.find('\0'), "holds a NUL character"),
        Err(error) => (Some(error.valid_up_to()), "is not UTF-8 from here on"),
    };
    let Some(end) = valid else {
        return String::from_utf8(bytes).map_err(|_| Problem::whole_file(path, "is not UTF-8"));
    };
    let before = String::from_utf8_lossy(&bytes[..end]);
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    Err(Problem {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        ..Problem::whole_file(path, odd)
    })
}
