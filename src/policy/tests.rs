//! Who may see and call what, by table.

use super::*;
use crate::config::{Config, Loaded, Mode, Problems, load};

fn load_text(yaml: &str) -> Result<Loaded, Problems> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    std::fs::write(&path, yaml).unwrap();
    load(Some(&path), &|_| None, Mode::Foreground)
}

fn policy(yaml: &str, role: Option<&str>) -> Result<Policy, Denied> {
    let loaded = load_text(yaml).unwrap();
    Policy::new(&loaded.config, 1000, role)
}

const ROLES: &str = "
servers:
  filesystem: {command: x}
  git-hub: {command: x, tools: {deny: ['delete_*']}}
roles:
  admin: null
  nothing: []
  readonly: ['filesystem_read*', gateway_status]
  developer: ['git_hub_*', 'filesystem_*', 'gateway_*']
  careful: {allow: ['*'], deny: ['filesystem_write*']}
";

fn may(role: Option<&str>, target: Target<'_>) -> bool {
    let policy = policy(ROLES, role).unwrap();
    let principal = policy.identify(&Credential::Own, None).unwrap();
    policy.authorize(&principal, target).is_some()
}

fn tool<'a>(server: &'a str, exposed: &'a str, bare: &'a str) -> Target<'a> {
    Target::Tool { server, exposed, bare }
}

