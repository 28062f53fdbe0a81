//! What one backend's lists said, item by item, as it was written.

use std::{collections::HashSet, sync::Arc, time::Duration};

use serde::Deserialize;

use crate::{
    backend::{AskError, Info, Link},
    protocol::{Era, array_member, method, string_member},
};

/// Pages that are followed; a cursor that never ends is cut there.
const PAGES: usize = 200;
/// What one list may hold.
const ITEMS: usize = 20_000;
const BYTES: usize = 32 << 20;

/// One tool, prompt, resource or template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// Its `name`, `uri` or `uriTemplate`.
    pub key: String,
    /// The definition as JSON text.
    pub raw: String,
}

/// A list with the result of its only page, where it had only one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct List {
    pub items: Vec<Item>,
    pub whole: Option<String>,
}

/// The four lists, and which member and key each has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Tools,
    Prompts,
    Resources,
    Templates,
}

impl Kind {
    pub(crate) const ALL: [Kind; 4] =
        [Kind::Tools, Kind::Prompts, Kind::Resources, Kind::Templates];

    pub(crate) fn method(self) -> &'static str {
        match self {
            Kind::Tools => method::TOOLS_LIST,
            Kind::Prompts => method::PROMPTS_LIST,
            Kind::Resources => method::RESOURCES_LIST,
            Kind::Templates => method::TEMPLATES_LIST,
        }
    }

    pub(crate) fn member(self) -> &'static str {
        match self {
            Kind::Tools => "tools",
            Kind::Prompts => "prompts",
            Kind::Resources => "resources",
            Kind::Templates => "resourceTemplates",
        }
    }

    /// The member that names an item.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Kind::Tools | Kind::Prompts => "name",
            Kind::Resources => "uri",
            Kind::Templates => "uriTemplate",
        }
    }

    /// The capability that promises the list.
    pub(crate) fn capability(self) -> &'static str {
        match self {
            Kind::Tools => "tools",
            Kind::Prompts => "prompts",
            Kind::Resources | Kind::Templates => "resources",
        }
    }

    pub(crate) fn changed(self) -> &'static str {
        match self {
            Kind::Tools => method::TOOLS_CHANGED,
            Kind::Prompts => method::PROMPTS_CHANGED,
            Kind::Resources | Kind::Templates => method::RESOURCES_CHANGED,
        }
    }
}

/// Everything that is known of one backend for one holder.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listing {
    /// The result of `initialize` or `server/discover`, as it came.
    pub info: Arc<str>,
    /// Which of the two it is; also what its lists look like.
    pub era: Option<Era>,
    pub capabilities: serde_json::Value,
    pub tools: Option<Arc<List>>,
    pub prompts: Option<Arc<List>>,
    /// Never from disk, except for instances that all share.
    pub resources: Option<Arc<List>>,
    pub templates: Option<Arc<List>>,
    /// Read from disk and not yet confirmed by the backend.
    pub from_disk: bool,
}

/// What the result of a plugin host's `tools/list` says of those that it could not load.
#[derive(Deserialize)]
struct Loading {
    #[serde(rename = "_meta")]
    meta: LoadingMeta,
}

#[derive(Deserialize)]
struct LoadingMeta {
    #[serde(rename = "mcp-gateway/plugins")]
    plugins: LoadingPlugins,
}

#[derive(Deserialize)]
struct LoadingPlugins {
    problems: Vec<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    plugin: String,
    #[serde(default)]
    function: String,
    file: String,
    line: u64,
    message: String,
}

impl Listing {
    /// Plugins and functions that its host could not load: `file:line: plugin NAME: why`.
    pub(crate) fn problems(&self) -> Vec<String> {
        const MARK: &[u8] = b"mcp-gateway/plugins";
        let whole = self.tools.as_ref().and_then(|tools| tools.whole.as_deref());
        let whole = whole.filter(|whole| memchr::memmem::find(whole.as_bytes(), MARK).is_some());
        let loading: Option<Loading> = whole.and_then(|whole| serde_json::from_str(whole).ok());
        let problems = loading.map(|loading| loading.meta.plugins.problems).unwrap_or_default();
        let told = problems.into_iter().map(|problem| {
            let Problem { plugin, function, file, line, message } = problem;
            let place = match (file.is_empty(), line) {
                (true, _) => String::new(),
                (false, 0) => format!("{file}: "),
                (false, line) => format!("{file}:{line}: "),
            };
            let function =
                if function.is_empty() { function } else { format!(", function {function}") };
            format!("{place}plugin {plugin}{function}: {message}")
        });
        told.collect()
    }

