//! One entry of `plugins`: where its code is, and what its process gets.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reader::{Fields, Reader, Spot};
use super::server::{self, Around};
use super::tree::Kind;
use super::{Server, sandbox};

pub(super) const KEYS: &[&str] = &[
    "module", "file", "dir", "path", "python", "watch", "prefix", "env", "share", "timeouts",
    "limits", "sandbox", "tools",
];
/// One of these says where the code is.
const SOURCES: [&str; 3] = ["module", "file", "dir"];

/// What the process of a set of plugins is called.
const HOST: &str = "plugins";

/// Python code with tools. Those that agree in everything but their code share a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    pub source: Source,
    /// Where a module is looked for first.
    pub path: Option<PathBuf>,
    /// The program that runs it; `None` is `python3`.
    pub python: Option<String>,
    /// A change of its files counts at once.
    pub watch: bool,
    /// What its process gets, as a server without a command.
    pub host: Server,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `my_tools.text`
    Module(String),
    /// Absolute.
    File(PathBuf),
    /// Every `*.py` in it. Absolute.
    Dir(PathBuf),
}

impl Plugin {
    /// One that says nothing but where its code is.
    pub fn plain(source: Source, idle: Option<Duration>) -> Self {
        let mut host = Server::named(HOST);
        host.prefix = Some(String::new());
        host.timeouts.idle = idle;
        Self { source, path: None, python: None, watch: false, host }
    }

    /// What a person calls it.
    pub fn name(&self) -> String {
        match &self.source {
            Source::Module(name) => name.clone(),
            Source::File(path) | Source::Dir(path) => path.display().to_string(),
        }
    }

    /// Whether one process can run both.
    pub fn goes_with(&self, other: &Self) -> bool {
        (&self.python, self.watch, &self.host) == (&other.python, other.watch, &other.host)
    }
}

pub(super) fn read_all(
    reader: &mut Reader<'_>,
    spot: &Spot<'_>,
    around: &Around<'_>,
) -> Vec<Plugin> {
    let items = reader.items(spot, "write a list, such as [my_tools.text]");
    let mut plugins = Vec::new();
    for item in items.into_iter().flatten() {
        if matches!(item.node.kind, Kind::Map(_)) {
            plugins.extend(read(reader, item, around));
        } else {
            let module = module(reader, &item).map(Source::Module);
            plugins.extend(module.map(|source| Plugin::plain(source, around.idle_timeout)));
        }
    }
    plugins
}

fn read(reader: &mut Reader<'_>, item: Spot<'_>, around: &Around<'_>) -> Option<Plugin> {
    let whole = Spot { node: item.node, place: item.place.clone() };
    let fields = reader.fields(item, KEYS)?;
    let source = source(reader, &whole, &fields, around);
    // Without one there may be more to say all the same.
    let has_source = source.is_some();
    let source = source.unwrap_or_else(|| Source::Module(String::new()));
    let mut plugin = Plugin::plain(source, around.idle_timeout);
    if let Some(spot) = fields.get("path").filter(|spot| !spot.is_null()) {
        plugin.path = reader.absolute(&spot, Some(around.folder));
        if !matches!(plugin.source, Source::Module(_)) {
            reader.error(&spot, "is where a module is looked for, and goes with `module` only");
        }
    }
    if let Some(spot) = fields.get("python").filter(|spot| !spot.is_null()) {
        plugin.python = python(reader, &spot, around.folder);
    }
    if let Some(watch) = fields.get("watch").and_then(|spot| reader.switch(&spot)) {
        plugin.watch = watch;
    }
    let host = &mut plugin.host;
    if let Some(spot) = fields.get("prefix").filter(|spot| !spot.is_null()) {
        host.prefix = server::prefix(reader, &spot);
    }
    if let Some(spot) = fields.get("env") {
        host.env = server::environment(reader, &spot, true);
    }
    if let Some(value) = fields.get("share").and_then(|spot| reader.choice(&spot, server::SHARE)) {
        host.share = value;
    }
    let sub = |key, keys, reader: &mut Reader<'_>| {
        fields.get(key).and_then(|spot| reader.fields(spot, keys))
    };
    if let Some(fields) = sub("timeouts", server::TIMEOUT_KEYS, reader) {
        server::timeouts(reader, &fields, &mut host.timeouts);
    }
    if let Some(fields) = sub("limits", server::LIMIT_KEYS, reader) {
        server::limits(reader, &fields, &mut host.limits);
    }
    if let Some(fields) = sub("sandbox", sandbox::KEYS, reader) {
        sandbox::read(reader, &fields, around, &mut host.sandbox);
    }
    if let Some(fields) = sub("tools", server::FILTER_KEYS, reader) {
        (host.tools.allow, host.tools.deny) = server::filter(reader, &fields);
    }
    has_source.then_some(plugin)
}

fn source(
    reader: &mut Reader<'_>,
    whole: &Spot<'_>,
    fields: &Fields<'_>,
    around: &Around<'_>,
) -> Option<Source> {
    let given: Vec<&str> = SOURCES.into_iter().filter(|key| fields.get(key).is_some()).collect();
    match given.as_slice() {
        ["module"] => module(reader, &fields.get("module")?).map(Source::Module),
        ["file"] => reader.absolute(&fields.get("file")?, Some(around.folder)).map(Source::File),
        ["dir"] => reader.absolute(&fields.get("dir")?, Some(around.folder)).map(Source::Dir),
        [] => {
            reader.error(whole, "has no module; name one, or a `file`, or a `dir` of them");
            None
        }
        _ => {
            let what = format!("has {}; write an entry for each", given.join(" and "));
            reader.error(whole, what);
            None
        }
    }
}

fn module(reader: &mut Reader<'_>, spot: &Spot<'_>) -> Option<String> {
    let text = reader.string(spot)?;
    if text.is_empty() {
        reader.error(spot, "is empty; name a Python module");
        return None;
    }
    if text.ends_with(".py") || text.contains('/') {
        reader.error(spot, format!("is a path, and no module's name; write {{file: {text}}}"));
        return None;
    }
    Some(text.to_owned())
}

/// A program of PATH, or a path, relative to the file.
fn python(reader: &mut Reader<'_>, spot: &Spot<'_>, folder: &Path) -> Option<String> {
    let text = reader.text(spot)?.to_owned();
    if text.is_empty() {
        reader.error(spot, "is empty; name a Python, such as .venv/bin/python");
        return None;
    }
    if !text.contains('/') {
        return Some(text);
    }
    reader.absolute(spot, Some(folder)).map(|path| path.to_string_lossy().into_owned())
}
