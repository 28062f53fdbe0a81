//! Names under which tools and prompts of many backends stand side by side.
//!
//! `<server>_<name>` of `[A-Za-z0-9_-]`, at most 50 long, and injective: a name that clashes or
//! is too long gets a short hash that depends on the server and the name alone.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

/// Clients put `mcp__<gateway>__` in front, and models take 64 in all.
pub(crate) const LONGEST: usize = 50;

/// Gives names out, each once.
#[derive(Default)]
pub(crate) struct Names {
    taken: HashSet<String>,
}

impl Names {
    /// Takes a name that no backend may have.
    pub(crate) fn reserve(&mut self, name: &str) {
        self.taken.insert(name.to_owned());
    }

    pub(crate) fn qualify(&mut self, server: &str, prefix: Option<&str>, name: &str) -> String {
        let plain = match prefix {
            Some(prefix) => format!("{prefix}{name}"),
            None => format!("{server}_{name}"),
        };
        self.take(clean(&plain), server, name)
    }

    /// The placeholder of a backend that has not been met: `_<server>_connect`.
    pub(crate) fn placeholder(&mut self, server: &str) -> String {
        self.take(clean(&format!("_{}_connect", server.replace('-', "_"))), server, "_connect")
    }

    fn take(&mut self, plain: String, server: &str, name: &str) -> String {
        if (1..=LONGEST).contains(&plain.len()) && self.taken.insert(plain.clone()) {
            return plain;
        }
        let digest = Sha256::digest(format!("{server}\0{name}"));
        let hash: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        // Six digits almost always do; where they do not, more of the same hash.
        for digits in (6..=hash.len()).step_by(2) {
            let room = LONGEST.saturating_sub(digits + 1);
            let start = &plain[..plain.len().min(room)];
            let name = format!("{start}_{}", &hash[..digits]);
            if self.taken.insert(name.clone()) {
                return name;
            }
        }
        // The same server listed the same name twice; the second is told apart by a number.
        let mut n = 2;
        loop {
            let name = format!("{}_{n}", &hash[..32]);
            if self.taken.insert(name.clone()) {
                return name;
            }
            n += 1;
        }
    }
}

/// Only characters that every client and model takes. All ASCII, so any byte is a boundary.
fn clean(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ordinary_names_stay_as_one_expects() {
        let mut names = Names::default();
        assert_eq!(names.qualify("git-hub", None, "open_issue"), "git-hub_open_issue");
        assert_eq!(names.qualify("docs", Some("d_"), "read"), "d_read");
        assert_eq!(names.qualify("docs", Some(""), "read"), "read");
        assert_eq!(names.placeholder("ev-ery"), "_ev_ery_connect");
    }

    #[test]
    fn a_clash_is_told_apart_the_same_way_every_time() {
        let twice = || {
            let mut names = Names::default();
            names.reserve("gateway_status");
            [
                names.qualify("a", None, "b_c"),
                names.qualify("a_b", None, "c"),
                names.qualify("gateway", None, "status"),
                names.placeholder("a-b"),
                names.placeholder("a_b"),
                names.qualify("x", None, "é"),
                names.qualify("x", None, "è"),
            ]
        };
        let first = twice();
        assert_eq!(first, twice());
        assert_eq!(first[0], "a_b_c");
        assert!(first[1].starts_with("a_b_c_") && first[1].len() == 12, "{}", first[1]);
        assert!(first[2].starts_with("gateway_status_"));
        assert_ne!(first[3], first[4]);
        assert_ne!(first[5], first[6]);
    }

    #[test]
    fn a_tool_without_a_name_gets_one() {
        assert_eq!(Names::default().qualify("docs", Some(""), "").len(), 7);
    }

    proptest! {
        #[test]
        fn every_name_is_short_clean_and_its_own(
            all in prop::collection::vec(("[a-z_.-]{1,12}", ".{0,90}"), 0..40)
        ) {
            let mut names = Names::default();
            let mut seen = HashSet::new();
            for (server, tool) in &all {
                let name = names.qualify(server, None, tool);
                prop_assert!((1..=LONGEST).contains(&name.len()));
                prop_assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-'));
                prop_assert!(seen.insert(name));
            }
        }
    }
}
