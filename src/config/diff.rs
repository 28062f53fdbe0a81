//! What a reload from one config to another has to do. Pure: compares, and does nothing.

use std::fmt;

use super::{Config, Server};

/// Which servers come, go, and have to start anew, by name in the order of the file that has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub added: Vec<String>,
    pub removed: Vec<String>,
    /// Their entries differ.
    pub changed: Vec<String>,
    pub unchanged: usize,
    /// Who may do what differs.
    pub rules: bool,
    /// What takes hold with the next start of the gateway only.
    pub restart: Vec<String>,
}

impl Plan {
    /// A server that is disabled is as good as none.
    pub fn between(before: &Config, after: &Config) -> Self {
        let mut plan = Plan {
            rules: before.roles != after.roles || before.access != after.access,
            ..Plan::default()
        };
        let find = |config: &'_ Config, name: &str| -> Option<Server> {
            enabled(config).find(|server| server.name == name).cloned()
        };
        for server in enabled(after) {
            match find(before, &server.name) {
                None => plan.added.push(server.name.clone()),
                Some(old) if is_same(&old, server) => plan.unchanged += 1,
                Some(_) => plan.changed.push(server.name.clone()),
            }
        }
        let gone = enabled(before).filter(|server| find(after, &server.name).is_none());
        plan.removed = gone.map(|server| server.name.clone()).collect();
        // Their hosts are servers as others; only which files are watched is settled at the start.
        let watched = |config: &Config| config.plugins.iter().any(|plugin| plugin.watch);
        if before.plugins != after.plugins && (watched(before) || watched(after)) {
            plan.restart.push("plugins[].watch".to_owned());
        }
        plan
    }

    /// Gives each server of `after` the revision that tells its instances from those of another
    /// entry: that of before where nothing differs, else `new`.
    pub fn number(before: &Config, after: &mut Config, new: u64) {
        for server in &mut after.servers {
            let old = enabled(before).find(|old| old.name == server.name);
            server.revision = match old {
                Some(old) if is_same(old, server) => old.revision,
                _ => new,
            };
        }
    }

    /// The servers whose instances and lists are those of another entry now.
    pub fn stale(&self) -> impl Iterator<Item = &str> {
        self.removed.iter().chain(&self.changed).map(String::as_str)
    }
}

fn enabled(config: &Config) -> impl Iterator<Item = &Server> {
    config.servers.iter().filter(|server| server.enabled)
}

fn is_same(old: &Server, new: &Server) -> bool {
    let new = Server { revision: old.revision, ..new.clone() };
    *old == new
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named =
            [("added", &self.added), ("changed", &self.changed), ("removed", &self.removed)];
        for (what, names) in named {
            if !names.is_empty() {
                write!(f, "{} {what} ({}), ", names.len(), names.join(", "))?;
            }
        }
        write!(f, "{} unchanged", self.unchanged)?;
        if self.rules { f.write_str("; roles and access changed") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Plugin, RoleRule, Secret, Source};

    fn config(names: &[&str]) -> Config {
        Config {
            servers: names.iter().map(|name| Server::named(*name)).collect(),
            ..Config::default()
        }
    }

    #[test]
    fn only_what_differs_is_touched() {
        let before = config(&["a", "b", "c", "d"]);
        let mut after = config(&["d", "b", "e", "c"]);
        after.servers[1].env.push(("K".to_owned(), Secret::new("v")));
        after.servers[3].enabled = false;
        let plan = Plan::between(&before, &after);
        assert_eq!(plan.added, ["e"]);
        assert_eq!(plan.removed, ["a", "c"]);
        assert_eq!(plan.changed, ["b"]);
        assert_eq!(plan.unchanged, 1, "the order of the file is nobody's business");
        assert_eq!(plan.stale().collect::<Vec<_>>(), ["a", "c", "b"]);
        assert!(!plan.rules && plan.restart.is_empty());
        let text = "1 added (e), 1 changed (b), 2 removed (a, c), 1 unchanged";
        assert_eq!(plan.to_string(), text);
    }

    #[test]
    fn a_config_and_itself_have_nothing_between_them() {
        let mut config = config(&["a", "b"]);
        config.servers[1].enabled = false;
        config.roles = Some(vec![("r".to_owned(), RoleRule::All)]);
        let plan = Plan::between(&config, &config.clone());
        assert_eq!(plan, Plan { unchanged: 1, ..Plan::default() });
    }

    #[test]
    fn rules_and_what_needs_a_restart_are_told() {
        let before = config(&[]);
        let mut after = config(&[]);
        after.roles = Some(Vec::new());
        let mut plugin = Plugin::plain(Source::Module("m".to_owned()), None);
        after.plugins.push(plugin.clone());
        assert!(Plan::between(&before, &after).restart.is_empty());
        plugin.watch = true;
        after.plugins.push(plugin);
        let plan = Plan::between(&before, &after);
        assert!(plan.rules);
        assert_eq!(plan.restart, ["plugins[].watch"]);
        assert_eq!(plan.to_string(), "0 unchanged; roles and access changed");
    }

    #[test]
    fn a_revision_lasts_as_long_as_the_entry() {
        let mut first = config(&["a", "b"]);
        Plan::number(&Config::default(), &mut first, 0);
        let mut second = config(&["a", "b", "c"]);
        second.servers[1].lazy = false;
        Plan::number(&first, &mut second, 1);
        let revisions = |config: &Config| -> Vec<u64> {
            config.servers.iter().map(|server| server.revision).collect()
        };
        assert_eq!(revisions(&second), [0, 1, 1]);
        assert_eq!(Plan::between(&first, &second).changed, ["b"]);
        // Back again: yet another one, for instances of the first may still run.
        let mut third = config(&["a", "b"]);
        Plan::number(&second, &mut third, 2);
        assert_eq!(revisions(&third), [0, 2]);
        assert_eq!(Plan::between(&second, &second.clone()).unchanged, 3);
    }
}
