//! Takes typed values out of the tree and collects every problem on the way.
//!
//! A method that finds a problem notes it and returns `None`; the caller goes on with a default,
//! so that one load shows all problems. Which keys exist is not known here.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::load::Mode;
use super::problem::{Problem, Severity};
use super::quantity;
use super::scalar::{Scalar, resolve};
use super::suggest;
use super::tree::{At, Entry, Fault, Kind, Node};

/// A value and the way to it.
pub(super) struct Spot<'n> {
    pub(super) node: &'n Node,
    /// Such as `servers.git.args[2]`; empty at the top.
    pub(super) place: String,
}

impl<'n> Spot<'n> {
    pub(super) fn top(node: &'n Node) -> Self {
        Self { node, place: String::new() }
    }

    pub(super) fn of(&self, entry: &'n Entry) -> Spot<'n> {
        Spot { node: &entry.value, place: self.key(&entry.key) }
    }

    fn item(&self, index: usize, node: &'n Node) -> Spot<'n> {
        Spot { node, place: format!("{}[{index}]", self.place) }
    }

    fn key(&self, key: &str) -> String {
        match self.place.as_str() {
            "" => key.to_owned(),
            place => format!("{place}.{key}"),
        }
    }

    /// `null`, `~` or nothing at all, without quotes.
    pub(super) fn is_null(&self) -> bool {
        self.plain().is_some_and(|text| resolve(text) == Scalar::Null)
    }

    /// The text of one value, quoted or not; a list and a map have none.
    pub(super) fn word(&self) -> Option<&'n str> {
        match &self.node.kind {
            Kind::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    /// The text, if it stands without quotes.
    pub(super) fn plain(&self) -> Option<&'n str> {
        match &self.node.kind {
            Kind::Scalar { text, plain: true } => Some(text),
            _ => None,
        }
    }
}

/// A map whose keys have been checked.
pub(super) struct Fields<'n> {
    place: Spot<'n>,
    entries: &'n [Entry],
}

impl<'n> Fields<'n> {
    pub(super) fn get(&self, key: &str) -> Option<Spot<'n>> {
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        Some(self.place.of(entry))
    }
}

pub(super) struct Reader<'a> {
    pub(super) path: &'a Path,
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    pub(super) mode: Mode,
    pub(super) problems: Vec<Problem>,
}

