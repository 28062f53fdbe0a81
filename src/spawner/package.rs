//! What `npx` and `uvx` would fetch, read off a server's command line; and the same command line for
//! fetching it, and for running it without a network.
//!
//! Pure. Whatever is no plain package of a registry (a folder, a repository, an address) is left
//! as it is: it is fetched by its command, at each start, if the server has a network.

use std::path::Path;

use serde_json::Value;

use crate::config::Server;

/// Options of npx whose value is the next argument.
const NPX_VALUES: [&str; 12] = [
    "-p",
    "--package",
    "-c",
    "--call",
    "-w",
    "--workspace",
    "--registry",
    "--cache",
    "--userconfig",
    "--loglevel",
    "--prefix",
    "--script-shell",
];

/// The same of uvx.
const UVX_VALUES: [&str; 22] = [
    "--from",
    "--with",
    "-w",
    "--with-editable",
    "--with-requirements",
    "-p",
    "--python",
    "--index",
    "-i",
    "--index-url",
    "--default-index",
    "--extra-index-url",
    "-f",
    "--find-links",
    "--cache-dir",
    "--config-file",
    "-c",
    "--constraints",
    "--overrides",
    "--resolution",
    "--prerelease",
    "--exclude-newer",
];

/// Prints everything that npx has installed, two JSON texts each; `$0` is npx.
const NPX_SCRIPT: &str = r#""$0" "$@" >&2 || exit
for at in "${npm_config_cache:-$HOME/.npm}"/_npx/*/; do cat "$at"package.json "$at"package-lock.json; done"#;

/// Runs in the environment that uvx has made; uv keeps no hash of a whole package, and RECORD has
/// one of each of its files.
const UVX_SCRIPT: &str = r#"
import hashlib, importlib.metadata, json, sys
it = importlib.metadata.distribution(sys.argv[1])
record = hashlib.sha256((it.read_text("RECORD") or "").encode()).hexdigest()
print(json.dumps({"version": it.version, "integrity": "sha256:" + record}))
"#;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    Npx,
    Uvx,
}

/// What one command line fetches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) tool: Tool,
    /// As they are written, sorted: `name`, `name@1.2`.
    pub(super) specs: Vec<String>,
    /// Options that matter for fetching too.
    options: Vec<String>,
}

/// What was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    pub version: String,
    /// A hash of the package as its registry or its installer has it.
    pub integrity: String,
}

impl Package {
    pub(super) fn of(server: &Server) -> Option<Self> {
        let (tool, values) = match Path::new(&server.command).file_name()?.to_str()? {
            "npx" => (Tool::Npx, NPX_VALUES.as_slice()),
            "uvx" => (Tool::Uvx, UVX_VALUES.as_slice()),
            _ => return None,
        };
        let (mut specs, mut options, mut first) = (Vec::new(), Vec::new(), None);
        let mut has_call = false;
        let mut args = server.args.iter();
        while let Some(arg) = args.next() {
            if arg == "--" {
                first = args.next();
                break;
            }
            if !arg.starts_with('-') {
                first = Some(arg);
                break;
            }
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None if values.contains(&arg.as_str()) => {
                    (arg.as_str(), Some(args.next()?.clone()))
                }
                None => (arg.as_str(), None),
            };
            match (tool, name, &value) {
                (Tool::Npx, "-p" | "--package", Some(value))
                | (Tool::Uvx, "--from", Some(value)) => specs.push(value.clone()),
                (Tool::Npx, "-c" | "--call", _) => has_call = true,
                (Tool::Npx, "-y" | "--yes", _) => {}
                // It is meant to run with what is there.
                (_, "--offline", _) | (Tool::Npx, "--no" | "--no-install", _) => return None,
                _ => {
                    options.push(name.to_owned());
                    options.extend(value);
                }
            }
        }
        if specs.is_empty() && !has_call {
            specs.push(first?.clone());
        }
        specs.sort();
        let plain = !specs.is_empty() && specs.iter().all(|spec| is_plain(spec));
        plain.then_some(Package { tool, specs, options })
    }

    /// For people: `a, b`.
    pub(super) fn shown(&self) -> String {
        self.specs.join(", ")
    }

    /// The arguments of a shell that fetches it with `program`, from argv[0] on.
    pub(super) fn fetching(&self, program: &str) -> Vec<String> {
        let mut args = match self.tool {
            Tool::Npx => ["sh", "-c", NPX_SCRIPT, program].map(str::to_owned).to_vec(),
            Tool::Uvx => ["sh", "-c", "exec \"$0\" \"$@\"", program].map(str::to_owned).to_vec(),
        };
        args.extend(self.options.iter().cloned());
        match self.tool {
            Tool::Npx => {
                args.extend(self.specs.iter().map(|spec| format!("--package={spec}")));
                args.extend(["-y", "-c", "true"].map(str::to_owned));
            }
            Tool::Uvx => {
                args.extend(
                    ["--from", &self.specs[0], "python", "-c", UVX_SCRIPT].map(str::to_owned),
                );
                args.push(name_of(&self.specs[0]).to_owned());
            }
        }
        args
    }

    /// What a shell that fetched it has said on stdout.
    pub(super) fn said(&self, text: &str) -> Option<Fetched> {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
        match self.tool {
            Tool::Uvx => fetched(&values.next()?.ok()?),
            Tool::Npx => {
                while let (Some(Ok(package)), Some(Ok(lock))) = (values.next(), values.next()) {
                    if self.is_installed_by(&package) {
                        let path = format!("node_modules/{}", name_of(&self.specs[0]));
                        return fetched(&lock["packages"][&path]);
                    }
                }
                None
            }
        }
    }

    fn is_installed_by(&self, package: &Value) -> bool {
        let asked = package["_npx"]["packages"].as_array();
        let asked: Vec<&str> = asked.into_iter().flatten().filter_map(Value::as_str).collect();
        let is = |spec: &String| {
            asked.iter().any(|asked| {
                asked
                    .strip_prefix(spec.as_str())
                    .is_some_and(|end| matches!(end, "" | "@*" | "@latest"))
            })
        };
        asked.len() == self.specs.len() && self.specs.iter().all(is)
    }
}

fn fetched(value: &Value) -> Option<Fetched> {
    let text = |key: &str| value[key].as_str().map(str::to_owned);
    Some(Fetched { version: text("version")?, integrity: text("integrity").unwrap_or_default() })
}

/// A package of the registry, and no folder, address or repository.
fn is_plain(spec: &str) -> bool {
    let scoped = spec.starts_with('@');
    !spec.is_empty()
        && !spec.starts_with(['.', '/', '~'])
        && !spec.contains([':', '\\'])
        && spec.matches('/').count() == usize::from(scoped)
}

/// Without its version and its extras.
fn name_of(spec: &str) -> &str {
    let from = usize::from(spec.starts_with('@'));
    let end = spec[from..].find(['@', '=', '<', '>', '!', '~', '[', ';', ' ']);
    end.map_or(spec, |end| &spec[..from + end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(command: &str, args: &[&str]) -> Option<Package> {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        Package::of(&Server { command: command.to_owned(), args, ..Server::named("x") })
    }

    #[test]
    fn what_a_command_line_fetches() {
        let table: [(&str, &[&str], &str); 9] = [
            ("npx", &["-y", "@a/b", "/tmp", "-p", "x"], "@a/b"),
            ("/usr/bin/npx", &["--yes", "b@1.2"], "b@1.2"),
            ("npx", &["-p", "one", "--package=two@3", "run", "it"], "one, two@3"),
            ("npx", &["--registry", "http://r", "-y", "--", "b"], "b"),
            ("npx", &["-p", "one", "-c", "one --it"], "one"),
            ("uvx", &["mcp-server-time", "--local-timezone", "UTC"], "mcp-server-time"),
            ("uvx", &["--from", "a[x]==1.2", "cmd"], "a[x]==1.2"),
            ("uvx", &["--python=3.12", "--with", "b", "a@1"], "a@1"),
            ("/opt/uv/uvx", &["-q", "a"], "a"),
        ];
        for (command, args, expected) in table {
            let package = package(command, args).unwrap_or_else(|| panic!("{command} {args:?}"));
            assert_eq!(package.shown(), expected, "{command} {args:?}");
        }
        let none: [(&str, &[&str]); 10] = [
            ("node", &["x"]),
            ("npx", &["-y"]),
            ("npx", &["./here"]),
            ("npx", &["owner/repository"]),
            ("npx", &["git+ssh://host/x"]),
            ("npx", &["--offline", "b"]),
            ("npx", &["--no-install", "b"]),
            ("npx", &["-c", "echo"]),
            ("uvx", &["--from", "git+https://host/x", "cmd"]),
            ("uvx", &["--from"]),
        ];
        for (command, args) in none {
            assert_eq!(package(command, args), None, "{command} {args:?}");
        }
    }

    #[test]
    fn options_are_kept_for_fetching_and_the_servers_own_arguments_are_not() {
        let npx = package("npx", &["-y", "--registry=http://r", "a@1", "/secret"]).unwrap();
        let args = npx.fetching("/usr/bin/npx");
        let expected =
            ["/usr/bin/npx", "--registry", "http://r", "--package=a@1", "-y", "-c", "true"];
        assert_eq!(args[3..], expected);
        let uvx = package("uvx", &["--with", "b", "a@1", "/secret"]).unwrap();
        let args = uvx.fetching("uvx");
        assert_eq!(args[3..9], ["uvx", "--with", "b", "--from", "a@1", "python"]);
        assert_eq!(args.last().unwrap(), "a");
    }

    #[test]
    fn what_was_fetched_is_found_among_what_was_fetched_before() {
        let said = r#"{"_npx": {"packages": ["a@1"]}} {"packages": {"node_modules/a": {"version": "1.0.0"}}}
            {"_npx": {"packages": ["a"]}} {"packages": {"node_modules/a": {"version": "2.0.0", "integrity": "sha512-x"}}}"#;
        let fetched = package("npx", &["a"]).unwrap().said(said).unwrap();
        assert_eq!((&*fetched.version, &*fetched.integrity), ("2.0.0", "sha512-x"));
        assert_eq!(package("npx", &["a@1"]).unwrap().said(said).unwrap().version, "1.0.0");
        assert_eq!(package("npx", &["b"]).unwrap().said(said), None);
        assert_eq!(package("npx", &["a"]).unwrap().said("nonsense"), None);
    }
}