#[test]
fn globs_match_every_spelling_of_a_tool() {
    let read = tool("filesystem", "filesystem_read_file", "read_file");
    let bare = tool("filesystem", "read_file", "read_file");
    let write = tool("filesystem", "filesystem_write_file", "write_file");
    let hub = tool("git-hub", "git-hub_open_issue", "open_issue");
    let hub_delete = tool("git-hub", "git-hub_delete_repo", "delete_repo");
    let status = Target::Builtin { exposed: "gateway_status" };
    let placeholder = Target::Builtin { exposed: "_filesystem_connect" };
    let table: [(Option<&str>, Target<'_>, bool); 19] = [
        (None, read, true),
        (None, hub_delete, false), // the server's own filter holds for everyone
        (Some("admin"), write, true),
        (Some("admin"), hub_delete, false),
        (Some("nothing"), read, false),
        (Some("nothing"), status, false),
        (Some("readonly"), read, true),
        (Some("readonly"), bare, true),
        (Some("readonly"), write, false),
        (Some("readonly"), status, true),
        (Some("readonly"), placeholder, false),
        (Some("readonly"), hub, false),
        (Some("developer"), hub, true),
        (Some("developer"), hub_delete, false),
        (Some("developer"), placeholder, true),
        (Some("developer"), Target::Resource { server: "filesystem", uri: "file:///a/b" }, true),
        (Some("readonly"), Target::Resource { server: "git-hub", uri: "file:///a" }, false),
        (Some("careful"), write, false),
        (Some("careful"), read, true),
    ];
    for (role, target, expected) in table {
        assert_eq!(may(role, target), expected, "{role:?} {target:?}");
    }
}

#[test]
fn a_server_is_reached_only_through_a_rule_that_could_name_it() {
    for (role, server, expected) in [
        (None, "git-hub", true),
        (Some("readonly"), "filesystem", true),
        (Some("readonly"), "git-hub", false),
        (Some("developer"), "git-hub", true),
        (Some("nothing"), "filesystem", false),
        (Some("careful"), "filesystem", true),
    ] {
        assert_eq!(may(role, Target::Server { server }), expected, "{role:?} {server}");
    }
}

const DENIED: &str = "
servers:
  secret: {command: x}
  se-cret: {command: x}
  v1.2: {command: x}
  docs: {command: x, prefix: d_}
  bare: {command: x, prefix: ''}
roles:
  most: {allow: ['*'], deny: ['secret_*', '_secret_*']}
  dash: {deny: ['se-cret_*']}
  dash_as_shown: {deny: ['se_cret*']}
  dotted: ['v1_2_*']
  docs: ['d_*']
  but_docs: {allow: ['*'], deny: ['d_*']}
  some: {allow: ['*'], deny: ['secret_del*', 'secret_?', 'secret_']}
  word: [hello]
  none: []
  all_denied: {deny: ['*']}
";

#[test]
fn a_server_whose_names_are_all_denied_does_not_exist() {
    let server = |server| Target::Server { server };
    let read = |server| Target::Resource { server, uri: "file:///a" };
    let table = [
        ("most", server("secret"), false),
        ("most", server("se-cret"), true),
        ("most", Target::Builtin { exposed: "_secret_connect" }, false),
        ("dash", server("se-cret"), false),
        ("dash", server("secret"), true),
        ("dash_as_shown", server("se-cret"), false),
        ("dash_as_shown", server("secret"), true),
        ("some", server("secret"), true),
        ("but_docs", server("docs"), false),
        ("but_docs", read("docs"), false),
        ("but_docs", tool("docs", "read", "read"), false),
        ("but_docs", server("bare"), true),
        ("all_denied", server("bare"), false),
    ];
    for (role, target, expected) in table {
        let policy = policy(DENIED, Some(role)).unwrap();
        let principal = policy.identify(&Credential::Own, None).unwrap();
        assert_eq!(policy.authorize(&principal, target).is_some(), expected, "{role} {target:?}");
    }
}

#[test]
fn a_server_is_reached_by_its_prefix_too() {
    let table = [
        ("docs", "docs", true),
        ("docs", "secret", false),
        ("docs", "bare", true), // its tools could be named `d_x`
        ("word", "bare", true),
        ("word", "docs", false),
        ("none", "bare", false),
        ("dotted", "v1.2", true),
    ];
    for (role, server, expected) in table {
        let policy = policy(DENIED, Some(role)).unwrap();
        let principal = policy.identify(&Credential::Own, None).unwrap();
        let permit = policy.authorize(&principal, Target::Server { server });
        assert_eq!(permit.is_some(), expected, "{role} {server}");
    }
    let policy = policy(DENIED, Some("docs")).unwrap();
    let principal = policy.identify(&Credential::Own, None).unwrap();
    // In a session with it alone it is shown as `read`.
    assert!(policy.authorize(&principal, tool("docs", "read", "read")).is_some());
    let uri = Target::Resource { server: "docs", uri: "file:///a" };
    assert!(policy.authorize(&principal, uri).is_none(), "resources have no prefix");
}

#[test]
fn a_role_that_holds_nothing_back_restricts_nobody() {
    let yaml = "roles: {admin: null, empty: {deny: []}, none: [], deny: {deny: [x]}}";
    for (role, expected) in
        [("", false), ("admin", false), ("empty", false), ("none", true), ("deny", true)]
    {
        let policy = policy(yaml, Some(role)).unwrap();
        let principal = policy.identify(&Credential::Own, None).unwrap();
        assert_eq!(principal.is_restricted(), expected, "{role}");
    }
    let policy = policy(yaml, None).unwrap();
    assert!(policy.identify(&Credential::Own, Some("none")).unwrap().is_restricted());
}

#[test]
fn an_unknown_role_is_refused_by_name() {
    let denied = policy(ROLES, Some("ADMIN")).err().unwrap();
    assert!(denied.0.contains("no role named \"ADMIN\""), "{denied}");
    assert!(denied.0.contains("readonly"), "{denied}");
    let denied = policy("servers: {}", Some("admin")).err().unwrap();
    assert!(denied.0.contains("no `roles:`"), "{denied}");
    assert!(policy(ROLES, Some("")).is_ok(), "an empty variable is no role");
}

#[test]
fn a_client_narrows_and_never_widens() {
    let policy = policy(ROLES, Some("readonly")).unwrap();
    let principal = policy.identify(&Credential::Own, Some("admin")).unwrap();
    let write = tool("filesystem", "filesystem_write_file", "write_file");
    assert!(policy.authorize(&principal, write).is_none());
    assert!(policy.identify(&Credential::Own, Some("nobody")).is_err());
    assert_eq!(principal.role(), "readonly+admin");
}

#[test]
fn only_our_own_uid_is_served() {
    let policy = policy(ROLES, None).unwrap();
    let peer = |uid| Credential::Peer { uid, gid: 1, pid: None, groups: vec![] };
    assert!(policy.identify(&peer(1000), None).is_ok());
    assert!(policy.identify(&peer(0), None).is_err());
    assert!(policy.identify(&Credential::Tcp { uid: 1001 }, None).is_err());
}

#[test]
fn a_rule_for_a_cleaned_name_holds_under_the_name_as_it_was_written() {
    let yaml = "servers: {git: {command: x}}\nroles: {r: {allow: ['*'], deny: [git_force_push]}}\n";
    let policy = policy(yaml, Some("r")).unwrap();
    let principal = policy.identify(&Credential::Own, None).unwrap();
    for exposed in ["git_force_push", "git_force.push"] {
        let target = tool("git", exposed, "force.push");
        assert!(policy.authorize(&principal, target).is_none(), "{exposed}");
    }
    assert!(policy.authorize(&principal, tool("git", "git_pull", "pull")).is_some());
}

const ACCESS: &str = "
servers: {filesystem: {command: x}}
roles: {admin: null, reader: ['*_read*'], both: ['filesystem_*']}
access:
  - {user: 1001, role: reader}
  - {group: 50, role: admin}
  - {group: 60, role: both}
  - {user: root, role: admin}
";

fn peer(uid: u32, gid: u32, groups: &[u32]) -> Credential {
    Credential::Peer { uid, gid, pid: Some(7), groups: groups.to_vec() }
}

#[test]
fn the_first_rule_that_fits_gives_the_role() {
    let policy = policy(ACCESS, None).unwrap();
    for (credential, role) in [
        (peer(1001, 1, &[]), Some("reader")),
        (peer(1001, 50, &[60]), Some("reader")), // first match, not best match
        (peer(1002, 50, &[]), Some("admin")),    // its primary group counts
        (peer(1002, 1, &[60, 50]), Some("admin")), // in the order of the rules
        (peer(1002, 1, &[60]), Some("both")),
        (peer(0, 0, &[]), Some("admin")), // by name
        (peer(1002, 1, &[0]), None),      // a user's number is no group's
        (peer(50, 1, &[]), None),
        (Credential::Tcp { uid: 1001 }, Some("reader")),
        (Credential::Tcp { uid: 1002 }, None),
        (peer(1000, 1, &[]), Some("all")),   // ourselves
        (peer(1000, 60, &[]), Some("both")), // but a rule comes first
        (Credential::Own, Some("all")),
    ] {
        let principal = policy.identify(&credential, None);
        let found = principal.as_ref().ok().map(Principal::role);
        assert_eq!(found, role, "{credential:?} {principal:?}");
    }
    let denied = policy.identify(&peer(1002, 1, &[]), None).unwrap_err().0;
    for words in ["uid 1002", "{user: 1002, role: …}", "group that has one (50, 60)", "whoami"] {
        assert!(denied.contains(words), "{words}: {denied}");
    }
}

#[test]
fn in_a_system_service_only_rules_give_roles() {
    let policy = policy(ACCESS, None).unwrap().by_rules_alone();
    assert!(policy.identify(&peer(1000, 1, &[]), None).is_err());
    assert!(policy.identify(&peer(1001, 1, &[]), None).is_ok());
    let none = super::Policy::new(&Config::default(), 1000, None).unwrap().by_rules_alone();
    for uid in [0, 1000, 1001] {
        let denied = none.identify(&peer(uid, 0, &[0]), None).unwrap_err().0;
        assert!(denied.contains("no rule of `access:`"), "{denied}");
    }
}

#[test]
fn a_role_that_was_given_can_be_narrowed_and_no_more() {
    let policy = policy(ACCESS, None).unwrap();
    let principal = policy.identify(&peer(1001, 1, &[]), Some("admin")).unwrap();
    assert_eq!(principal.role(), "reader+admin");
    let write = tool("filesystem", "filesystem_write_file", "write_file");
    assert!(policy.authorize(&principal, write).is_none());
    let same = policy.identify(&peer(1001, 1, &[]), Some("reader")).unwrap();
    assert_eq!(same.role(), "reader");
    assert!(policy.identify(&peer(1001, 1, &[]), Some("nobody")).is_err());
}

#[test]
fn a_caller_is_looked_at_again_under_other_rules() {
    let before = policy(ACCESS, None).unwrap();
    let after =
        policy(&ACCESS.replace("{user: 1001, role: reader}", "{user: 1001, role: admin}"), None);
    let narrowed = before.identify(&peer(1001, 1, &[]), Some("both")).unwrap();
    assert_eq!(after.unwrap().again(&narrowed).role(), "admin+both");
    let gone = policy("servers: {filesystem: {command: x}}", None).unwrap();
    let nobody = gone.again(&narrowed);
    assert_eq!((nobody.uid(), nobody.role()), (1001, "none"));
    let read = tool("filesystem", "filesystem_read", "read");
    for target in [
        read,
        Target::Server { server: "filesystem" },
        Target::Builtin { exposed: "gateway_status" },
    ] {
        assert!(gone.authorize(&nobody, target).is_none(), "{target:?}");
    }
}
