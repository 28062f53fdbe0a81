//! Who is calling, which role that gives, and what `whoami` says of it.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    process::Output,
};

use serde_json::{Value, json};

use crate::harness::{Activator, Framed, World, skipped};

const RULES: &str = "
timeouts: {exit: 30s}
servers: {}
roles: {reader: [gateway_status], all: null}
access:
  - {group: 54321, role: reader}
  - {user: 54001, role: all}
";

fn text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8(both).unwrap()
}

#[test]
fn whoami_shows_what_the_gateway_sees() {
    let world = World::new("servers: {}\nroles: {r: [x]}\n");
    let daemon = world.serve();
    let socket = daemon.socket.to_str().unwrap();
    let output = world.run(&["whoami", "--json", "--socket", socket]);
    assert!(output.status.success(), "{}", text(&output));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["uid"], nix::unistd::geteuid().as_raw());
    assert_eq!(answer["role"], "all");
    assert_eq!(answer["rule"], "the gateway's own user");
    assert_eq!(answer["tools"], json!(["gateway_status"]));
    // It is found without being named, too.
    let named = world.env("MCP_GATEWAY_SOCKET", socket);
    let output = named.run(&["whoami"]);
    assert!(text(&output).contains("role     all by the gateway's own user"), "{}", text(&output));
    // Over TCP nobody is vouched for.
    assert_eq!(daemon.raw_http("/mcp").get("/whoami").status, 404);
    drop(daemon);
    let output = named.run(&["whoami"]);
    assert_eq!(output.status.code(), Some(69), "{}", text(&output));
    let runtime = World::new("servers: {}\n").env("XDG_RUNTIME_DIR", "/nonexistent");
    let output = runtime.run(&["status"]);
    if output.status.code() == Some(69) {
        assert!(text(&output).contains("no gateway's socket at /nonexistent/mcp-gateway/"));
    }
}

/// A socket that every user can connect to, as one of a system service is for its group.
fn open_to_all(world: &World) -> Activator {
    let activator = world.activator(&["--system", "--config", "gateway.yaml"]);
    for (path, mode) in [(world.folder(), 0o755), (activator.socket.as_path(), 0o777)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    activator
}

#[test]
fn other_users_have_the_roles_that_rules_give_them() {
    if !nix::unistd::geteuid().is_root() {
        skipped("only root can be other users");
        return;
    }
    let world = World::new(RULES);
    let activator = open_to_all(&world);
    let whoami = ["whoami", "--json", "--socket", activator.socket.to_str().unwrap()];
    let seen = |uid: &str, gid: &str, groups: &str| {
        let (uid, gid) = (format!("--reuid={uid}"), format!("--regid={gid}"));
        let groups = match groups {
            "" => "--clear-groups".to_owned(),
            groups => format!("--groups={groups}"),
        };
        let output = world.run_behind(&["setpriv", &uid, &gid, &groups, "--"], &whoami);
        let answer: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", text(&output)));
        (output.status.code(), answer)
    };
    let (code, answer) = seen("54000", "54000", "54321");
    assert_eq!((code, &answer["role"]), (Some(0), &json!("reader")), "{answer}");
    assert_eq!(answer["rule"], "{group: 54321, role: reader}");
    assert_eq!(answer["groups"], json!([{"gid": 54321, "name": null}]));
    assert_eq!(answer["tools"], json!(["gateway_status"]));
    // The first rule that fits, also by the primary group.
    assert_eq!(seen("54001", "54321", "").1["role"], "reader");
    assert_eq!(seen("54001", "54001", "").1["role"], "all");
    let (code, answer) = seen("54002", "54002", "");
    assert_eq!((code, &answer["role"]), (Some(77), &Value::Null));
    let why = answer["denied"].as_str().unwrap();
    assert!(why.contains("{user: 54002, role: …}") && why.contains("(54321)"), "{why}");

    // Not even root has a role that no rule gives; it is told what to ask for, and sees nothing.
    let mut framed = Framed::over_unix(UnixStream::connect(&activator.socket).unwrap());
    framed.send("MCP-GATEWAY 1");
    let said = framed.rest();
    let error = said[0].json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(error.contains("no rule of `access:` gives you (uid 0) a role"), "{error}");
    // But it sees the state, and may reload.
    let socket = activator.socket.to_str().unwrap();
    assert!(world.run(&["status", "--socket", socket]).status.success());
    assert!(world.run(&["reload", "--socket", socket]).status.success());
    let other = ["setpriv", "--reuid=54001", "--regid=54001", "--clear-groups", "--"];
    let output = world.run_behind(&other, &["reload", "--socket", socket]);
    assert_eq!(output.status.code(), Some(77), "{}", text(&output));
    assert!(text(&output).contains("only root and the gateway's own user"), "{}", text(&output));
    let output = world.run_behind(&other, &["status", "--json", "--socket", socket]);
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn a_rule_needs_a_role_that_is_there_and_somebody_it_is_for() {
    let world = World::new(
        "servers: {}\nroles: {reader: []}\naccess:\n- {user: root, role: raeder}\n- {role: reader}\n\
         - {user: root, group: root, role: reader}\n- {token: x, role: reader}\n- {user: root}\n\
         - {user: no-such-user, role: reader}\n",
    );
    let output = world.run(&["check"]);
    assert_eq!(output.status.code(), Some(78));
    let said = text(&output);
    for words in [
        "4:22: access[0].role: no role named \"raeder\" in `roles:` (did you mean `reader`?)",
        "access[1]: write one of `user:` and `group:`",
        "access[2]: write one of `user:` and `group:`",
        "access[3].token: unknown key: tokens are not supported",
        "access[4]: has no role",
        "access[5].user: warning: no user named \"no-such-user\" on this machine",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    let output = world.run(&["check", "--system", "--config", "gateway.yaml"]);
    assert!(text(&output).contains("access[5].user: no user named"), "{}", text(&output));
}
