//! The catalog's memory across restarts: one small file a backend and holder.
//!
//! Holds what backends said of themselves, nothing that a client said. What is read back is
//! treated as input: a file that cannot be read is as good as none.

use std::{
    collections::BTreeMap,
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use sha2::{Digest, Sha256};

use super::listing::{Item, Kind, List, Listing};
use crate::{
    config::{Server, Share},
    protocol::{Era, string_member},
};

/// Changed whenever the meaning of the files does.
const FORMAT: u32 = 2;
const LARGEST: u64 = 64 << 20;
/// With more files than this the oldest are removed: every folder of a client may make one.
const FILES: usize = 1000;
/// Files and folders of plugins' code that are looked at.
const CODE: usize = 5000;

/// Where catalog files are kept. Without a folder nothing is remembered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    folder: Option<PathBuf>,
    writing: Arc<Mutex<Writing>>,
}

/// What is still to be written, the newest for each file.
#[derive(Debug, Default)]
struct Writing {
    waiting: BTreeMap<PathBuf, (Server, Listing)>,
    /// Somebody writes, and goes on until nothing waits.
    busy: bool,
}

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    server: String,
    digest: String,
    info: Box<RawValue>,
    tools: Option<Saved>,
    prompts: Option<Saved>,
    resources: Option<Saved>,
    templates: Option<Saved>,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    items: Vec<Box<RawValue>>,
    whole: Option<Box<RawValue>>,
}

impl Disk {
    pub(crate) fn new(folder: Option<PathBuf>) -> Self {
        Disk { folder: folder.map(|folder| folder.join("catalog")), ..Disk::default() }
    }

    fn path(&self, server: &Server, holder: &str) -> Option<PathBuf> {
        let name = hex(&Sha256::digest(format!("{}\0{holder}", server.name)));
        Some(self.folder.as_ref()?.join(format!("{}.json", &name[..32])))
    }

    /// What this backend said last, if nothing has changed since that could change it.
    pub(crate) fn load(&self, server: &Server, holder: &str) -> Option<Listing> {
        let path = self.path(server, holder)?;
        if fs::metadata(&path).ok()?.len() > LARGEST {
            return None;
        }
        let file: File = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        if file.format != FORMAT || file.server != server.name || file.digest != digest(server) {
            return None;
        }
        let info = file.info.get();
        let capabilities = crate::protocol::member(info, "capabilities");
        let capabilities = serde_json::from_str(&info[capabilities?]).ok()?;
        let discovered = crate::protocol::member(info, "supportedVersions").is_some();
        Some(Listing {
            capabilities,
            era: Some(if discovered { Era::Modern } else { Era::Legacy }),
            info: Arc::from(info),
            tools: restored(file.tools, Kind::Tools),
            prompts: restored(file.prompts, Kind::Prompts),
            resources: restored(file.resources, Kind::Resources),
            templates: restored(file.templates, Kind::Templates),
            from_disk: true,
        })
    }

    /// Writes a whole new file and puts it in place, on a thread where a slow disk holds up
    /// nobody; at once where there is no runtime.
    pub(crate) fn save(&self, server: &Server, holder: &str, listing: &Listing) {
        let Some(path) = self.path(server, holder) else { return };
        {
            let mut writing = self.writing();
            writing.waiting.insert(path, (server.clone(), listing.clone()));
            if std::mem::replace(&mut writing.busy, true) {
                return;
            }
        }
        let disk = self.clone();
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || disk.write_all())),
            Err(_) => disk.write_all(),
        }
    }

    fn writing(&self) -> MutexGuard<'_, Writing> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all(&self) {
        loop {
            let next = {
                let mut writing = self.writing();
                let next = writing.waiting.pop_first();
                writing.busy = next.is_some();
                next
            };
            let Some((path, (server, listing))) = next else { return };
            if let Err(error) = write(&path, &file(&server, &listing)) {
                tracing::warn!(
                    server = server.name,
                    "the catalog is not kept in {}: {error}",
                    path.display()
                );
            }
        }
    }
}

