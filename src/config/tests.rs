//! The room as the other rooms see it: files in, configs or problems out.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::load::load_files;
use super::*;

mod problems;
mod shipped;

/// A folder of its own for one test, gone at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("gw-config-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn env(name: &str) -> Option<String> {
    match name {
        "HOME" => Some("/home/u".to_owned()),
        "TOKEN" => Some("secret-7".to_owned()),
        _ => None,
    }
}

fn load_bytes(
    name: &str,
    bytes: impl AsRef<[u8]>,
    mode: Mode,
) -> (Folder, Result<Loaded, Problems>) {
    let folder = Folder::new(name);
    let path = folder.write("g.yaml", bytes);
    let result = load(Some(&path), &env, mode);
    (folder, result)
}

/// Loads in the foreground; no error is expected.
fn good(name: &str, text: &str) -> (Config, Vec<String>) {
    let (folder, result) = load_bytes(name, text, Mode::Foreground);
    let loaded = result.unwrap_or_else(|problems| panic!("{problems}"));
    let lines = loaded.warnings.iter().map(|problem| strip(&folder, problem)).collect();
    (loaded.config, lines)
}

/// The problems of a file that does not load, one a line, without the folder.
fn bad(name: &str, text: impl AsRef<[u8]>, mode: Mode) -> String {
    let (folder, result) = load_bytes(name, text, mode);
    let problems = result.expect_err("loads");
    let lines: Vec<String> = problems.iter().map(|problem| strip(&folder, problem)).collect();
    lines.join("\n")
}

fn strip(folder: &Folder, problem: &Problem) -> String {
    problem.to_string().replace(&format!("{}/", folder.0.display()), "")
}

fn values(server: &Server) -> Vec<(&str, &str)> {
    server.env.iter().map(|(name, value)| (name.as_str(), value.expose())).collect()
}

#[test]
fn env_values_are_as_written() {
    let text = "servers: {a: {command: x, env: {N: 5, B: true, P: 010, F: 1.10, T: 22:22, Q: \"010\", \
                S: hello, E: '', H: '$HOME/x', K: '${TOKEN}', D: '${NO:-d e}', X: +5}}}";
    let (config, warnings) = good("env", text);
    assert_eq!(
        values(&config.servers[0]),
        [
            ("N", "5"),
            ("B", "true"),
            ("P", "010"),
            ("F", "1.10"),
            ("T", "22:22"),
            ("Q", "010"),
            ("S", "hello"),
            ("E", ""),
            ("H", "/home/u/x"),
            ("K", "secret-7"),
            ("D", "d e"),
            ("X", "+5"),
        ]
    );
    let gave = |name: &str, column: usize, ours: &str, theirs: &str| {
        format!(
            "g.yaml:1:{column}: servers.a.env.{name}: warning: the program gets \"{ours}\" as written, \
             where mcp-unify gave \"{theirs}\"; put the one you want in quotes"
        )
    };
    assert_eq!(
        warnings,
        [
            gave("B", 42, "true", "True"),
            gave("P", 51, "010", "8"),
            gave("F", 59, "1.10", "1.1"),
            gave("T", 68, "22:22", "1342"),
            gave("X", 151, "+5", "5"),
        ]
    );
}

#[test]
fn a_service_is_stricter() {
    let text = "servers: {a: {command: x, env: {Z: null, U: '${NO}', C: '${cred:x}', T: $TOKEN}},\n \
                \x20b: {enabled: no, env: {Z: , U: $NO, B: yes}}}";
    let (config, warnings) = good("lax", text);
    let texts = [("Z", "None"), ("U", "${NO}"), ("C", "${cred:x}"), ("T", "secret-7")];
    assert_eq!(values(&config.servers[0]), texts);
    let expected = r#"g.yaml:1:36: servers.a.env.Z: has no value, and the program gets the text "None"; write "" for an empty one
g.yaml:1:45: servers.a.env.U: `NO` is not set, and the reference stays as written; set it, or write ${NO:-default}
g.yaml:1:57: servers.a.env.C: `${…}` holds no variable's name, and stays as written"#;
    assert_eq!(bad("strict", text, Mode::System), expected);
    let softened: Vec<String> = warnings.iter().map(|line| line.replace(" warning:", "")).collect();
    assert_eq!(softened.join("\n"), expected);
}

#[test]
fn secrets_do_not_print() {
    let (config, _) = good("secret", "servers: {a: {command: x, env: {T: $TOKEN}}}");
    assert!(format!("{config:?}").contains("Secret(..)"));
    let shown = format!("{config:?}{}", write_yaml(&config));
    assert!(!shown.contains("secret-7") && shown.contains("T: '***'"), "{shown}");
}

