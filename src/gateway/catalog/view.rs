//! What one principal sees: names, definitions, and where each name leads.
//!
//! Built from the listings by asking policy for every single item, so a list holds exactly what
//! can be called. Immutable; a new one is built when the catalog has changed.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use super::{
    listing::{Kind, Listing},
    mirrored::{self, Mirrored},
    names::Names,
};
use crate::{
    config::Server,
    policy::{Policy, Principal, Target},
    protocol::with_member,
};

/// The gateway's own tool.
pub(crate) const STATUS: &str = "gateway_status";

/// Where a name leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// A tool or prompt of a backend, by its own name.
    Backend {
        server: Arc<str>,
        bare: String,
    },
    /// Start this backend and look what it has.
    Connect {
        server: Arc<str>,
    },
    Status,
}

#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub exposed: String,
    pub route: Route,
    /// The definition under the exposed name, as JSON text.
    pub raw: String,
    /// Callable but not listed: the tools of a backend that shows a placeholder now.
    pub hidden: bool,
    /// The arguments that HTTP clients repeat in header fields.
    pub mirrored: Vec<Mirrored>,
}

/// Tools or prompts under their exposed names.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    pub shown: Vec<Shown>,
    by_name: foldhash::HashMap<String, usize>,
    /// Names of backends' own that only one backend has.
    by_bare: HashMap<String, Option<usize>>,
    /// The gateway's own names. They never lead to a backend, be they shown or not.
    reserved: HashSet<String>,
}

impl Shelf {
    fn put(&mut self, shown: Shown) {
        let at = self.shown.len();
        if let Route::Backend { bare, .. } = &shown.route {
            self.by_bare.entry(bare.clone()).and_modify(|known| *known = None).or_insert(Some(at));
        }
        self.by_name.insert(shown.exposed.clone(), at);
        self.shown.push(shown);
    }

    /// An exposed name, or a bare one that is unique.
    pub(crate) fn find(&self, name: &str) -> Option<&Shown> {
        let bare = || (!self.reserved.contains(name)).then(|| *self.by_bare.get(name)?)?;
        let at = self.by_name.get(name).copied().or_else(bare)?;
        self.shown.get(at)
    }

    pub(crate) fn listed(&self) -> impl Iterator<Item = &Shown> {
        self.shown.iter().filter(|shown| !shown.hidden)
    }

    fn mark(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for shown in self.listed() {
            shown.raw.hash(&mut hasher);
        }
        hasher.finish()
    }
}

/// A resource or template with the backend that it came from.
#[derive(Debug)]
pub(crate) struct Located {
    pub uri: String,
    pub server: Arc<str>,
    pub raw: String,
}

#[derive(Debug, Default)]
pub(crate) struct View {
    pub tools: Shelf,
    pub prompts: Shelf,
    pub resources: Vec<Located>,
    pub templates: Vec<Located>,
}

impl View {
    /// Differs when what is shown differs.
    pub(crate) fn mark(&self, kind: Kind) -> u64 {
        let located = |all: &[Located]| {
            let mut hasher = DefaultHasher::new();
            for one in all {
                one.raw.hash(&mut hasher);
            }
            hasher.finish()
        };
        match kind {
            Kind::Tools => self.tools.mark(),
            Kind::Prompts => self.prompts.mark(),
            Kind::Resources => located(&self.resources),
            Kind::Templates => located(&self.templates),
        }
    }

    /// The backend that this URI belongs to: as listed, or by the first template that fits.
    pub(crate) fn locate(&self, uri: &str) -> Option<&Arc<str>> {
        let listed = self.resources.iter().find(|resource| resource.uri == uri);
        let fits =
            || self.templates.iter().find(|template| super::template::fits(&template.uri, uri));
        listed.or_else(fits).map(|located| &located.server)
    }
}

/// One backend as it goes into a view.
pub(crate) struct Source<'a> {
    pub server: &'a Server,
    pub name: Arc<str>,
    pub listing: Option<Arc<Listing>>,
    /// Shown by its placeholder instead of its tools.
    pub placeholder: bool,
}

