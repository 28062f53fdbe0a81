//! The attacks, by what they are after.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpStream, UdpSocket},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::{
            fs::{OpenOptionsExt, PermissionsExt, symlink},
            net::{SocketAddr, UnixStream},
        },
    },
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{errno::Errno, libc};

use super::{Failed, Outside, Tried};

type Attack = fn(&Outside) -> Tried;

#[rustfmt::skip]
pub(super) const ALL: &[(&str, Attack)] = &[
    // files
    ("read a secret of this user", |at| read(at.get("secret")?)),
    ("read a file of somebody else", |at| read(at.get("other")?)),
    ("read /etc/shadow", |_| read("/etc/shadow")),
    ("write to /var/tmp", |_| write(Path::new("/var/tmp"))),
    ("write to a shared directory", |at| write(Path::new(at.get("shared")?))),
    ("write to /usr", |_| write(Path::new("/usr"))),
    ("write to /etc", |_| write(Path::new("/etc"))),
    ("write to the root", |_| write(Path::new("/"))),
    ("a symlink out of the granted directory", symlink_out),
    ("a hard link out of the granted directory", hardlink_out),
    ("reach up from the working directory", |at| read(&format!("../../../../../../../..{}", at.get("secret")?))),
    ("a file with setuid by chmod", |at| special(at, |path| sys(libc::SYS_fchmodat, [AT, ptr(path), 0o4755, 0, 0, 0]).map(drop))),
    ("a file with setuid by fchmodat2", |at| special(at, |path| sys(452, [AT, ptr(path), 0o4755, 0, 0, 0]).map(drop))),
    ("a file with setuid by open", |at| created(at, |path| sys(libc::SYS_openat, [AT, ptr(path), CREATE, 0o4755, 0, 0]))),
    ("a file with setuid by openat2", |at| created(at, |path| {
        let how = [CREATE as u64, 0o4755, 0];
        sys(437, [AT, ptr(path), how.as_ptr() as usize, size_of_val(&how), 0, 0])
    })),
    ("a device of its own", |at| {
        let path = name(&at.get("allowed").map_or_else(|_| PathBuf::from("/tmp"), PathBuf::from).join("device"));
        sys(libc::SYS_mknodat, [AT, ptr(&path), (libc::S_IFCHR | 0o666) as usize, 0x103, 0, 0]).map(drop)
    }),
    ("the gateway's environment", canary),
    ("descriptors of the gateway", descriptors),
    // processes
    ("ptrace of a process of this user", |at| sys(libc::SYS_ptrace, [libc::PTRACE_SEIZE as usize, victim(at)?, 0, 0, 0, 0]).map(drop)),
    ("the environment of a process of this user", |at| read(&format!("/proc/{}/environ", victim(at)?))),
    ("the memory of a process of this user", |at| fs::File::open(format!("/proc/{}/mem", victim(at)?)).map(drop).map_err(Failed::from)),
    ("the root of a process of this user", |at| read(&format!("/proc/{}/root/etc/hostname", victim(at)?))),
    ("process_vm_readv", |at| process_vm(victim(at)?)),
    ("kill", |at| sys(libc::SYS_kill, [victim(at)?, 0, 0, 0, 0, 0]).map(drop)),
    ("SIGCONT", |at| sys(libc::SYS_kill, [victim(at)?, libc::SIGCONT as usize, 0, 0, 0, 0]).map(drop)),
    ("pidfd_open", |at| sys(libc::SYS_pidfd_open, [victim(at)?, 0, 0, 0, 0, 0]).map(drop)),
    ("prlimit", |at| {
        let mut old = [0_u64; 2];
        sys(libc::SYS_prlimit64, [victim(at)?, 7, 0, old.as_mut_ptr() as usize, 0, 0]).map(drop)
    }),
    ("sched_setaffinity", |at| sys(libc::SYS_sched_setaffinity, [victim(at)?, 8, [u64::MAX].as_ptr() as usize, 0, 0, 0]).map(drop)),
    ("setpriority", |at| sys(libc::SYS_setpriority, [0, victim(at)?, 19, 0, 0, 0]).map(drop)),
    ("the environment of pid 1", |_| read("/proc/1/environ")),
    ("the root of pid 1", |_| fs::read_dir("/proc/1/root/").map(drop).map_err(Failed::from)),
    ("the memory of pid 1", |_| fs::File::options().write(true).open("/proc/1/mem").map(drop).map_err(Failed::from)),
    ("ptrace of pid 1", |_| sys(libc::SYS_ptrace, [libc::PTRACE_SEIZE as usize, 1, 0, 0, 0, 0]).map(drop)),
    ("kill of pid 1", |_| sys(libc::SYS_kill, [1, 0, 0, 0, 0, 0]).map(drop)),
    ("see another process of this user", |at| fs::metadata(format!("/proc/{}", victim(at)?)).map(drop).map_err(Failed::from)),
    // the kernel
    ("unshare of a user namespace", |_| forked(|| sys(libc::SYS_unshare, [libc::CLONE_NEWUSER as usize, 0, 0, 0, 0, 0]).map(drop))),
    ("clone with a user namespace", |_| cloned(libc::CLONE_NEWUSER)),
    ("clone with a network namespace", |_| cloned(libc::CLONE_NEWNET)),
    ("clone3", clone3),
    ("userfaultfd", |_| sys(libc::SYS_userfaultfd, [1, 0, 0, 0, 0, 0]).map(drop)),
    ("io_uring", |_| sys(425, [1, [0_u64; 15].as_mut_ptr() as usize, 0, 0, 0, 0]).map(drop)),
    ("add_key", |_| sys(libc::SYS_add_key, [ptr(c"user"), ptr(c"probe"), ptr(c"x"), 1, (-2_isize) as usize, 0]).map(drop)),
    ("keyctl", |_| sys(libc::SYS_keyctl, [0, (-3_isize) as usize, 0, 0, 0, 0]).map(drop)),
    ("personality", |_| sys(libc::SYS_personality, [0x0040000, 0, 0, 0, 0, 0]).map(drop)),
    ("ptrace TRACEME", |_| forked(|| sys(libc::SYS_ptrace, [0; 6]).map(drop))),
    ("mount", |_| sys(libc::SYS_mount, [ptr(c"tmpfs"), ptr(c"/tmp"), ptr(c"tmpfs"), 0, 0, 0]).map(drop)),
    ("remount /usr for writing", |_| sys(libc::SYS_mount, [0, ptr(c"/usr"), 0, (libc::MS_REMOUNT | libc::MS_BIND) as usize, 0, 0]).map(drop)),
    ("umount", |_| sys(libc::SYS_umount2, [ptr(c"/tmp"), libc::MNT_DETACH as usize, 0, 0, 0, 0]).map(drop)),
    ("fsopen", |_| sys(libc::SYS_fsopen, [ptr(c"tmpfs"), 0, 0, 0, 0, 0]).map(drop)),
    ("open_tree", |_| sys(libc::SYS_open_tree, [AT, ptr(c"/"), 1, 0, 0, 0]).map(drop)),
    ("open_tree_attr", |_| sys(467, [AT, ptr(c"/"), 1, [0_u64; 4].as_ptr() as usize, 32, 0]).map(drop)),
    ("pivot_root", |_| sys(libc::SYS_pivot_root, [ptr(c"."), ptr(c"."), 0, 0, 0, 0]).map(drop)),
    ("chroot", |_| forked(|| sys(libc::SYS_chroot, [ptr(c"/"), 0, 0, 0, 0, 0]).map(drop))),
    ("setns", |_| {
        let file = fs::File::open("/proc/self/ns/net")?;
        sys(libc::SYS_setns, [file.as_raw_fd() as usize, 0, 0, 0, 0, 0]).map(drop)
    }),
    ("bpf", |_| sys(libc::SYS_bpf, [0, [1_u64, 4, 4, 1, 0, 0, 0, 0, 0].as_ptr() as usize, 72, 0, 0, 0]).map(drop)),
    ("perf_event_open", |_| sys(libc::SYS_perf_event_open, [[1_u64 | 112 << 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].as_ptr() as usize, 0, usize::MAX, usize::MAX, 0, 0]).map(drop)),
    ("setuid(0)", |_| match nix::unistd::getuid().is_root() {
        // It is already, with nothing to show for it.
        true => Err(Failed::NoEffect),
        false => sys(libc::SYS_setuid, [0; 6]).map(drop),
    }),
    ("setgroups", |_| sys(libc::SYS_setgroups, [0; 6]).map(drop)),
    ("capabilities", capabilities),
    ("open_by_handle_at", |_| sys(libc::SYS_open_by_handle_at, [AT, [8_u32, 1, 2, 0].as_ptr() as usize, 0, 0, 0, 0]).map(drop)),
    ("sethostname", |_| sys(libc::SYS_sethostname, [ptr(c"probe"), 5, 0, 0, 0, 0]).map(drop)),
    ("a call by its x32 number", |_| if cfg!(target_arch = "x86_64") { sys(0x4000_0000 | libc::SYS_getpid, [0; 6]).map(drop) } else { Err(Failed::NoEffect) }),
    ("a call that no kernel has yet", |_| match sys(999, [0; 6]) { Err(Failed::Errno(Errno::ENOSYS)) => Err(Failed::Errno(Errno::ENOSYS)), _ => Ok(()) }),
    ("write to /proc/sys", |_| fs::File::options().write(true).open("/proc/sys/kernel/hostname").map(drop).map_err(Failed::from)),
    ("set the core pattern", |_| fs::File::options().write(true).open("/proc/sys/kernel/core_pattern").map(drop).map_err(Failed::from)),
    ("write to sysrq-trigger", |_| fs::File::options().write(true).open("/proc/sysrq-trigger").map(drop).map_err(Failed::from)),
    ("write to a cgroup", |_| write(Path::new("/sys/fs/cgroup"))),
    ("typing into a terminal", |_| typing(0)),
    ("typing into a terminal, with the upper half set", |_| typing(0xdead_beef << 32)),
    // sockets
    ("a vsock socket", |_| socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0)),
    ("a packet socket", |_| socket(libc::AF_PACKET, libc::SOCK_RAW, 0)),
    ("a raw socket", |_| socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)),
    ("an audit socket", |_| socket(libc::AF_NETLINK, libc::SOCK_RAW, 9)),
    ("a bluetooth socket", |_| socket(31, libc::SOCK_RAW, 1)),
    ("TCP to a local service", |at| connected(&["127.0.0.1", at.get("tcp")?].join(":"))),
    ("TCP by Fast Open", fast_open),
    ("TCP by Fast Open, in sendmsg", fast_open_message),
    ("TCP by MPTCP", |at| connect(at, 262)),
    ("TCP by SCTP", |at| connect(at, 132)),
    ("UDP to a local service", udp),
    ("listen without bind", |_| {
        let fd = open_socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
        sys(libc::SYS_listen, [fd.as_raw_fd() as usize, 1, 0, 0, 0, 0]).map(drop)
    }),
    ("bind to a port", |_| std::net::TcpListener::bind("127.0.0.1:0").map(drop).map_err(Failed::from)),
    ("an abstract socket outside", |at| {
        let address = SocketAddr::from_abstract_name(at.get("abstract")?)?;
        UnixStream::connect_addr(&address).map(drop).map_err(Failed::from)
    }),
    ("a Unix socket outside", |at| UnixStream::connect(at.get("socket")?).map(drop).map_err(Failed::from)),
    ("shared memory outside", |at| sys(libc::SYS_shmat, [at.number::<usize>("shm")?, 0, libc::SHM_RDONLY as usize, 0, 0, 0]).map(drop)),
    // itself, for completeness: these are harmless
    ("its own oom_score_adj, upwards", |_| fs::write("/proc/self/oom_score_adj", "900").map_err(Failed::from)),
    ("its own death signal", |_| sys(libc::SYS_prctl, [1, 0, 0, 0, 0, 0]).map(drop)),
];