#[test]
fn switches() {
    let words = [
        ("no", false),
        ("off", false),
        ("0", false),
        ("null", false),
        ("", false),
        ("~", false),
        ("False", false),
        ("yes", true),
        ("on", true),
        ("1", true),
        ("TRUE", true),
    ];
    for (word, on) in words {
        let (config, warnings) =
            good("switch", &format!("servers: {{a: {{command: x, enabled: {word}}}}}"));
        assert_eq!((config.servers[0].enabled, warnings.len()), (on, 0), "{word:?}");
        let (config, _) = good("switch", &format!("servers: {{a: {{command: x, lazy: {word}}}}}"));
        assert_eq!((config.servers[0].lazy, config.servers[0].enabled), (on, true), "{word:?}");
    }
    for (word, remedy) in [
        ("\"false\"", "write false without quotes"),
        ("'no'", "write no without quotes"),
        ("maybe", "write true or false"),
        ("\"\"", "write true or false, without quotes"),
        ("2", "write true or false"),
        ("[]", "write true or false"),
    ] {
        let text = format!("servers: {{a: {{command: x, enabled: {word}}}}}");
        assert_eq!(
            bad("switch", text, Mode::Foreground),
            format!("g.yaml:1:36: servers.a.enabled: {remedy}")
        );
    }
}

#[test]
fn empty_files_and_sections() {
    for text in ["", "# only a comment\n", "---\n", "null\n", "{}", "\u{feff}"] {
        let (config, warnings) = good("empty", text);
        assert_eq!(Config { path: None, ..config }, Config::default(), "{text:?}");
        assert!(warnings.is_empty());
    }
    let (config, _) = good("empty", "servers:\nplugins:\nroles:\nregistry:\ntimeouts:\n");
    let empty = Config { path: None, ..config };
    assert_eq!(empty, Config { roles: Some(Vec::new()), ..Config::default() });
    let sections = "servers: {a: {command: x, args: , env: , cwd: , roots: , timeouts: , limits: , tools: , prefix: }}";
    let (config, _) = good("empty", sections);
    let expected = Server { command: "x".to_owned(), ..Server::named("a") };
    assert_eq!(config.servers, [expected]);
    assert_eq!(load(None, &env, Mode::System).unwrap().config, Config::default());
}

#[test]
fn json_bom_and_dos_line_ends() {
    let json = "\u{feff}{\r\n\t\"name\": \"j\\u0041\",\r\n\t\"servers\": {\r\n\t\t\"a\": {\"command\": \"x\", \
                \"args\": [\"-y\", 5, true], \"enabled\": false}\r\n\t}\r\n}\r\n";
    let (config, warnings) = good("json", json);
    assert_eq!((config.name.as_str(), warnings.len()), ("jA", 0));
    assert_eq!(config.servers[0].args, ["-y", "5", "true"]);
    assert!(!config.servers[0].enabled);
}

#[test]
fn brackets_may_close_anywhere() {
    let text = "servers:\n  a:\n    command: x\n    args: [\n    -y,\n\"b\",\n  c: ,\n]\n    env: {\n   A: 010\n    }\n";
    let problems = bad("brackets", text, Mode::Foreground);
    let expected = "g.yaml:7:3: servers.a.args[2]: write one text, not a list or a map\n\
                    g.yaml:10:7: servers.a.env.A: warning: the program gets \"010\" as written, where \
                    mcp-unify gave \"8\"; put the one you want in quotes";
    assert_eq!(problems, expected);
    let (config, _) = good("brackets", &text.replace("  c: ,", "  c ,"));
    assert_eq!(config.servers[0].args, ["-y", "b", "c"]);
    // A bracket that is missing is still reported where it hurts.
    let text = "servers:\n  a:\n    args: [x,\n  b:\n    command: y\n";
    let problems = bad("brackets", text, Mode::Foreground);
    assert!(problems.starts_with("g.yaml:5:12: not valid YAML: "), "{problems}");
    let deep = format!("{}k: [\n]\n", " ".repeat(5000));
    good("brackets", &format!("x-a:\n{deep}"));
    let many = format!("x-a:\n  b: [\n{}]\n", "1,\n".repeat(90_000));
    assert!(bad("brackets", &many, Mode::Foreground).contains("invalid indentation"));
}