    /// Nothing but what a backend said of itself.
    pub(crate) fn of(info: &Info) -> Self {
        Listing {
            info: Arc::clone(&info.raw),
            era: Some(info.era),
            capabilities: info.capabilities.clone(),
            ..Listing::default()
        }
    }

    pub(crate) fn list(&self, kind: Kind) -> Option<&Arc<List>> {
        match kind {
            Kind::Tools => self.tools.as_ref(),
            Kind::Prompts => self.prompts.as_ref(),
            Kind::Resources => self.resources.as_ref(),
            Kind::Templates => self.templates.as_ref(),
        }
    }

    pub(crate) fn set(&mut self, kind: Kind, list: Option<Arc<List>>) {
        match kind {
            Kind::Tools => self.tools = list,
            Kind::Prompts => self.prompts = list,
            Kind::Resources => self.resources = list,
            Kind::Templates => self.templates = list,
        }
    }

    pub(crate) fn has(&self, capability: &str) -> bool {
        self.capabilities.get(capability).is_some()
    }
}

/// Asks a running backend for one list, page after page.
pub(crate) async fn fetch(link: &Link, kind: Kind, within: Duration) -> Result<List, AskError> {
    let mut pages = Pages::default();
    let mut cursor = None::<String>;
    for _ in 0..PAGES {
        let params = match &cursor {
            None => "{}".to_owned(),
            Some(cursor) => format!("{{\"cursor\":{}}}", serde_json::Value::from(cursor.as_str())),
        };
        let answer = link.ask_result(kind.method(), &params, within).await?;
        cursor = pages.take(kind, answer.result().unwrap_or("{}"));
        if cursor.is_none() {
            return Ok(pages.list);
        }
    }
    tracing::warn!("{}: cut after {PAGES} pages", kind.method());
    Ok(pages.list)
}

/// What has been read of a list so far.
#[derive(Default)]
struct Pages {
    list: List,
    read: usize,
    /// Of items and cursors.
    bytes: usize,
    seen: HashSet<String>,
}

impl Pages {
    /// Takes a page in; the cursor of the next one, unless this was the last that is wanted.
    fn take(&mut self, kind: Kind, result: &str) -> Option<String> {
        let cut = |list: &List| {
            tracing::warn!("{}: cut after {} items", kind.method(), list.items.len());
            None
        };
        for raw in array_member(result, kind.member()).unwrap_or_default() {
            self.bytes += raw.len();
            if self.list.items.len() >= ITEMS || self.bytes > BYTES {
                return cut(&self.list);
            }
            if let Some(key) = string_member(raw, kind.key()) {
                self.list.items.push(Item { key: key.into_owned(), raw: raw.to_owned() });
            }
        }
        self.read += 1;
        let Some(next) = string_member(result, "nextCursor") else {
            if self.read == 1 {
                self.list.whole = Some(result.to_owned());
            }
            return None;
        };
        self.bytes += next.len();
        if self.bytes > BYTES {
            return cut(&self.list);
        }
        if !self.seen.insert(next.clone().into_owned()) {
            tracing::warn!("{}: the cursor repeats, the rest is left out", kind.method());
            return None;
        }
        Some(next.into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(items: usize, cursor: Option<&str>) -> String {
        let items: Vec<_> =
            (0..items).map(|n| serde_json::json!({"name": n.to_string()})).collect();
        serde_json::json!({"tools": items, "nextCursor": cursor}).to_string()
    }

    #[test]
    fn cursors_count_as_bytes_of_the_list() {
        let mut pages = Pages::default();
        let taken = (0..PAGES).take_while(|n| {
            let cursor = format!("{n}{}", "c".repeat(BYTES / 8));
            pages.take(Kind::Tools, &page(1, Some(&cursor))).is_some()
        });
        assert_eq!(taken.count(), 7);
        assert_eq!(pages.list.items.len(), 8, "what was read until then stays");
    }

    #[test]
    fn pages_end_with_the_last_one_or_where_a_cursor_repeats() {
        let mut pages = Pages::default();
        assert_eq!(pages.take(Kind::Tools, &page(2, Some("a"))).as_deref(), Some("a"));
        assert_eq!(pages.take(Kind::Tools, &page(1, Some("a"))), None);
        assert_eq!((pages.list.items.len(), pages.list.whole), (3, None));
        let mut pages = Pages::default();
        let only = r#"{"tools":[],"_meta":{"x":1}}"#;
        assert_eq!(pages.take(Kind::Tools, only), None);
        assert_eq!(pages.list.whole.as_deref(), Some(only));
    }
}