const AT: usize = libc::AT_FDCWD as usize;
const CREATE: usize = (libc::O_CREAT | libc::O_WRONLY | libc::O_EXCL) as usize;

fn sys(number: i64, args: [usize; 6]) -> Tried<i64> {
    let [a, b, c, d, e, f] = args;
    // SAFETY: none that holds by itself: every caller passes numbers, or pointers to memory of the
    // size that the call reads or writes and that outlives it. What a call may do to this process
    // is the point; it holds nothing.
    let outcome = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    Ok(Errno::result(outcome)?)
}

fn ptr(text: &std::ffi::CStr) -> usize {
    text.as_ptr() as usize
}

fn name(path: &Path) -> std::ffi::CString {
    std::ffi::CString::new(path.to_string_lossy().as_bytes()).unwrap_or_default()
}

fn victim(at: &Outside) -> Tried<usize> {
    at.number("victim")
}

fn read(path: &str) -> Tried {
    let mut byte = [0];
    match fs::File::open(path)?.read(&mut byte)? {
        0 => Err(Failed::NoEffect),
        _ => Ok(()),
    }
}

fn write(folder: &Path) -> Tried {
    let path = folder.join(format!("probe-{}", std::process::id()));
    let options = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    options?.write_all(b"x")?;
    fs::remove_file(path)?;
    Ok(())
}

