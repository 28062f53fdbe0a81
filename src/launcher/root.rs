//! The private root: a tree in memory with read-only binds of the system, a private /tmp, /dev and
//! /proc, the granted paths at their own places, and nothing else of the machine.
//!
//! Done by pid 1, as the target user, with the capabilities of its own user namespace. Sources are
//! opened before anything is covered, and targets are resolved inside the new root, so no link in
//! a granted tree leads anywhere else.

use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::symlink},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2},
    libc,
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::stat::{Mode, mkdirat, umask},
};

use super::{At, Network, Policy, Report, Step};

const STEP: &str = "root";
/// What the tree itself may take: directories and mount points.
const TREE: &str = "size=4m,nr_inodes=16k,mode=755";
/// Where it is put together. Only has to exist; nothing in it is touched.
const BASE: &str = "/tmp";
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// A detached copy of a tree, and where it goes.
struct Bind {
    target: PathBuf,
    tree: OwnedFd,
    is_dir: bool,
}

pub(super) fn build(policy: &Policy, report: &Report) -> Step {
    umask(Mode::from_bits_truncate(0o022));
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).at(STEP, "private /")?;
    let mut binds = sources(policy)?;
    binds.sort_by_key(|bind| bind.target.components().count());
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), BASE, Some("tmpfs"), flags, Some(TREE)).at(STEP, "tmpfs")?;
    let base = open(BASE, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).at(STEP, BASE)?;
    for path in policy.common().into_iter().filter(|path| is_system_link(path)) {
        let to = fs::read_link(path).at(STEP, path.display().to_string())?;
        symlink(to, Path::new(BASE).join(path.strip_prefix("/").unwrap_or(path)))
            .at(STEP, path.display().to_string())?;
    }
    // A grant of the whole /tmp takes the place of the private one.
    for (target, size) in [("/tmp", policy.limits.tmp), ("/dev/shm", policy.limits.shm)] {
        if binds.iter().all(|bind| bind.target != Path::new(target)) {
            let at = place(&base, Path::new(target), true)?;
            let options = format!("size={size},mode=1777");
            mount(Some("tmpfs"), &*by_fd(&at), Some("tmpfs"), flags, Some(&*options))
                .at(STEP, target)?;
        }
    }
    for bind in binds {
        let at = place(&base, &bind.target, bind.is_dir)?;
        move_mount(&bind.tree, &at).at(STEP, bind.target.display().to_string())?;
    }
    for (name, to) in [("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")] {
        let to = format!("/proc/self/{to}");
        symlink(to, format!("{BASE}/dev/{name}")).at(STEP, format!("/dev/{name}"))?;
    }
    let proc = place(&base, Path::new("/proc"), true)?;
    mount(Some("proc"), &*by_fd(&proc), Some("proc"), flags | MsFlags::MS_NOEXEC, none)
        .at(STEP, "a fresh /proc (refused where something covers a part of the old one)")?;
    drop(proc);
    guard_proc(&base, policy.shape.nested)?;
    drop(base);
    nix::unistd::chdir(BASE).at(STEP, "chdir")?;
    nix::unistd::pivot_root(".", ".").at(STEP, "pivot_root")?;
    umount2(".", MntFlags::MNT_DETACH).at(STEP, "detach the old root")?;
    nix::unistd::chdir("/").at(STEP, "chdir")?;
    let root = open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).at(STEP, "/")?;
    set_attributes(&root, libc::MOUNT_ATTR_RDONLY, false).at(STEP, "read-only /")?;
    if policy.network == Network::None {
        raise_loopback().at(STEP, "loopback")?;
    }
    let (read, write) = (policy.read.len(), policy.write.len());
    report.on(STEP, &format!("private /, /tmp, /dev, /proc; {read} read, {write} write"));
    Ok(())
}

/// Nothing of the kernel's is written through /proc. It looks at the uid for that, not at
/// capabilities: to one who is root outside too, /proc/sys/kernel/core_pattern would be the way out.
/// What a browser writes, the maps of its own user namespaces, stays.
fn guard_proc(base: &OwnedFd, nested: bool) -> Step {
    const KERNEL: [&str; 9] =
        ["sys", "sysrq-trigger", "irq", "bus", "fs", "acpi", "scsi", "mtrr", "latency_stats"];
    if !nested {
        let proc = inside_root(base, Path::new("proc")).at(STEP, "/proc")?;
        return set_attributes(&proc, libc::MOUNT_ATTR_RDONLY, false).at(STEP, "read-only /proc");
    }
    for name in KERNEL {
        let path = Path::new("proc").join(name);
        let Ok(at) = inside_root(base, &path) else { continue };
        let tree = bind(&Path::new(BASE).join(&path), libc::MOUNT_ATTR_RDONLY)?.tree;
        move_mount(&tree, &at).at(STEP, path.display().to_string())?;
    }
    Ok(())
}

