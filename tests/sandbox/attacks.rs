//! The probe tries to get out of every kind of sandbox, started as root and as a plain user. Each
//! row that works is named here, with the reason; every other one must be denied.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, Permissions},
    net::{TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            fs::{PermissionsExt, chown},
            net::{SocketAddr, UnixListener},
            process::CommandExt,
        },
    },
    process::{Child, Command},
};

use mcp_gateway::launcher::{Layers, Network, Policy, Shape};

use crate::harness::*;

const CANARY: &str = "canary-5f1e";

/// What an attacker would like to reach, and one process of the same user.
struct Targets {
    told: Vec<String>,
    victim: Child,
    _tcp: TcpListener,
    _udp: UdpSocket,
    _abstract: UnixListener,
    _socket: UnixListener,
    segment: i32,
}

impl Targets {
    fn new(place: &Place, by: As) -> Self {
        let own = |name: &str, mode| {
            let path = place.path(name);
            fs::write(&path, "secret\n").unwrap();
            chown(&path, Some(by.uid()), Some(by.uid())).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            path
        };
        let secret = own("secret", 0o600);
        let other = place.path("other");
        fs::write(&other, "secret\n").unwrap();
        fs::set_permissions(&other, Permissions::from_mode(0o600)).unwrap();
        let shared = place.path("shared");
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
        let allowed = place.own_folder("allowed");
        let victim = Command::new("/bin/sleep")
            .arg("1000")
            .env_clear()
            .env("TAG", &place.tag)
            .uid(by.uid())
            .gid(by.uid())
            .spawn()
            .unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let echo = udp.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((len, from)) = echo.recv_from(&mut buffer) {
                let _ = echo.send_to(&buffer[..len], from);
            }
        });
        let name = format!("mcp-gateway-{}", place.tag);
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let abstract_ = UnixListener::bind_addr(&address).unwrap();
        let path = place.path("control");
        let socket = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        let segment = segment();
        let told = vec![
            format!("secret={}", secret.display()),
            format!("other={}", other.display()),
            format!("shared={}", shared.display()),
            format!("allowed={}", allowed.display()),
            format!("victim={}", victim.id()),
            format!("tcp={}", tcp.local_addr().unwrap().port()),
            format!("udp={}", udp.local_addr().unwrap().port()),
            format!("abstract={name}"),
            format!("socket={}", path.display()),
            format!("shm={segment}"),
            format!("canary={CANARY}"),
        ];
        Targets {
            told,
            victim,
            _tcp: tcp,
            _udp: udp,
            _abstract: abstract_,
            _socket: socket,
            segment,
        }
    }
}

impl Drop for Targets {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
        remove(self.segment);
    }
}

/// A System V segment that anybody may read.
fn segment() -> i32 {
    let made = Command::new("ipcmk").args(["-M", "4096", "-p", "0666"]).output().expect("ipcmk");
    let said = String::from_utf8(made.stdout).unwrap();
    said.rsplit(' ').next().unwrap().trim().parse().unwrap()
}

fn remove(segment: i32) {
    let _ = Command::new("ipcrm").args(["-m", &segment.to_string()]).status();
}

/// Every attack by its name, and what came of it.
fn probe(change: impl Fn(&mut Policy), by: As) -> BTreeMap<String, String> {
    let place = Place::new();
    let targets = Targets::new(&place, by);
    let program = place.path("mcp-gateway-exec");
    let args: Vec<&str> =
        std::iter::once("--probe").chain(targets.told.iter().map(String::as_str)).collect();
    let mut policy = place.policy(program.to_str().unwrap(), &args, by);
    policy.read = vec![program];
    policy.write = vec![place.path("allowed")];
    change(&mut policy);
    let ended = place.run(&policy, by);
    assert!(ended.report.is_running(), "{:?}: {}", ended.report.failed, ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "{}\n{}", ended.status, ended.stderr);
    let rows = ended.stdout.lines().map(|line| {
        let (name, outcome) = line.split_once('\t').unwrap();
        (name.to_owned(), outcome.to_owned())
    });
    rows.collect()
}

/// Holds the attacks that worked against those that are known to.
fn hold(kind: &str, change: impl Fn(&mut Policy), known: &[&str]) {
    for by in [As::Root, As::User, As::RootItself] {
        let rows = probe(&change, by);
        assert!(rows.len() > 80, "{} rows", rows.len());
        let reached: BTreeSet<&str> = rows
            .iter()
            .filter(|(_, came)| *came == "REACHED")
            .map(|(name, _)| name.as_str())
            .collect();
        println!("{kind}, started by {by:?}: {} of {} attacks reach", reached.len(), rows.len());
        let known: BTreeSet<&str> = known.iter().copied().collect();
        let more: Vec<_> = reached.difference(&known).collect();
        assert!(more.is_empty(), "{kind}, started by {by:?}: these got through: {more:#?}");
        let fewer: Vec<_> = known.difference(&reached).collect();
        assert!(fewer.is_empty(), "{kind}, {by:?}: denied now, so take them off: {fewer:#?}");
    }
}