fn symlink_out(at: &Outside) -> Tried {
    let link = Path::new(at.get("allowed")?).join("symlink");
    let _ = fs::remove_file(&link);
    symlink(at.get("secret")?, &link)?;
    let outcome = read(&link.to_string_lossy());
    let _ = fs::remove_file(&link);
    outcome
}

fn hardlink_out(at: &Outside) -> Tried {
    let link = Path::new(at.get("allowed")?).join("hardlink");
    let _ = fs::remove_file(&link);
    fs::hard_link(at.get("secret")?, &link)?;
    let outcome = read(&link.to_string_lossy());
    let _ = fs::remove_file(&link);
    outcome
}

fn own_file(at: &Outside, text: &str) -> PathBuf {
    let folder = at.get("allowed").unwrap_or("/tmp");
    Path::new(folder).join(format!("probe-{text}-{}", std::process::id()))
}

fn is_special(path: &Path) -> Tried {
    let mode = fs::metadata(path)?.permissions().mode();
    let _ = fs::remove_file(path);
    if mode & 0o6000 != 0 { Ok(()) } else { Err(Failed::NoEffect) }
}

fn special(at: &Outside, change: fn(&std::ffi::CStr) -> Tried) -> Tried {
    let path = own_file(at, "chmod");
    fs::write(&path, "")?;
    let outcome = change(&name(&path));
    let special = is_special(&path);
    outcome.and(special)
}

