//! The launcher does what it is told, and says what it did and what it could not.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown, symlink},
    process::Command,
};

use mcp_gateway::launcher::{Ids, Layers, Limits, Policy};

use crate::harness::*;

/// What a script in a sandbox prints.
fn said(place: &Place, policy: &Policy, by: As) -> String {
    let ended = place.run(policy, by);
    assert!(ended.report.is_running(), "{:?}\n{}", ended.report, ended.stderr);
    ended.stdout + &ended.stderr
}

/// The step that failed, its errno, on what.
fn failed(place: &Place, policy: &Policy, by: As) -> (String, i32, String) {
    let ended = place.run(policy, by);
    assert!(!ended.report.is_running() && ended.stdout.is_empty(), "{:?}", ended.report);
    assert_eq!(ended.status.code(), Some(125), "{}", ended.stderr);
    ended.report.failed.unwrap()
}

#[test]
fn a_program_runs_inside_and_ends_as_it_ends() {
    let place = Place::new();
    let all = ["namespaces", "root", "privileges", "landlock", "scopes", "processes", "seccomp"];
    for by in [As::Root, As::User] {
        let ended = place.run(&place.script("id -u; pwd; echo to stderr >&2; exit 7", by), by);
        assert!(ended.report.is_running(), "{:?}\n{}", ended.report, ended.stderr);
        assert_eq!(ended.stdout, format!("{UID}\n{}\n", place.path("home").display()));
        assert_eq!(ended.stderr, "to stderr\n");
        assert_eq!(ended.status.code(), Some(7));
        let layers: Vec<&str> =
            ended.report.layers.iter().filter(|layer| layer.on).map(|layer| &*layer.name).collect();
        assert_eq!(layers, all);
        let ended = place.run(&place.script("kill -SEGV $$", by), by);
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended.status), Some(11));
    }
}

#[test]
fn without_a_namespace_it_ends_the_same_way() {
    let place = Place::new();
    let layers = Layers { namespaces: false, ..Layers::ALL };
    for layers in [layers, Layers::NONE] {
        for by in [As::Root, As::User] {
            let script = |text| Policy { layers, ..place.script(text, by) };
            let ended = place.run(&script("id -u; exit 7"), by);
            assert_eq!((&*ended.stdout, ended.status.code()), ("61001\n", Some(7)));
            let ended = place.run(&script("kill -9 $$"), by);
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended.status), Some(9));
            assert!(place.alive().is_empty());
        }
    }
}

#[test]
fn inside_there_is_what_was_given_and_nothing_else() {
    let place = Place::new();
    for by in [As::Root, As::User] {
        let look = "LC_ALL=C ls -A / | tr '\\n' ' '; ls -A /dev /tmp $PWD | tr '\\n' ' '; env | sort | tr '\\n' ' '; \
                    umask; ulimit -c; set -- /proc/[0-9]*; echo $#; cat /proc/net/dev | grep -c :";
        let said = said(&place, &place.script(look, by), by);
        let root = "bin dev etc lib lib64 proc sbin tmp usr var";
        let listed = said.split_once(" /dev:").unwrap().0;
        assert!(
            listed.split(' ').all(|name| root.contains(name) || name.starts_with("lib")),
            "{said}"
        );
        assert!(
            said.contains("fd full null random shm stderr stdin stdout urandom zero"),
            "{said}"
        );
        assert!(
            said.contains(&format!("PATH=/usr/bin:/bin PWD={} TAG=", place.path("home").display())),
            "{said}"
        );
        // pid 1 and the shell, and one interface: lo.
        assert!(said.contains("0077\n0\n2\n1\n"), "{said}");
        let etc = "cat /etc/shadow /etc/sudoers /root/.bashrc 2>&1 | grep -c 'No such file'; echo x > /dev/null && cat /etc/passwd | head -c 4";
        assert_eq!(self::said(&place, &place.script(etc, by), by), "3\nroot");
    }
}

#[test]
fn grants_are_at_their_own_places_and_no_wider() {
    let place = Place::new();
    let [read, write] = ["read", "write"].map(|name| place.own_folder(name));
    fs::write(read.join("file"), "in read\n").unwrap();
    fs::create_dir(read.join("inner")).unwrap();
    chown(read.join("inner"), Some(UID), Some(UID)).unwrap();
    fs::write(place.path("single"), "a single file\n").unwrap();
    symlink(&read, place.path("link")).unwrap();
    // A link in a granted folder that shows the way to somewhere else.
    symlink("/etc", write.join("trap")).unwrap();
    for by in [As::Root, As::User] {
        let text = format!(
            "cd {0}; cat read/file single link/file; echo x > write/made && cat write/made; \
             echo x > read/inner/made && echo made; echo x > read/file || echo no; \
             ls write/trap/shadow || echo hidden; echo x > $PWD/new || echo no; ls {0} | tr '\\n' ' '",
            place.folder.path().display()
        );
        let policy = Policy {
            read: vec![read.clone(), place.path("single"), place.path("link")],
            write: vec![write.clone(), read.join("inner")],
            ..place.script(&text, by)
        };
        let ended = place.run(&policy, by);
        assert_eq!(
            ended.stdout,
            "in read\na single file\nin read\nx\nmade\nno\nhidden\nno\nhome link read single write ",
            "{}",
            ended.stderr
        );
        assert!(exists(&write.join("made")) && exists(&read.join("inner/made")));
        assert!(!exists(&place.path("new")));
        fs::remove_file(write.join("made")).unwrap();
        fs::remove_file(read.join("inner/made")).unwrap();
    }
}