fn file(server: &Server, listing: &Listing) -> Option<File> {
    // One holder's resources may be another's secrets; names of tools are not.
    let all = server.share == Share::All;
    let kept = |kind| listing.list(kind).and_then(saved);
    Some(File {
        format: FORMAT,
        server: server.name.clone(),
        digest: digest(server),
        info: raw(&listing.info)?,
        tools: kept(Kind::Tools),
        prompts: kept(Kind::Prompts),
        resources: all.then(|| kept(Kind::Resources)).flatten(),
        templates: all.then(|| kept(Kind::Templates)).flatten(),
    })
}

fn raw(json: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(json.to_owned()).ok()
}

fn saved(list: &Arc<List>) -> Option<Saved> {
    let items: Option<Vec<_>> = list.items.iter().map(|item| raw(&item.raw)).collect();
    Some(Saved { items: items?, whole: list.whole.as_deref().and_then(raw) })
}

fn restored(saved: Option<Saved>, kind: Kind) -> Option<Arc<List>> {
    let saved = saved?;
    let items = saved.items.into_iter().filter_map(|raw| {
        let key = string_member(raw.get(), kind.key())?.into_owned();
        Some(Item { key, raw: raw.get().to_owned() })
    });
    let whole = saved.whole.map(|raw| raw.get().to_owned());
    Some(Arc::new(List { items: items.collect(), whole }))
}

fn write(path: &Path, file: &Option<File>) -> io::Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let text = to_raw_value(file)?;
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    let _ = fs::remove_file(&fresh);
    let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    out.write_all(text.get().as_bytes())?;
    drop(out);
    fs::rename(&fresh, path)?;
    make_room(folder)
}

/// Removes the oldest files where there are too many.
fn make_room(folder: &Path) -> io::Result<()> {
    let files = fs::read_dir(folder)?.filter_map(|entry| {
        let entry = entry.ok()?;
        let meta = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        Some((meta.modified().unwrap_or(SystemTime::UNIX_EPOCH), entry.path()))
    });
    let mut files: Vec<_> = files.collect();
    let spare = files.len().saturating_sub(FILES);
    files.sort_unstable();
    files.iter().take(spare).try_for_each(|(_, path)| fs::remove_file(path))
}

/// Everything that could change what a backend lists: how it is started, with which variables,
/// and the files that its command line names.
fn digest(server: &Server) -> String {
    let mut hash = Sha256::new();
    let mut put = |part: &str| {
        hash.update(part.as_bytes());
        hash.update([0]);
    };
    put(env!("CARGO_PKG_VERSION"));
    put(&server.command);
    put(&modified(&program(server)));
    for arg in &server.args {
        put(arg);
        if arg.starts_with('/') {
            put(&modified(Path::new(arg)));
        }
    }
    for (name, _) in &server.env {
        put(name);
    }
    put(&server.cwd.as_ref().map(|cwd| cwd.display().to_string()).unwrap_or_default());
    let mut left = CODE;
    for path in server.code.iter().flat_map(|code| &code.paths) {
        code(path, &mut put, &mut left);
    }
    hex(&hash.finalize())
}

fn program(server: &Server) -> PathBuf {
    if server.command.contains('/') {
        return PathBuf::from(&server.command);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(&server.command))
        .find(|program| program.is_file())
        .unwrap_or_default()
}

/// The Python files of a folder, and when each was changed.
fn code(path: &Path, put: &mut impl FnMut(&str), left: &mut usize) {
    let Ok(entries) = fs::read_dir(path) else {
        put(&path.to_string_lossy());
        return put(&modified(path));
    };
    let mut entries: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let folder = path.is_dir() && !path.is_symlink() && !path.ends_with("__pycache__");
        if hidden || *left == 0 || !(folder || path.extension().is_some_and(|end| end == "py")) {
            continue;
        }
        *left -= 1;
        code(&path, put, left);
    }
}