/// The aggregate: everything under qualified names, and the gateway's own tools.
pub(crate) fn aggregate(sources: &[Source<'_>], policy: &Policy, who: &Principal) -> View {
    let mut names = Names::default();
    names.reserve(STATUS);
    let mut prompt_names = Names::default();
    // Placeholders have their names whether they are shown or not, so that none ever changes.
    let placeholders: Vec<String> =
        sources.iter().map(|source| names.placeholder(&source.server.name)).collect();
    let mut view = View::default();
    view.tools.reserved.extend(placeholders.iter().cloned().chain([STATUS.to_owned()]));
    let mut located = HashSet::new();
    for (source, placeholder) in sources.iter().zip(placeholders) {
        let prefix = source.server.prefix.as_deref();
        let server = &source.name;
        let targets = [Target::Builtin { exposed: &placeholder }, Target::Server { server }];
        if targets.into_iter().all(|target| policy.authorize(who, target).is_some()) {
            let raw = placeholder_definition(&placeholder, server);
            let route = Route::Connect { server: Arc::clone(server) };
            // Once connected the placeholder leaves the list but still answers.
            let hidden = !source.placeholder;
            let mirrored = Vec::new();
            view.tools.put(Shown { exposed: placeholder, route, raw, hidden, mirrored });
        }
        let Some(listing) = &source.listing else { continue };
        let shelves = [
            (Kind::Tools, &mut view.tools, &mut names),
            (Kind::Prompts, &mut view.prompts, &mut prompt_names),
        ];
        for (kind, shelf, names) in shelves {
            let hidden = source.placeholder && kind == Kind::Tools;
            for (bare, raw) in unique(listing, kind) {
                let exposed = names.qualify(server, prefix, bare);
                if policy.authorize(who, target_of(kind, server, &exposed, bare)).is_none() {
                    continue;
                }
                let name = serde_json::Value::from(exposed.as_str()).to_string();
                let raw = with_member(raw, "name", &name);
                let route = Route::Backend { server: Arc::clone(server), bare: bare.to_owned() };
                let mirrored = mirrored::read(&raw);
                shelf.put(Shown { exposed, route, raw, hidden, mirrored });
            }
        }
        locate(&mut view, &mut located, source, listing, policy, who);
    }
    if policy.authorize(who, Target::Builtin { exposed: STATUS }).is_some() {
        let raw = status_definition();
        let (exposed, route) = (STATUS.into(), Route::Status);
        view.tools.put(Shown { exposed, route, raw, hidden: false, mirrored: Vec::new() });
    }
    view
}

/// One backend alone under its own names.
pub(crate) fn transparent(source: &Source<'_>, policy: &Policy, who: &Principal) -> View {
    let mut view = View::default();
    let Some(listing) = &source.listing else { return view };
    let server = &source.name;
    for (kind, shelf) in [(Kind::Tools, &mut view.tools), (Kind::Prompts, &mut view.prompts)] {
        for (bare, raw) in unique(listing, kind) {
            // Rules are about qualified names; a bare one might look like another backend's.
            let qualified = format!("{server}_{bare}");
            if policy.authorize(who, target_of(kind, server, &qualified, bare)).is_some() {
                let route = Route::Backend { server: Arc::clone(server), bare: bare.to_owned() };
                shelf.put(Shown {
                    exposed: bare.to_owned(),
                    route,
                    raw: raw.to_owned(),
                    hidden: false,
                    mirrored: mirrored::read(raw),
                });
            }
        }
    }
    locate(&mut view, &mut HashSet::new(), source, listing, policy, who);
    view
}

fn target_of<'a>(kind: Kind, server: &'a str, exposed: &'a str, bare: &'a str) -> Target<'a> {
    match kind {
        Kind::Prompts => Target::Prompt { server, exposed, bare },
        _ => Target::Tool { server, exposed, bare },
    }
}

/// The items of a list, each name once: the first keeps it.
fn unique(listing: &Listing, kind: Kind) -> impl Iterator<Item = (&str, &str)> {
    let mut seen = HashSet::new();
    let items = listing.list(kind).into_iter().flat_map(|list| &list.items);
    items
        .filter(move |item| seen.insert(item.key.as_str()))
        .map(|item| (item.key.as_str(), item.raw.as_str()))
}

/// Adds the resources and templates that are not `located` yet.
fn locate<'a>(
    view: &mut View,
    located: &mut HashSet<(Kind, &'a str)>,
    source: &Source<'_>,
    listing: &'a Listing,
    policy: &Policy,
    who: &Principal,
) {
    for (kind, all) in
        [(Kind::Resources, &mut view.resources), (Kind::Templates, &mut view.templates)]
    {
        for (uri, raw) in unique(listing, kind) {
            let server = &source.name;
            let allowed = policy.authorize(who, Target::Resource { server, uri }).is_some();
            // The first backend that lists a URI has it; a second could not be reached.
            if allowed && located.insert((kind, uri)) {
                all.push(Located {
                    uri: uri.to_owned(),
                    server: Arc::clone(server),
                    raw: raw.to_owned(),
                });
            }
        }
    }
}

fn placeholder_definition(exposed: &str, server: &str) -> String {
    let description = format!(
        "[{server}] Connect and discover tools. Call this to activate {server} and see its real tools."
    );
    serde_json::json!({
        "name": exposed,
        "description": description,
        "inputSchema": {"type": "object", "properties": {}},
    })
    .to_string()
}

fn status_definition() -> String {
    serde_json::json!({
        "name": STATUS,
        "description": "Gateway status: servers, plugins, tool count, uptime.",
        "inputSchema": {"type": "object", "properties": {}},
        "annotations": {"readOnlyHint": true, "idempotentHint": true, "openWorldHint": false},
    })
    .to_string()
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