#[test]
fn files_can_be_moved_and_linked_from_folder_to_folder() {
    let place = Place::new();
    let write = place.own_folder("write");
    let portable = Layers { namespaces: false, ..Layers::ALL };
    for layers in [Layers::ALL, portable, Layers { landlock: false, ..Layers::ALL }] {
        let text = "for at in $HOME $PWD/../write; do cd $at; mkdir a b; echo x > a/f; ln a/f b/f && \
                    perl -e 'rename \"a/f\", \"b/g\" or die $!' && ls b; rm -r a b; done";
        let policy = Policy {
            layers,
            write: vec![write.clone()],
            env: [place.script("", As::Root).env, vec![("HOME".into(), place.path("home").into())]]
                .concat(),
            ..place.script(text, As::Root)
        };
        assert_eq!(said(&place, &policy, As::Root), "f\ng\nf\ng\n", "{layers:?}");
    }
}

#[test]
fn the_private_tmp_is_private_and_small_and_a_granted_one_is_the_hosts() {
    let place = Place::new();
    let marker = std::path::Path::new("/tmp").join(&place.tag);
    fs::write(&marker, "").unwrap();
    for by in [As::Root, As::User] {
        let mut policy = place.script(
            "ls /tmp | wc -l; head -c 9000000 /dev/zero > /tmp/big; stat -c %s /tmp/big",
            by,
        );
        policy.limits.tmp = 8 << 20;
        let text = said(&place, &policy, by);
        assert!(text.starts_with("0\n8388608\n") && text.contains("No space left"), "{text}");
        let mut policy = place.script(&format!("ls /tmp | grep -c {}", place.tag), by);
        policy.write.push("/tmp".into());
        assert_eq!(said(&place, &policy, by), "1\n");
    }
    fs::remove_file(marker).unwrap();
}

#[test]
fn limits_hold() {
    let place = Place::new();
    for by in [As::Root, As::User] {
        let mut policy = place.script(
            "ulimit -n; ulimit -f; for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; jobs | wc -l",
            by,
        );
        policy.limits = Limits { processes: 5, open_files: 100, file: 1 << 20, ..policy.limits };
        let ended = place.run(&policy, by);
        // The kernel counts file sizes in blocks of 512 bytes, as dash does.
        assert!(ended.stdout.starts_with("100\n2048\n"), "{}", ended.stdout);
        assert!(ended.stderr.contains("fork"), "{} {}", ended.stdout, ended.stderr);
        let mut policy =
            place.policy("/usr/bin/perl", &["-e", "$x = 'x' x (200 << 20); print 'had it'"], by);
        policy.limits.memory = 64 << 20;
        let ended = place.run(&policy, by);
        assert!(!ended.stdout.contains("had it") && !ended.status.success(), "{}", ended.stdout);
    }
}

#[test]
fn many_processes_together_are_held_to_the_memory_too() {
    let place = Place::new();
    for layers in [Layers::ALL, Layers { namespaces: false, ..Layers::ALL }] {
        let hog = "perl -e '$x = \"x\" x (20 << 20); sleep 1000' &";
        let mut policy = place.script(&format!("{} wait", hog.repeat(8)), As::Root);
        policy.layers = layers;
        policy.limits.memory = 90 << 20;
        let began = std::time::Instant::now();
        let ended = place.run(&policy, As::Root);
        assert!(ended.stderr.contains("killed for its memory"), "{}", ended.stderr);
        assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
        assert!(place.alive().is_empty());
    }
}

