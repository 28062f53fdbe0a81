//! The configuration in force, as YAML that `load` reads back.
//!
//! Every key is written, defaults too. Env values are shown as `***`.

use std::time::Duration;

use serde_yaml::{Mapping, Value};

use super::quantity::{duration_text, size_text};
use super::sandbox::{LAYERS, PROFILES};
use super::server::{DISCOVER, SHARE};
use super::{
    Access, Config, Limits, Network, Plugin, Profile, RoleRule, Root, Sandbox, Server, Source,
    ToolFilter, Who,
};

/// Writes the whole configuration, without secrets.
pub fn write_yaml(config: &Config) -> String {
    let servers = config.servers.iter().map(|server| (server.name.as_str(), value(server)));
    let mut top = vec![
        ("name", text(&config.name)),
        ("idle_timeout", idle(config.idle_timeout)),
        ("timeouts", timeouts(config)),
        ("servers", map(servers)),
        ("plugins", config.plugins.iter().map(plugin).collect()),
    ];
    if let Some(roles) = &config.roles {
        top.push(("roles", map(roles.iter().map(|(name, rule)| (name.as_str(), role(rule))))));
    }
    if let Some(access) = &config.access {
        top.push(("access", access.iter().map(rule).collect()));
    }
    // Writing a tree of texts to a string has no way to fail.
    serde_yaml::to_string(&map(top)).unwrap_or_default()
}

fn timeouts(config: &Config) -> Value {
    let exit = config.exit_idle.map(|exit| ("exit", idle(exit)));
    map([("session", duration(config.session_timeout))].into_iter().chain(exit))
}

fn value(server: &Server) -> Value {
    let timeouts = &server.timeouts;
    let mut keys = vec![
        ("command", text(&server.command)),
        ("args", texts(&server.args)),
        ("env", map(server.env.iter().map(|(name, _)| (name.as_str(), text("***"))))),
        ("enabled", Value::Bool(server.enabled)),
        ("lazy", Value::Bool(server.lazy)),
        ("discover", word(DISCOVER, &server.discover)),
        ("share", word(SHARE, &server.share)),
        ("roots", server.roots.iter().map(root).collect()),
        (
            "timeouts",
            map([
                ("start", duration(timeouts.start)),
                ("call", duration(timeouts.call)),
                ("max_call", duration(timeouts.max_call)),
                ("idle", idle(timeouts.idle)),
                ("stop", duration(timeouts.stop)),
                ("fetch", duration(timeouts.fetch)),
            ]),
        ),
        ("limits", limits(&server.limits)),
        ("sandbox", sandbox(&server.sandbox)),
        ("tools", filter(&server.tools)),
    ];
    let cwd = server.cwd.as_ref().map(|cwd| ("cwd", text(&cwd.to_string_lossy())));
    let prefix = server.prefix.as_ref().map(|prefix| ("prefix", text(prefix)));
    keys.extend(cwd.into_iter().chain(prefix));
    map(keys)
}

fn limits(limits: &Limits) -> Value {
    let size = |bytes: u64| text(&size_text(bytes));
    let given = [
        ("memory", limits.memory.map(size)),
        ("processes", limits.processes.map(Value::from)),
        ("open_files", limits.open_files.map(Value::from)),
        ("tmp", limits.tmp.map(size)),
    ];
    let always = [("calls", Value::from(limits.calls)), ("line", size(limits.line as u64))];
    let given = given.into_iter().filter_map(|(key, value)| Some((key, value?)));
    map(always.into_iter().chain(given))
}

fn sandbox(sandbox: &Sandbox) -> Value {
    let paths = |paths: &Vec<std::path::PathBuf>| {
        paths.iter().map(|path| text(&path.to_string_lossy())).collect::<Value>()
    };
    let network = sandbox.network.as_ref().map(|network| match network {
        Network::None => text("none"),
        Network::Web => text("web"),
        Network::Host => text("host"),
        Network::Ports(ports) => ports.iter().map(|port| Value::from(*port)).collect(),
    });
    let require = sandbox.require.iter().map(|layer| word(LAYERS, layer)).collect();
    let mut keys = vec![("profile", word(PROFILES, &sandbox.profile)), ("require", require)];
    if sandbox.profile == Profile::Off {
        keys.push(("uncontained", Value::Bool(true)));
    }
    keys.extend(sandbox.read.as_ref().map(|read| ("read", paths(read))));
    keys.extend(sandbox.write.as_ref().map(|write| ("write", paths(write))));
    keys.extend(network.map(|network| ("network", network)));
    map(keys)
}

fn root(root: &Root) -> Value {
    let name = root.name.as_ref().map(|name| ("name", text(name)));
    map([("uri", text(&root.uri))].into_iter().chain(name))
}

/// A module that says nothing else is its name alone.
fn plugin(plugin: &Plugin) -> Value {
    let path = |path: &std::path::Path| text(&path.to_string_lossy());
    let source = match &plugin.source {
        Source::Module(name) => ("module", text(name)),
        Source::File(file) => ("file", path(file)),
        Source::Dir(dir) => ("dir", path(dir)),
    };
    let host = &plugin.host;
    let plain = Plugin::plain(plugin.source.clone(), host.timeouts.idle);
    if *plugin == plain && matches!(plugin.source, Source::Module(_)) {
        return source.1;
    }
    let server = value(host);
    let of_host = ["env", "share", "timeouts", "limits", "sandbox", "tools", "prefix"];
    let of_host = of_host.into_iter().filter_map(|key| Some((key, server.get(key)?.clone())));
    let mut keys = vec![source, ("watch", Value::Bool(plugin.watch))];
    keys.extend(plugin.path.as_deref().map(|folder| ("path", path(folder))));
    keys.extend(plugin.python.as_ref().map(|python| ("python", text(python))));
    map(keys.into_iter().chain(of_host))
}

fn rule(rule: &Access) -> Value {
    let who = match &rule.who {
        Who::User { name, .. } => ("user", text(name)),
        Who::Group { name, .. } => ("group", text(name)),
    };
    map([who, ("role", text(&rule.role))])
}

fn role(rule: &RoleRule) -> Value {
    match rule {
        RoleRule::All => Value::Null,
        RoleRule::Globs { allow: Some(allow), deny } if deny.is_empty() => texts(allow),
        RoleRule::Globs { allow, deny } => {
            filter(&ToolFilter { allow: allow.clone(), deny: deny.clone() })
        }
    }
}

fn filter(filter: &ToolFilter) -> Value {
    let allow = filter.allow.as_ref().map(|allow| ("allow", texts(allow)));
    map(allow.into_iter().chain([("deny", texts(&filter.deny))]))
}

fn word<T: PartialEq>(words: &[(&str, T)], value: &T) -> Value {
    words.iter().find(|(_, other)| other == value).map_or(Value::Null, |(word, _)| text(word))
}

fn idle(idle: Option<Duration>) -> Value {
    idle.map_or(Value::from(0), duration)
}

fn duration(value: Duration) -> Value {
    text(&duration_text(value))
}

fn texts(list: &[String]) -> Value {
    list.iter().map(|item| text(item)).collect()
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn map<'k>(entries: impl IntoIterator<Item = (&'k str, Value)>) -> Value {
    let entries = entries.into_iter().map(|(key, value)| (text(key), value));
    Value::Mapping(entries.collect::<Mapping>())
}