#[test]
fn merge_keys() {
    let text = "x-a: &a {command: a, args: [a], lazy: no}\nx-b: &b {command: b, prefix: b}\n\
                servers: {m: {<<: [*a, *b], args: [own]}, n: {<<: *b, \"<<\": 5}}";
    let problems = bad("merge", text, Mode::Foreground);
    assert_eq!(problems, "g.yaml:3:55: servers.n: `<<` is written twice, first on line 3");
    let (config, _) = good("merge", &text.replace(", \"<<\": 5", ""));
    let m = &config.servers[0];
    assert_eq!((m.command.as_str(), m.args[0].as_str(), m.lazy), ("a", "own", false));
    assert_eq!(m.prefix.as_deref(), Some("b"));
    // An alias is no anchor: the key has to be known.
    let text = "x-a: &a {}\nfree: &b {}\nother: *a\n";
    assert_eq!(bad("merge", text, Mode::Foreground), "g.yaml:3:1: other: unknown key");
}

#[test]
fn values_of_every_key() {
    let text = r#"
name: 1.10
idle_timeout: 0
timeouts: {session: 1h}
servers:
  1:
    command: true
    args: [1, 010, no, 1.10, ""]
    cwd: sub
    prefix: ""
    discover: placeholder
    share: all
    roots: [/a b, ~/c, "file:///d", {uri: ~, name: 5}]
    timeouts: {start: 1m, call: 500ms, max_call: 1, stop: 0.5, fetch: 2m}
    limits: {calls: 1, line: 64K, memory: 512M, processes: 9, open_files: 100, tmp: 2M}
    sandbox: {profile: off, uncontained: yes, read: [~/r, rel], write: [], network: [443, 53], require: [seccomp]}
    tools: {allow: [a*], deny: }
  b: {command: x, cwd: ~/w, timeouts: {idle: 5m}, tools: {deny: ["d?"]}}
plugins:
  - a.b
  - {module: c, path: p, python: python3.12, watch: yes, prefix: c_, share: all, timeouts: {call: 1s}, limits: {memory: 512M}, sandbox: {network: none}, tools: {deny: [x]}}
  - {file: d.py}
  - {dir: ~/e, python: .venv/bin/python}
roles: {all: , none: [], some: ["a[!b]*"], but: {deny: [x]}}
"#;
    let (config, _) = good("values", &text.replace("uri: ~,", "uri: ~/,"));
    assert_eq!(config.name, "1.10");
    assert_eq!((config.idle_timeout, config.session_timeout), (None, Duration::from_secs(3600)));
    let folder = config.path.as_ref().and_then(|path| path.parent()).unwrap();
    let root =
        |uri: &str, name: Option<&str>| Root { uri: uri.to_owned(), name: name.map(str::to_owned) };
    let expected = Server {
        command: "true".to_owned(),
        args: ["1", "010", "no", "1.10", ""].map(str::to_owned).to_vec(),
        cwd: Some(folder.join("sub")),
        prefix: Some(String::new()),
        discover: Discover::Placeholder,
        share: Share::All,
        roots: vec![
            root("file:///a%20b", None),
            root("file:///home/u/c", None),
            root("file:///d", None),
            root("file:///home/u/", Some("5")),
        ],
        timeouts: Timeouts {
            start: Duration::from_secs(60),
            call: Duration::from_millis(500),
            max_call: Duration::from_secs(1),
            idle: None,
            stop: Duration::from_millis(500),
            fetch: Duration::from_secs(120),
        },
        limits: Limits {
            calls: 1,
            line: 64 << 10,
            memory: Some(512 << 20),
            processes: Some(9),
            open_files: Some(100),
            tmp: Some(2 << 20),
        },
        sandbox: Sandbox {
            profile: Profile::Off,
            read: Some(vec!["/home/u/r".into(), folder.join("rel")]),
            write: Some(Vec::new()),
            network: Some(Network::Ports(vec![443, 53])),
            require: vec![Layer::Seccomp],
        },
        tools: ToolFilter { allow: Some(vec!["a*".to_owned()]), deny: Vec::new() },
        ..Server::named("1")
    };
    assert_eq!(config.servers[0], expected);
    let b = &config.servers[1];
    assert_eq!(b.cwd.as_deref(), Some(Path::new("/home/u/w")));
    assert_eq!(b.timeouts.idle, Some(Duration::from_secs(300)));
    let plain = |name: &str| Plugin::plain(Source::Module(name.to_owned()), None);
    assert_eq!(config.plugins[0], plain("a.b"));
    let mut odd = Plugin {
        path: Some(folder.join("p")),
        python: Some("python3.12".to_owned()),
        watch: true,
        ..plain("c")
    };
    odd.host.prefix = Some("c_".to_owned());
    odd.host.share = Share::All;
    odd.host.timeouts.call = Duration::from_secs(1);
    odd.host.limits.memory = Some(512 << 20);
    odd.host.sandbox.network = Some(Network::None);
    odd.host.tools.deny = vec!["x".to_owned()];
    assert_eq!(config.plugins[1], odd);
    let source = |at: usize| config.plugins[at].source.clone();
    assert_eq!(source(2), Source::File(folder.join("d.py")));
    assert_eq!(source(3), Source::Dir("/home/u/e".into()));
    assert_eq!(
        config.plugins[3].python,
        Some(folder.join(".venv/bin/python").to_string_lossy().into())
    );
    let globs = |allow: Option<&[&str]>, deny: &[&str]| {
        let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        RoleRule::Globs { allow: allow.map(texts), deny: texts(deny) }
    };
    let rules: Vec<&RoleRule> = config.roles.iter().flatten().map(|(_, rule)| rule).collect();
    let expected =
        [RoleRule::All, globs(Some(&[]), &[]), globs(Some(&["a[!b]*"]), &[]), globs(None, &["x"])];
    assert_eq!(rules, expected.iter().collect::<Vec<_>>());

    // And back: what is written loads as the same.
    let (again, warnings) = good("values-again", &write_yaml(&config));
    assert_eq!(Config { path: None, ..again }, Config { path: None, ..config });
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn names_that_look_alike() {
    let (_, warnings) =
        good("alike", "servers: {a-b: {command: x}, A_b: {command: y}, a_b: {enabled: no}}");
    let expected =
        "g.yaml:1:30: servers.A_b: warning: differs from `a-b` only in case, or in `-` and `_`";
    assert_eq!(warnings, [expected]);
}

#[test]
fn files_of_the_system() {
    let folder = Folder::new("system");
    let (here, system) = (folder.0.join("here"), folder.0.join("etc"));
    let find = |explicit: Option<&str>| {
        let user = folder.0.join("user");
        locate::discover_in(explicit.map(Path::new), &here, Some(&user), &system)
    };
    assert_eq!(find(None), Ok(None));
    assert_eq!(find(Some("/no/such")).unwrap_err().to_string(), "/no/such: there is no such file");
    let b = folder.write(
        "etc/conf.d/b.yaml",
        "servers: {b: {command: x}, a: {command: z}}\nname: n\nroles: {r: []}\n",
    );
    folder.write("etc/conf.d/.c.yaml", "broken: [");
    let main = system.join("gateway.yaml");
    assert_eq!(find(None), Ok(Some(main.clone())));
    assert_eq!(locate::files_in(&main, &system), [b.as_path()]);
    folder.write("etc/gateway.yaml", "idle_timeout: 9\nroles: {q: }\nservers: {m: {command: x}}\n");
    let a = folder.write("etc/conf.d/a.yaml", "servers:\n  a: {command: y}\nplugins: [p]\n");
    let files = locate::files_in(&main, &system);
    assert_eq!(files, [main.clone(), a.clone(), b.clone()]);
    assert_eq!(locate::files_in(&main, &here), [main.as_path()]);

    let problems = load_files(Some(&main), &files, &env, Mode::System).unwrap_err().to_string();
    let (a, b) = (a.display(), b.display());
    let expected = format!(
        "{b}:1:28: servers.a: is in {a} (line 2) and again in {b}; remove one\n\
         {b}:2:7: name: belongs in the main file, not in conf.d"
    );
    assert_eq!(problems, expected);

    folder.write("etc/conf.d/b.yaml", "servers: {b: {command: x}}\nroles: {r: []}\n");
    let config = load_files(Some(&main), &files, &env, Mode::System).unwrap().config;
    let names: Vec<&str> = config.servers.iter().map(|server| server.name.as_str()).collect();
    assert_eq!(names, ["m", "a", "b"]);
    assert_eq!(config.servers[2].timeouts.idle, Some(Duration::from_secs(9)));
    assert_eq!((config.plugins.len(), config.roles.map(|roles| roles.len())), (1, Some(2)));

    let user = folder.write("user/mcp-gateway/gateway.yaml", "");
    assert_eq!(find(Some("")), Ok(Some(user)));
    let second = folder.write("here/mcp-gateway.yaml", "");
    assert_eq!(find(None), Ok(Some(second)));
    let first = folder.write("here/gateway.yaml", "");
    assert_eq!(find(None), Ok(Some(first)));
}

#[test]
fn a_warning_does_not_show_what_is_likely_a_secret() {
    let folder = Folder::new("secret-warning");
    let path =
        folder.write("g.yaml", "servers: {m: {command: x, env: {API_KEY: 0123, PORT: 010}}}\n");
    let loaded = load(Some(&path), &|_| None, Mode::Foreground).unwrap();
    let texts: Vec<&str> = loaded.warnings.iter().map(|warning| warning.what.as_str()).collect();
    assert_eq!(texts.len(), 2, "{texts:?}");
    assert!(!texts[0].contains("0123") && !texts[0].contains("83"), "{}", texts[0]);
    assert!(texts[1].contains("\"010\"") && texts[1].contains("\"8\""), "{}", texts[1]);
}