impl Reader<'_> {
    pub(super) fn note(
        &mut self,
        severity: Severity,
        at: At,
        place: &str,
        what: impl Into<String>,
    ) {
        self.problems.push(Problem {
            path: self.path.to_owned(),
            line: at.line,
            column: at.column,
            place: place.to_owned(),
            severity,
            what: what.into(),
        });
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        self.note(Severity::Error, fault.at, &fault.place, fault.what);
    }

    pub(super) fn error(&mut self, spot: &Spot<'_>, what: impl Into<String>) {
        self.note(Severity::Error, spot.node.at, &spot.place, what);
    }

    pub(super) fn warning(&mut self, spot: &Spot<'_>, what: impl Into<String>) {
        self.note(Severity::Warning, spot.node.at, &spot.place, what);
    }

    /// What one can live with in the foreground, where somebody reads it, but not in a service.
    pub(super) fn lax(&mut self, spot: &Spot<'_>, what: impl Into<String>) {
        let severity = match self.mode {
            Mode::Foreground => Severity::Warning,
            Mode::System => Severity::Error,
        };
        self.note(severity, spot.node.at, &spot.place, what);
    }

    /// The entries of a map; nothing at all is an empty one. `remedy` ends the message if it is
    /// something else.
    pub(super) fn entries<'n>(&mut self, spot: &Spot<'n>, remedy: &str) -> Option<&'n [Entry]> {
        match &spot.node.kind {
            Kind::Map(entries) => Some(entries),
            _ if spot.is_null() => Some(&[]),
            _ => {
                self.error(spot, remedy);
                None
            }
        }
    }

    /// A map with a fixed set of keys.
    pub(super) fn fields<'n>(&mut self, spot: Spot<'n>, keys: &[&str]) -> Option<Fields<'n>> {
        self.fields_or(spot, keys, |_| false)
    }

    /// The same, where `free` may let other keys pass.
    pub(super) fn fields_or<'n>(
        &mut self,
        spot: Spot<'n>,
        keys: &[&str],
        free: fn(&Entry) -> bool,
    ) -> Option<Fields<'n>> {
        let entries = self.entries(&spot, &format!("write a map of {}", list(keys)))?;
        for entry in entries {
            if !keys.contains(&entry.key.as_str()) && !free(entry) {
                let what = format!("unknown key{}", suggest::hint(&entry.key, keys));
                self.note(Severity::Error, entry.at, &spot.key(&entry.key), what);
            }
        }
        Some(Fields { place: spot, entries })
    }

    /// The items of a list; nothing at all is an empty one.
    pub(super) fn items<'n>(&mut self, spot: &Spot<'n>, remedy: &str) -> Option<Vec<Spot<'n>>> {
        match &spot.node.kind {
            Kind::List(list) => {
                let items = list.iter().enumerate();
                Some(items.map(|(i, node)| spot.item(i, node)).collect())
            }
            _ if spot.is_null() => Some(Vec::new()),
            _ => {
                self.error(spot, remedy);
                None
            }
        }
    }

    /// One value as it is written: `010` is the text "010". Null, lists and maps are none.
    pub(super) fn text<'n>(&mut self, spot: &Spot<'n>) -> Option<&'n str> {
        let Kind::Scalar { text, .. } = &spot.node.kind else {
            self.error(spot, "write one text, not a list or a map");
            return None;
        };
        if spot.is_null() {
            self.error(spot, "has no value; write a text, in quotes if it is \"null\"");
            return None;
        }
        self.checked(spot, text)
    }

    /// A text that is not a number, bool or null either.
    pub(super) fn string<'n>(&mut self, spot: &Spot<'n>) -> Option<&'n str> {
        match spot.plain().map(resolve) {
            None | Some(Scalar::Text | Scalar::Null) => self.text(spot),
            Some(_) => {
                self.error(spot, "is not a text; write it in quotes if it is meant as one");
                None
            }
        }
    }

    /// No text that reaches the system may hold a NUL.
    pub(super) fn checked<'n>(&mut self, spot: &Spot<'_>, text: &'n str) -> Option<&'n str> {
        if text.contains('\0') {
            self.error(spot, "holds a NUL character");
            return None;
        }
        Some(text)
    }

    /// `true`/`false` and YAML 1.1's other words for them; null and 0 are off.
    pub(super) fn switch(&mut self, spot: &Spot<'_>) -> Option<bool> {
        let what = match (spot.plain().map(resolve), &spot.node.kind) {
            (Some(Scalar::Bool(on)), _) => return Some(on),
            (Some(Scalar::Null | Scalar::Int(0)), _) => return Some(false),
            (Some(Scalar::Int(1)), _) => return Some(true),
            (None, Kind::Scalar { text, .. }) => match resolve(text) {
                Scalar::Bool(_) => format!("write {text} without quotes"),
                _ => "write true or false, without quotes".to_owned(),
            },
            _ => "write true or false".to_owned(),
        };
        self.error(spot, what);
        None
    }

    pub(super) fn duration(&mut self, spot: &Spot<'_>) -> Option<Duration> {
        let text = self.text(spot)?;
        match quantity::duration(text) {
            Ok(duration) => Some(duration),
            Err(remedy) => {
                self.error(spot, format!("`{}` is no duration: {remedy}", short(text)));
                None
            }
        }
    }

    /// A duration that is not zero.
    pub(super) fn deadline(&mut self, spot: &Spot<'_>) -> Option<Duration> {
        let duration = self.duration(spot)?;
        if duration.is_zero() {
            self.error(spot, "must be more than 0");
            return None;
        }
        Some(duration)
    }

    /// A duration where zero means never.
    pub(super) fn idle(&mut self, spot: &Spot<'_>) -> Option<Option<Duration>> {
        Some(self.duration(spot)?).map(|duration| (!duration.is_zero()).then_some(duration))
    }

    pub(super) fn count(&mut self, spot: &Spot<'_>, least: usize, most: usize) -> Option<usize> {
        let number = match resolve(self.text(spot)?) {
            Scalar::Int(n) => usize::try_from(n).ok().filter(|n| (least..=most).contains(n)),
            _ => None,
        };
        if number.is_none() {
            self.error(spot, format!("write a whole number from {least} to {most}"));
        }
        number
    }

    pub(super) fn size(&mut self, spot: &Spot<'_>, least: u64, most: u64) -> Option<usize> {
        let size = quantity::size(self.text(spot)?).filter(|n| (least..=most).contains(n));
        if size.is_none() {
            let (least, most) = (quantity::size_text(least), quantity::size_text(most));
            self.error(spot, format!("write a size from {least} to {most}, such as 8M"));
        }
        size.and_then(|size| usize::try_from(size).ok())
    }

    pub(super) fn choice<T: Copy>(&mut self, spot: &Spot<'_>, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(spot)?;
        let chosen = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if chosen.is_none() {
            let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let hint = suggest::did_you_mean(text, &names);
            self.error(spot, format!("`{}` is none of {}{hint}", short(text), list(&names)));
        }
        chosen
    }

    /// A list of globs, each of which compiles.
    pub(super) fn globs(&mut self, spot: &Spot<'_>) -> Option<Vec<String>> {
        let items = self.items(spot, "write a list of globs, such as [\"git_*\"]")?;
        let mut globs = Vec::new();
        for item in &items {
            let Some(text) = self.string(item) else { continue };
            match super::glob(text) {
                Ok(_) => globs.push(text.to_owned()),
                Err(error) => {
                    self.error(item, format!("`{}` is no glob: {}", short(text), error.kind()));
                }
            }
        }
        Some(globs)
    }

    /// An absolute path; `~/` is the home directory, and anything else starts at `base` if there
    /// is one.
    pub(super) fn absolute(&mut self, spot: &Spot<'_>, base: Option<&Path>) -> Option<PathBuf> {
        let text = self.text(spot)?;
        let home = (text == "~").then_some("").or_else(|| text.strip_prefix("~/"));
        if let Some(rest) = home {
            let home = (self.env)("HOME").filter(|home| home.starts_with('/'));
            if home.is_none() {
                self.error(spot, "`~` needs HOME, which is not set");
            }
            return Some(Path::new(&home?).join(rest));
        }
        match base {
            _ if text.starts_with('/') => Some(PathBuf::from(text)),
            Some(base) if !text.is_empty() => Some(base.join(text)),
            _ => {
                self.error(spot, "write an absolute path, or one that starts with `~/`");
                None
            }
        }
    }
}

/// `a, b and c`
fn list(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [word] => (*word).to_owned(),
        [words @ .., last] => format!("{} and {last}", words.join(", ")),
    }
}

/// A text cut to what a message can hold.
pub(super) fn short(text: &str) -> String {
    let mut shown: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().nth(40).is_some() {
        shown.push('…');
    }
    shown
}
