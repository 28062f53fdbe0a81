//! Globs, and which of them wins.

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::Target;
use crate::config::glob;

/// Allow and deny lists. No allow list allows all; deny wins.
#[derive(Debug)]
pub(super) struct Rules {
    /// `None`: everything.
    allow: Option<GlobSet>,
    deny: GlobSet,
    /// The literal text before the first wildcard of each allow glob.
    prefixes: Vec<String>,
}

impl Rules {
    pub(super) fn all() -> Self {
        Rules { allow: None, deny: GlobSet::empty(), prefixes: Vec::new() }
    }

    /// A glob that cannot be read matches nothing as an allowance and everything as a denial;
    /// `config` has reported it long before.
    pub(super) fn new(allow: Option<&[String]>, deny: &[String]) -> Self {
        let prefixes = allow.unwrap_or_default().iter().map(|glob| literal_prefix(glob)).collect();
        let allow = allow.map(|globs| {
            set(globs.iter().filter_map(|glob| compile(glob))).unwrap_or_else(GlobSet::empty)
        });
        let deny: Option<Vec<Glob>> = deny.iter().map(|glob| compile(glob)).collect();
        let deny = deny.and_then(set);
        match deny {
            Some(deny) => Rules { allow, deny, prefixes },
            None => {
                Rules { allow: Some(GlobSet::empty()), deny: GlobSet::empty(), prefixes: vec![] }
            }
        }
    }

    pub(super) fn allow(&self, forms: &[String]) -> bool {
        let allowed =
            self.allow.as_ref().is_none_or(|set| forms.iter().any(|form| set.is_match(form)));
        allowed && !forms.iter().any(|form| self.deny.is_match(form))
    }

    /// Whether any allow glob could match a name that belongs to this server.
    pub(super) fn may_reach(&self, server: &str) -> bool {
        self.allow.is_none()
            || [format!("{server}_"), format!("{}_", underscored(server))].iter().any(|start| {
                self.prefixes
                    .iter()
                    .any(|prefix| start.starts_with(prefix.as_str()) || prefix.starts_with(start))
            })
    }
}

/// Every spelling that a rule may use for a target.
pub(super) fn forms(target: Target<'_>) -> Vec<String> {
    match target {
        Target::Tool { server, exposed, bare } | Target::Prompt { server, exposed, bare } => vec![
            exposed.to_owned(),
            format!("{server}_{bare}"),
            format!("{}_{bare}", underscored(server)),
        ],
        Target::Builtin { exposed } => {
            vec![exposed.to_owned(), exposed.trim_start_matches('_').to_owned()]
        }
        Target::Resource { server, uri } => {
            vec![format!("{server}_{uri}"), format!("{}_{uri}", underscored(server))]
        }
        Target::Server { .. } => Vec::new(),
    }
}

fn underscored(name: &str) -> String {
    name.replace('-', "_")
}

fn compile(text: &str) -> Option<Glob> {
    glob(text).ok()
}

fn set(globs: impl IntoIterator<Item = Glob>) -> Option<GlobSet> {
    let mut builder = GlobSetBuilder::new();
    for glob in globs {
        builder.add(glob);
    }
    builder.build().ok()
}

fn literal_prefix(glob: &str) -> String {
    glob.chars().take_while(|c| !matches!(c, '*' | '?' | '[' | '{')).collect()
}