/// A file's time of change. Folders do not count: data in them comes and goes.
fn modified(path: &Path) -> String {
    let changed = fs::metadata(path)
        .ok()
        .filter(fs::Metadata::is_file)
        .and_then(|meta| meta.modified().ok()?.duration_since(UNIX_EPOCH).ok());
    changed.map(|time| time.as_nanos().to_string()).unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing() -> Listing {
        let item = |key: &str, raw: &str| Item { key: key.into(), raw: raw.into() };
        let list = |items| Some(Arc::new(List { items, whole: None }));
        Listing {
            info: r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"x":1.0}"#.into(),
            capabilities: serde_json::json!({"tools": {}}),
            era: Some(Era::Legacy),
            tools: list(vec![item("echo", r#"{"name":"echo","n":123456789012345678901}"#)]),
            prompts: None,
            resources: list(vec![item("file:///secret", r#"{"uri":"file:///secret"}"#)]),
            templates: None,
            from_disk: false,
        }
    }

    #[test]
    fn what_was_written_is_read_back_but_for_one_holders_resources() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(Some(folder.path().to_owned()));
        let mut server = Server::named("s");
        disk.save(&server, "uid:1", &listing());
        let back = disk.load(&server, "uid:1").unwrap();
        assert_eq!(back.tools, listing().tools);
        assert_eq!((&back.info, back.era), (&listing().info, listing().era));
        assert!(back.resources.is_none() && back.from_disk);
        assert!(disk.load(&server, "uid:2").is_none(), "another holder has its own");
        server.share = Share::All;
        disk.save(&server, "all", &listing());
        assert_eq!(disk.load(&server, "all").unwrap().resources, listing().resources);
        server.args.push("--other".into());
        assert!(disk.load(&server, "all").is_none(), "another command line, another catalog");
    }

    #[test]
    fn the_oldest_files_make_room() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(Some(folder.path().to_owned()));
        let server = Server::named("s");
        let catalog = folder.path().join("catalog");
        fs::create_dir(&catalog).unwrap();
        for n in 0..FILES + 5 {
            let file = fs::File::create(catalog.join(n.to_string())).unwrap();
            file.set_modified(UNIX_EPOCH + std::time::Duration::from_secs(n as u64)).unwrap();
        }
        disk.save(&server, "h", &listing());
        assert_eq!(fs::read_dir(&catalog).unwrap().count(), FILES);
        assert!(disk.load(&server, "h").is_some());
        assert!(!catalog.join("5").exists() && catalog.join("6").exists());
    }

    #[test]
    fn with_a_runtime_another_thread_writes_and_the_newest_stays() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(Some(folder.path().to_owned()));
        let server = Server::named("s");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (start, started) = std::sync::mpsc::channel::<()>();
        runtime.block_on(async {
            // A writer that is busy with another file takes these up afterwards.
            disk.writing().busy = true;
            let twin = disk.clone();
            tokio::task::spawn_blocking(move || {
                let _ = started.recv();
                twin.write_all();
            });
            disk.save(&server, "h", &Listing { tools: None, ..listing() });
            disk.save(&server, "h", &listing());
            assert!(disk.load(&server, "h").is_none(), "not on this thread");
            start.send(()).unwrap();
        });
        drop(runtime);
        assert_eq!(disk.load(&server, "h").unwrap().tools, listing().tools);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { disk.save(&server, "other", &listing()) });
        drop(runtime);
        assert!(disk.load(&server, "other").is_some());
    }

    #[test]
    fn a_spoilt_file_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(Some(folder.path().to_owned()));
        let server = Server::named("s");
        disk.save(&server, "h", &listing());
        let path = disk.path(&server, "h").unwrap();
        for spoilt in ["", "null", "{}", "[1]", "{\"format\":1}", "\u{0}"] {
            fs::write(&path, spoilt).unwrap();
            assert!(disk.load(&server, "h").is_none(), "{spoilt}");
        }
        assert!(Disk::new(None).load(&server, "h").is_none());
    }
}