/// What only touches itself.
const ITSELF: [&str; 1] = ["its own death signal"];
/// In a network namespace of its own nobody is there to connect.
const OWN_NETWORK: [&str; 2] = ["bind to a port", "listen without bind"];

#[test]
fn strict_without_a_network() {
    hold("strict", |_| {}, &[&ITSELF[..], &OWN_NETWORK].concat());
}

#[test]
fn strict_with_the_web() {
    // Landlock knows no UDP, which names need, and no listening without bind: "reduces, does not
    // contain".
    let known = ["UDP to a local service", "listen without bind"];
    let web = Network::Ports { tcp: vec![443, 80, 53], udp: true };
    hold("web", |policy| policy.network = web.clone(), &[&ITSELF[..], &known].concat());
}

#[test]
fn strict_with_some_ports() {
    let ports = Network::Ports { tcp: vec![443], udp: false };
    let known = ["listen without bind"];
    hold("ports", |policy| policy.network = ports.clone(), &[&ITSELF[..], &known].concat());
}

#[test]
fn strict_with_the_hosts_network() {
    let known = [
        "TCP to a local service",
        "TCP by Fast Open",
        "TCP by Fast Open, in sendmsg",
        "TCP by MPTCP",
        "UDP to a local service",
        "listen without bind",
        "bind to a port",
    ];
    hold("host", |policy| policy.network = Network::Host, &[&ITSELF[..], &known].concat());
}

#[test]
fn browser() {
    // Its own sandbox needs these; what it mounts there it may not.
    let known = [
        "unshare of a user namespace",
        "clone with a user namespace",
        "its own oom_score_adj, upwards",
    ];
    let shape = Shape { nested: true, fonts: true, ..Shape::default() };
    hold("browser", |policy| policy.shape = shape, &[&ITSELF[..], &OWN_NETWORK, &known].concat());
}

#[test]
fn dev() {
    let known = ["ptrace TRACEME"];
    let shape = Shape { trace: true, ..Shape::default() };
    hold("dev", |policy| policy.shape = shape, &[&ITSELF[..], &OWN_NETWORK, &known].concat());
}

#[test]
fn portable_without_a_network() {
    // What no layer but the namespaces keeps away.
    let known = [
        "pidfd_open",
        "see another process of this user",
        "a Unix socket outside",
        "shared memory outside",
    ];
    let layers = Layers { namespaces: false, ..Layers::ALL };
    hold("portable", |policy| policy.layers = layers, &[&ITSELF[..], &known].concat());
}

#[test]
fn namespaces_alone() {
    let layers = Layers { namespaces: true, ..Layers::NONE };
    let rows = probe(|policy| policy.layers = layers, As::Root);
    // One layer is not enough, which is why there are four.
    for row in ["unshare of a user namespace", "io_uring", "a vsock socket"] {
        assert_eq!(rows[row], "REACHED", "{row}");
    }
    for row in ["read a secret of this user", "kill", "an abstract socket outside"] {
        assert_ne!(rows[row], "REACHED", "{row}");
    }
}

#[test]
fn nothing_at_all_is_what_the_probe_would_reach() {
    // Without this nobody knows whether the probe can do what it says.
    let rows = probe(|policy| policy.layers = Layers::NONE, As::Root);
    let reached = rows.values().filter(|came| *came == "REACHED").count();
    println!("off, started by Root: {reached} of {} attacks reach", rows.len());
    assert!(reached >= 40, "{reached}: {rows:#?}");
    for row in [
        "read a secret of this user",
        "write to /var/tmp",
        "write to a shared directory",
        "a symlink out of the granted directory",
        "a hard link out of the granted directory",
        "a file with setuid by chmod",
        "a file with setuid by fchmodat2",
        "a file with setuid by open",
        "a file with setuid by openat2",
        "ptrace of a process of this user",
        "the environment of a process of this user",
        "the memory of a process of this user",
        "process_vm_readv",
        "kill",
        "SIGCONT",
        "pidfd_open",
        "prlimit",
        "sched_setaffinity",
        "setpriority",
        "see another process of this user",
        "unshare of a user namespace",
        "clone with a user namespace",
        "clone3",
        "userfaultfd",
        "io_uring",
        "add_key",
        "keyctl",
        "personality",
        "ptrace TRACEME",
        "capabilities",
        "typing into a terminal",
        "typing into a terminal, with the upper half set",
        "a vsock socket",
        "an audit socket",
        "TCP to a local service",
        "TCP by Fast Open",
        "TCP by Fast Open, in sendmsg",
        "TCP by MPTCP",
        "UDP to a local service",
        "listen without bind",
        "bind to a port",
        "an abstract socket outside",
        "a Unix socket outside",
        "shared memory outside",
    ] {
        assert_eq!(rows[row], "REACHED", "{row}");
    }
}