/// Every bind with its attributes: read-only or not, never setuid, no device but the five.
fn sources(policy: &Policy) -> Step<Vec<Bind>> {
    const READ: u64 = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    const WRITE: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    const DEVICE: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
    let common = policy.common().into_iter().filter(|path| path.exists() && !is_system_link(path));
    let read = common.chain(policy.read.iter().map(PathBuf::as_path));
    let write = policy.write.iter().chain(&policy.home);
    let all = read
        .map(|path| bind(path, READ))
        .chain(write.map(|path| bind(path, WRITE)))
        .chain(DEVICES.iter().map(|name| bind(&Path::new("/dev").join(name), DEVICE)));
    all.collect()
}

fn bind(path: &Path, attributes: u64) -> Step<Bind> {
    let shown = path.display().to_string();
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(io::Error::from)
        .at(STEP, shown.clone())?;
    let flags =
        libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_RECURSIVE as libc::c_uint;
    // SAFETY: `name` is a C string that lives through the call; a descriptor of our own returns.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, name.as_ptr(), flags) };
    let tree = Errno::result(tree).at(STEP, shown.clone())?;
    // SAFETY: the call has just made this descriptor, for us alone.
    let tree = unsafe { OwnedFd::from_raw_fd(tree as i32) };
    set_attributes(&tree, attributes, true).at(STEP, shown.clone())?;
    let is_dir = fs::metadata(by_fd(&tree)).at(STEP, shown)?.is_dir();
    Ok(Bind { target: path.to_owned(), tree, is_dir })
}

fn set_attributes(tree: &OwnedFd, set: u64, whole: bool) -> nix::Result<()> {
    let attributes = [set, 0, 0, 0];
    let flags = libc::AT_EMPTY_PATH | if whole { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, and the attributes are the four words of
    // `struct mount_attr` in a first version, with their size beside them; the call only reads.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    Errno::result(outcome).map(drop)
}

fn move_mount(tree: &OwnedFd, target: &OwnedFd) -> nix::Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    let (from, to) = (tree.as_raw_fd(), target.as_raw_fd());
    // SAFETY: both paths are empty C strings and both descriptors are borrowed, so open.
    let outcome =
        unsafe { libc::syscall(libc::SYS_move_mount, from, c"".as_ptr(), to, c"".as_ptr(), flags) };
    Errno::result(outcome).map(drop)
}

/// Where the system has links (`/bin -> usr/bin`), so has the private root.
fn is_system_link(path: &Path) -> bool {
    path.is_symlink() && path.parent() == Some(Path::new("/"))
}

/// The mount point for `target` inside the new root, made where it is missing.
fn place(base: &OwnedFd, target: &Path, is_dir: bool) -> Step<OwnedFd> {
    let shown = || format!("a place for {}", target.display());
    let inside = target.strip_prefix("/").unwrap_or(target);
    let mut at = base.try_clone().at(STEP, shown())?;
    let mut path = PathBuf::new();
    let count = inside.components().count();
    for (index, name) in inside.components().enumerate() {
        path.push(name);
        let mut found = inside_root(base, &path);
        if found.as_ref().err() == Some(&Errno::ENOENT) {
            if is_dir || index + 1 < count {
                mkdirat(&at, name.as_os_str(), Mode::from_bits_truncate(0o755))
            } else {
                let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                openat(&at, name.as_os_str(), flags, Mode::from_bits_truncate(0o444)).map(drop)
            }
            .at(STEP, shown())?;
            found = inside_root(base, &path);
        }
        at = found.at(STEP, shown())?;
    }
    Ok(at)
}

/// Opens `path` with the new root as if it were `/`: no link and no `..` leads out of it.
fn inside_root(base: &OwnedFd, path: &Path) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT);
    openat2(base, path, how)
}

fn by_fd(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// A new network namespace has its loopback down.
fn raise_loopback() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all zeroes are a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the descriptor is open, and the call reads an `ifreq`, which this is.
    let outcome =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    Errno::result(outcome)?;
    Ok(())
}

/// The directory that the program starts in: the one asked for if it is there, else its home.
pub(super) fn enter_directory(policy: &Policy) -> Step {
    let home = policy.home.as_deref().unwrap_or(Path::new("/tmp"));
    match &policy.cwd {
        Some(cwd) if nix::unistd::chdir(cwd).is_ok() => Ok(()),
        _ => nix::unistd::chdir(home).at("directory", home.display().to_string()),
    }
}