#[test]
fn a_step_that_fails_is_named_with_its_errno() {
    let place = Place::new();
    let plain = place.path("plain");
    fs::write(&plain, "#!/bin/sh\n").unwrap();
    let orphan = place.path("orphan");
    fs::write(&orphan, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&orphan, Permissions::from_mode(0o755)).unwrap();
    for by in [As::Root, As::User] {
        let run = |change: &dyn Fn(&mut Policy)| {
            let mut policy = place.script("echo never", by);
            change(&mut policy);
            failed(&place, &policy, by)
        };
        let (step, errno, what) = run(&|policy| policy.program = "/no/such/program".into());
        assert_eq!((&*step, errno, &*what), ("execve", 2, "/no/such/program"));
        let (step, errno, _) = run(&|policy| {
            policy.program = plain.clone();
            policy.read.push(plain.clone());
        });
        assert_eq!((&*step, errno), ("execve", 13));
        let (step, errno, _) = run(&|policy| {
            policy.program = orphan.clone();
            policy.read.push(orphan.clone());
        });
        assert_eq!((&*step, errno), ("execve", 2));
        let (step, errno, what) = run(&|policy| policy.read.push("/no/such/folder".into()));
        assert_eq!((&*step, errno, &*what), ("root", 2, "/no/such/folder"));
        let (step, errno, _) = run(&|policy| policy.home = Some("/no/such/home".into()));
        assert_eq!((&*step, errno), ("root", 2));
    }
    let become_root = Policy { ids: Some(Ids::default()), ..place.script("", As::Root) };
    let (step, _, what) = failed(&place, &become_root, As::Root);
    assert_eq!((&*step, &*what), ("ids", "a backend does not become root"));
    let other =
        Policy { ids: Some(Ids { uid: 1, gid: 1, groups: vec![] }), ..place.script("", As::User) };
    let (step, errno, what) = failed(&place, &other, As::User);
    assert_eq!((&*step, errno, &*what), ("ids", 1, "setgroups"));
}

/// Starts the launcher by a shell line that ends in `exec "$@"`.
fn behind(place: &Place, line: &str, policy: &Policy) -> Ended {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", line, "sh"])
        .arg(place.path("mcp-gateway-exec"))
        .env("LAUNCHER", &place.tag);
    Started::new(command, &policy.encode().unwrap()).end()
}

#[test]
fn a_kernel_that_lacks_a_layer_is_told_from_one_that_has_it() {
    let place = Place::new();
    let policy = place.script("echo never", As::User);
    // No user namespaces, by the administrator.
    let line = "exec unshare -Ur sh -c 'echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"' sh \"$@\"";
    let failed = behind(&place, line, &policy).report.failed.unwrap();
    assert_eq!((&*failed.0, failed.1), ("user namespace", 28), "{}", failed.2);
    // Something lies over a part of /proc, as in a container.
    let line = "exec unshare -m sh -c 'mount --bind -r /proc/sys /proc/sys; exec \"$@\"' sh \"$@\"";
    let failed = behind(&place, line, &policy).report.failed.unwrap();
    assert_eq!((&*failed.0, failed.1), ("root", 1), "{}", failed.2);
    assert!(failed.2.contains("/proc"), "{}", failed.2);
    // No Landlock, as on an older kernel: its calls are answered with ENOSYS. With the layer left
    // out the same policy runs.
    let line =
        format!("exec python3 {}/tests/sandbox/without.py 444 \"$@\"", env!("CARGO_MANIFEST_DIR"));
    let ended = behind(&place, &line, &policy);
    let failed = ended.report.failed.clone().unwrap_or_else(|| panic!("{}", ended.stderr));
    assert_eq!(&*failed.0, "landlock");
    assert!(failed.2.contains("version 0"), "{}", failed.2);
    let layers = Layers { landlock: false, scopes: false, ..Layers::ALL };
    let ended = behind(&place, &line, &Policy { layers, ..place.script("echo runs", As::Root) });
    assert_eq!(ended.stdout, "runs\n", "{:?}", ended.report);
}

#[test]
fn nobody_to_hold_it_nothing_to_run() {
    let place = Place::new();
    let mut started = place.start(&place.script("echo ran; sleep 100", As::Root), As::Root);
    // Gone before it has looked, or right after: either way nothing is left.
    started.lifeline.take();
    started.ended();
    assert!(place.alive().is_empty());
    // By hand.
    let output = Command::new(LAUNCHER).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8(output.stderr).unwrap().contains("not by hand"));
}

#[test]
fn a_policy_that_is_no_policy_is_refused() {
    let place = Place::new();
    let blob = place.script("echo never", As::Root).encode().unwrap();
    for (bad, why) in [(&blob[..40], "Length"), (&b"{\"program\": 1}"[..], "Version")] {
        let mut command = Command::new(place.path("mcp-gateway-exec"));
        command.env("LAUNCHER", &place.tag);
        let failed = Started::new(command, bad).end().report.failed.unwrap();
        assert_eq!((&*failed.0, &*failed.2), ("policy", why));
    }
}

#[test]
fn secrets_are_in_no_argument_and_no_environment_but_the_programs() {
    let place = Place::new();
    let mut policy = place.script("echo up; sleep 100", As::Root);
    policy.env.push(("TOKEN".into(), "s3cret-5f1e".into()));
    let mut started = place.start(&policy, As::Root);
    assert_eq!(started.line(), "up");
    let alive = place.alive();
    let with: Vec<_> = alive
        .iter()
        .filter(|(pid, words)| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            words.contains("s3cret") || String::from_utf8_lossy(&environ).contains("s3cret")
        })
        .collect();
    // The shell and its sleep.
    assert!(!with.is_empty() && with.iter().all(|(_, words)| !words.contains("exec")), "{alive:?}");
}