fn created(at: &Outside, create: fn(&std::ffi::CStr) -> Tried<i64>) -> Tried {
    let path = own_file(at, "open");
    create(&name(&path))?;
    is_special(&path)
}

fn canary(at: &Outside) -> Tried {
    let canary = at.get("canary")?.to_owned();
    let leaked = std::env::vars().any(|(_, value)| value.contains(&canary));
    if leaked { Ok(()) } else { Err(Failed::NoEffect) }
}

fn descriptors(_: &Outside) -> Tried {
    let open = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    // One is the listing's own.
    let leaked: Vec<i32> = open.filter(|fd| *fd > 2).collect();
    if leaked.len() > 1 { Ok(()) } else { Err(Failed::NoEffect) }
}

fn process_vm(pid: usize) -> Tried {
    let mut into = [0_u8; 8];
    let local = [into.as_mut_ptr() as usize, into.len()];
    let remote = [0x40_0000, into.len()];
    let args = [pid, local.as_ptr() as usize, 1, remote.as_ptr() as usize, 1, 0];
    match sys(libc::SYS_process_vm_readv, args) {
        // It was let in; there is only nothing at that address.
        Ok(_) | Err(Failed::Errno(Errno::EFAULT)) => Ok(()),
        Err(failed) => Err(failed),
    }
}

/// In a child, since it would change this process.
fn forked(attack: fn() -> Tried) -> Tried {
    // SAFETY: the probe has one thread.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Child => {
            let code = match attack() {
                Ok(()) => 0,
                Err(Failed::Errno(errno)) => errno as i32,
                Err(_) => 255,
            };
            std::process::exit(code)
        }
        nix::unistd::ForkResult::Parent { child } => ended(child),
    }
}

