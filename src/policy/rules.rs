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

    /// Whether this holds anything back at all.
    pub(super) fn restricts(&self) -> bool {
        self.allow.is_some() || !self.deny.is_empty()
    }

    /// Whether any allow glob could match a name that belongs to this server, and no deny glob
    /// matches all of them.
    pub(super) fn may_reach(&self, server: &str, prefix: Option<&str>) -> bool {
        let starts = starts(server, prefix);
        let named = self.allow.is_none()
            || starts.iter().any(|start| {
                self.prefixes
                    .iter()
                    .any(|prefix| start.starts_with(prefix.as_str()) || prefix.starts_with(start))
            });
        named && !starts.iter().any(|start| self.denies_all(start))
    }

    /// One and the same deny glob matches the bare start and a name that nobody would write.
    fn denies_all(&self, start: &str) -> bool {
        let all = self.deny.matches(format!("{start}\u{1}x"));
        !all.is_empty() && self.deny.matches(start).iter().any(|glob| all.contains(glob))
    }
}

fn cleaned(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

/// Every spelling that a rule may use for a target of a server with this `prefix:`.
pub(super) fn forms(target: Target<'_>, prefix: Option<&str>) -> Vec<String> {
    match target {
        Target::Tool { server, exposed, bare } | Target::Prompt { server, exposed, bare } => {
            let mut forms = starts(server, prefix);
            forms.iter_mut().for_each(|form| form.push_str(bare));
            // As it is shown where names are cleaned, so that a rule for that name holds
            // everywhere.
            let cleaned: Vec<String> = forms.iter().map(|form| cleaned(form)).collect();
            forms.extend(cleaned);
            forms.push(exposed.to_owned());
            forms
        }
        Target::Builtin { exposed } => {
            vec![exposed.to_owned(), exposed.trim_start_matches('_').to_owned()]
        }
        Target::Resource { server, uri } => {
            let mut forms = starts(server, None);
            forms.iter_mut().for_each(|form| form.push_str(uri));
            forms
        }
        Target::Server { .. } => Vec::new(),
    }
}

/// What the names of this server's things begin with: its own name, as names are shown (`.` is
/// `_`), as placeholders have it (`-` is `_` too), and its prefix.
fn starts(server: &str, prefix: Option<&str>) -> Vec<String> {
    let shown = server.replace('.', "_");
    let mut starts: Vec<String> = Vec::with_capacity(5);
    for name in [server, &server.replace('-', "_"), &shown, &shown.replace('-', "_")] {
        let start = format!("{name}_");
        if !starts.contains(&start) {
            starts.push(start);
        }
    }
    starts.extend(prefix.map(str::to_owned));
    starts
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