fn ended(child: nix::unistd::Pid) -> Tried {
    match nix::sys::wait::waitpid(child, None)? {
        nix::sys::wait::WaitStatus::Exited(_, 0) => Ok(()),
        nix::sys::wait::WaitStatus::Exited(_, errno) => Err(Failed::Errno(Errno::from_raw(errno))),
        _ => Err(Failed::NoEffect),
    }
}

fn cloned(flags: i32) -> Tried {
    match sys(libc::SYS_clone, [(flags | libc::SIGCHLD) as usize, 0, 0, 0, 0, 0])? {
        0 => std::process::exit(0),
        child => ended(nix::unistd::Pid::from_raw(child as i32)),
    }
}

fn clone3(_: &Outside) -> Tried {
    let args = [libc::CLONE_NEWUSER as u64, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0];
    match sys(435, [args.as_ptr() as usize, size_of_val(&args), 0, 0, 0, 0])? {
        0 => std::process::exit(0),
        child => ended(nix::unistd::Pid::from_raw(child as i32)),
    }
}

fn capabilities(_: &Outside) -> Tried {
    let status = fs::read_to_string("/proc/self/status")?;
    let sets = ["CapInh", "CapPrm", "CapEff", "CapAmb"];
    let held = status.lines().any(|line| {
        sets.iter().any(|set| line.starts_with(set)) && !line.ends_with("\t0000000000000000")
    });
    let may_gain = status.lines().any(|line| line == "NoNewPrivs:\t0");
    if held || may_gain { Ok(()) } else { Err(Failed::NoEffect) }
}

/// stdin is no terminal; a call that finds that out has got through.
fn typing(upper: usize) -> Tried {
    let letter = b'x';
    match sys(
        libc::SYS_ioctl,
        [0, upper | libc::TIOCSTI as usize, &raw const letter as usize, 0, 0, 0],
    ) {
        Ok(_) | Err(Failed::Errno(Errno::ENOTTY | Errno::EIO | Errno::EINVAL)) => Ok(()),
        Err(failed) => Err(failed),
    }
}

fn open_socket(family: i32, kind: i32, protocol: i32) -> Tried<OwnedFd> {
    let fd = sys(libc::SYS_socket, [family as usize, kind as usize, protocol as usize, 0, 0, 0])?;
    // SAFETY: the call has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn socket(family: i32, kind: i32, protocol: i32) -> Tried {
    open_socket(family, kind, protocol).map(drop)
}

/// `sockaddr_in` of 127.0.0.1.
fn local(port: u16) -> [u8; 16] {
    let [high, low] = port.to_be_bytes();
    let [a, b] = (libc::AF_INET as u16).to_ne_bytes();
    [a, b, high, low, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]
}

fn connected(address: &str) -> Tried {
    TcpStream::connect(address).map(drop).map_err(Failed::from)
}

fn connect(at: &Outside, protocol: i32) -> Tried {
    let to = local(at.number("tcp")?);
    let fd = open_socket(libc::AF_INET, libc::SOCK_STREAM, protocol)?;
    sys(libc::SYS_connect, [fd.as_raw_fd() as usize, to.as_ptr() as usize, 16, 0, 0, 0]).map(drop)
}

fn fast_open(at: &Outside) -> Tried {
    let to = local(at.number("tcp")?);
    let fd = open_socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    let flags = libc::MSG_FASTOPEN as usize;
    let args =
        [fd.as_raw_fd() as usize, b"x".as_ptr() as usize, 1, flags, to.as_ptr() as usize, 16];
    sys(libc::SYS_sendto, args).map(drop)
}

fn fast_open_message(at: &Outside) -> Tried {
    let to = local(at.number("tcp")?);
    let fd = open_socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    let part = [b"x".as_ptr() as usize, 1];
    let message = [to.as_ptr() as usize, 16, part.as_ptr() as usize, 1, 0, 0, 0];
    let flags = libc::MSG_FASTOPEN as usize;
    sys(libc::SYS_sendmsg, [fd.as_raw_fd() as usize, message.as_ptr() as usize, flags, 0, 0, 0])
        .map(drop)
}

fn udp(at: &Outside) -> Tried {
    let port: u16 = at.number("udp")?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(500)))?;
    socket.send_to(b"probe", ("127.0.0.1", port))?;
    let mut echo = [0; 8];
    socket.recv(&mut echo)?;
    Ok(())
}
