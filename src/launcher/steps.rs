//! The steps before there is a sandbox: descriptors, signals, limits, ids, namespaces.

use std::{
    ffi::{CString, OsStr},
    fs::File,
    io::IoSliceMut,
    os::{
        fd::{BorrowedFd, FromRawFd, RawFd},
        unix::ffi::OsStrExt,
    },
};

use nix::{
    errno::Errno,
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        resource::{Resource, getrlimit, setrlimit},
        signal::{SigSet, SigmaskHow, sigprocmask},
        socket::{ControlMessageOwned, MsgFlags, recvmsg},
    },
};

use super::{At, HELLO, LIFELINE_FD, Limits, Policy, REPORT_FD, Step, fault};

/// Takes the descriptors out of the message that waits on our stdin, and puts them where they
/// belong. The policy's is returned. `None`: this is not what we were started with.
pub(super) fn receive() -> Option<File> {
    let mut text = [0; HELLO.len()];
    let mut space = nix::cmsg_space!([RawFd; 5]);
    let mut parts = [IoSliceMut::new(&mut text)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(0, &mut parts, Some(&mut space), flags).ok()?;
    let mut received = message.cmsgs().ok()?.filter_map(|control| match control {
        ControlMessageOwned::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fds = received.next().filter(|_| received.next().is_none())?;
    if text != HELLO {
        return None;
    }
    // Above all the places, so that none is covered before it has been moved.
    let above = |fd: &RawFd| {
        // SAFETY: duplicates a descriptor that we have just been given.
        Errno::result(unsafe { libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, 64) }).ok()
    };
    let fds: [RawFd; 5] = fds.iter().filter_map(above).collect::<Vec<_>>().try_into().ok()?;
    let [stdin, stdout, policy, report, lifeline] = fds;
    for (from, to) in [(stdin, 0), (stdout, 1), (report, REPORT_FD), (lifeline, LIFELINE_FD)] {
        // SAFETY: what stood at these numbers is the socket, a stdout that nobody uses, and what
        // `fds` held before it was duplicated; nothing in this process owns them.
        Errno::result(unsafe { libc::dup2(from, to) }).ok()?;
    }
    Some(file(policy))
}

/// Makes a descriptor that we were given our own.
pub(super) fn file(fd: RawFd) -> File {
    // SAFETY: `receive` has put it there; each number is taken once in a process, so nothing else
    // in it owns or closes it.
    unsafe { File::from_raw_fd(fd) }
}

/// The read end of the lifeline; open from start to end.
pub(super) fn lifeline() -> BorrowedFd<'static> {
    // SAFETY: `receive` has put it there, nobody owns the number, and nobody closes it before the
    // process ends.
    unsafe { BorrowedFd::borrow_raw(LIFELINE_FD) }
}

/// Nothing but 0, 1, 2 reaches the backend; nothing that we were not meant to have stays open.
pub(super) fn close_fds() -> Step {
    for fd in [REPORT_FD, LIFELINE_FD] {
        // SAFETY: sets a flag of a descriptor that is open.
        let outcome = unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        Errno::result(outcome).at("descriptors", fd.to_string())?;
    }
    #[cfg(target_os = "linux")]
    {
        let first = LIFELINE_FD as libc::c_uint + 1;
        // SAFETY: nothing of ours has a number above the lifeline's: the policy has been read, and
        // the one open file in this process is the report.
        let outcome = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
        Errno::result(outcome).at("descriptors", "close_range")?;
    }
    #[cfg(not(target_os = "linux"))]
    for fd in LIFELINE_FD + 1..4096 {
        // SAFETY: as above; a number that is not open is EBADF.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

/// Whatever our parent ignored or blocked, the backend starts as after a boot.
pub(super) fn reset_signals() -> Step {
    for signal in 1..=64 {
        // SAFETY: the default needs no handler; KILL, STOP and the libc's own refuse harmlessly.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).at("signals", "")
}

/// Our starter may be dead before we run; then there is nobody to run for.
pub(super) fn lifeline_is_held() -> Step {
    let mut fds = [PollFd::new(lifeline(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::ZERO) {
        Ok(0) | Err(Errno::EINTR) => Ok(()),
        // There is nothing to read from a lifeline but its end.
        _ => fault("lifeline", "whoever started this has ended"),
    }
}

/// Zero leaves a limit as it is. None is raised above what we were given.
pub(super) fn rlimits(limits: &Limits) -> Step {
    let table = [
        // Of each process, so no sum; and thread stacks count that are never touched.
        (Resource::RLIMIT_DATA, limits.memory.saturating_mul(2), "memory"),
        (Resource::RLIMIT_NOFILE, limits.open_files, "open files"),
        (Resource::RLIMIT_FSIZE, limits.file, "file size"),
    ];
    for (resource, limit, what) in table.into_iter().filter(|(_, limit, _)| *limit > 0) {
        lower(resource, limit).at("rlimits", what)?;
    }
    setrlimit(Resource::RLIMIT_CORE, 0, 0).at("rlimits", "core")?;
    // What cannot be swapped is everybody's; 8 MiB is the kernel's own default.
    #[cfg(target_os = "linux")]
    lower(Resource::RLIMIT_MEMLOCK, 8 << 20).at("rlimits", "locked memory")?;
    Ok(())
}

/// Never above what we were given, which only root could.
pub(super) fn lower(resource: Resource, limit: u64) -> nix::Result<()> {
    let (_, hard) = getrlimit(resource)?;
    let limit = limit.min(hard);
    setrlimit(resource, limit, limit)
}

/// The program, its arguments and its environment, as execve takes them.
pub(super) fn command(policy: &Policy) -> Step<(CString, Vec<CString>, Vec<CString>)> {
    let text = |text: &OsStr| {
        CString::new(text.as_bytes()).map_err(std::io::Error::from).at("execve", "a NUL")
    };
    let pairs = policy.env.iter().map(|(name, value)| {
        let mut pair = name.clone();
        pair.push("=");
        pair.push(value);
        text(&pair)
    });
    let args = policy.args.iter().map(|arg| text(arg));
    Ok((text(policy.program.as_os_str())?, args.collect::<Step<_>>()?, pairs.collect::<Step<_>>()?))
}

#[cfg(target_os = "linux")]
pub(super) mod linux {
    use std::fs;

    use nix::{
        errno::Errno,
        libc,
        sched::{CloneFlags, unshare as leave},
        sys::prctl,
        unistd::{Gid, Uid, getegid, geteuid, getgroups, getresgid, getresuid},
    };

    use crate::launcher::{At, Ids, Network, Policy, Report, Step, fault};

    /// For the numbers, see linux/securebits.h: NOROOT and NO_SETUID_FIXUP stay off for ever, as
    /// do ambient capabilities.
    const SECUREBITS: libc::c_ulong = 0b1110_1111;

    /// While we still may: its files belong to whoever started us. Children are born in it.
    pub(in crate::launcher) fn join_cgroup(policy: &Policy, report: &Report) -> Step {
        let Some(cgroup) = &policy.cgroup else {
            report.off("cgroup", "none is ours: memory is looked at now and then, best effort");
            return Ok(());
        };
        fs::write(cgroup.join("cgroup.procs"), "0").at("cgroup", cgroup.display().to_string())?;
        report.on("cgroup", "it holds memory and processes");
        Ok(())
    }

    fn prctl(option: i32, argument: libc::c_ulong, second: libc::c_ulong) -> nix::Result<i32> {
        // SAFETY: only options that take numbers are passed; none of them touches memory.
        Errno::result(unsafe { libc::prctl(option, argument, second, 0, 0) })
    }

    /// No capability can be had again by any execve. Done twice: a new user namespace refills the
    /// set. Who may not shrink it has no capability, and with no_new_privs gets none.
    pub(in crate::launcher) fn shrink_bounding_set(step: &'static str) -> Step {
        let _ = prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0);
        for capability in 0..64 {
            match prctl(libc::PR_CAPBSET_READ, capability, 0) {
                Ok(0) => continue,
                Ok(_) => {}
                // Past the kernel's last one.
                Err(_) => break,
            }
            match prctl(libc::PR_CAPBSET_DROP, capability, 0) {
                Err(Errno::EPERM) => return Ok(()),
                outcome => outcome.at(step, format!("capability {capability}"))?,
            };
        }
        Ok(())
    }

    /// The last of privileges: no capability, no way to one, and no way back. `whole`: the bounding
    /// set was ours to shrink, and must be empty.
    pub(in crate::launcher) fn drop_privileges(whole: bool, report: &Report) -> Step {
        const STEP: &str = "privileges";
        shrink_bounding_set(STEP)?;
        // Needs a capability; without one there is nothing that it could hold back.
        let _ = prctl(libc::PR_SET_SECUREBITS, SECUREBITS, 0);
        empty_capabilities().at(STEP, "capset")?;
        prctl::set_no_new_privs().at(STEP, "no_new_privs")?;
        let status = fs::read_to_string("/proc/self/status").at(STEP, "/proc/self/status")?;
        let left: Vec<&str> = status
            .lines()
            .filter(|line| line.starts_with("Cap") && !line.ends_with("\t0000000000000000"))
            .collect();
        if left.iter().any(|line| whole || !line.starts_with("CapBnd")) {
            return fault(STEP, format!("capabilities are left: {}", left.join(", ")));
        }
        let bounding = if left.is_empty() { ", empty bounding set" } else { "" };
        report.on(STEP, &format!("no capability, no_new_privs{bounding}"));
        Ok(())
    }

    fn empty_capabilities() -> nix::Result<()> {
        let header = [0x2008_0522_u32, 0];
        let data = [0_u32; 6];
        // SAFETY: version 3 of the call reads a header of two words and data of six, which these
        // are; it writes nothing but a version that it does not know.
        let outcome = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
        Errno::result(outcome).map(drop)
    }

    pub(in crate::launcher) fn become_user(ids: &Ids) -> Step {
        const STEP: &str = "ids";
        let (uid, gid) = (Uid::from_raw(ids.uid), Gid::from_raw(ids.gid));
        if uid.is_root() {
            return fault(STEP, "a backend does not become root");
        }
        let groups: Vec<Gid> = ids.groups.iter().map(|group| Gid::from_raw(*group)).collect();
        nix::unistd::setgroups(&groups).at(STEP, "setgroups")?;
        nix::unistd::setresgid(gid, gid, gid).at(STEP, format!("gid {gid}"))?;
        nix::unistd::setresuid(uid, uid, uid).at(STEP, format!("uid {uid}"))?;
        // From one plain user to another no capability is lost by itself.
        empty_capabilities().at(STEP, "capset")?;
        let (user, group) = (getresuid().at(STEP, "")?, getresgid().at(STEP, "")?);
        let became = [user.real, user.effective, user.saved].iter().all(|id| *id == uid)
            && [group.real, group.effective, group.saved].iter().all(|id| *id == gid);
        let mut held = getgroups().at(STEP, "getgroups")?;
        let mut wanted = groups;
        held.sort_by_key(|group| group.as_raw());
        wanted.sort_by_key(|group| group.as_raw());
        if !became || held != wanted {
            return fault(STEP, "did not become who it was told to be");
        }
        if nix::unistd::setuid(Uid::from_raw(0)).is_ok() {
            return fault(STEP, "could become root again");
        }
        Ok(())
    }

    /// A user namespace of our own, which maps nobody but us, and in it all the others. The
    /// identity is changed before: nothing here acts on a user's paths as root.
    pub(in crate::launcher) fn unshare(policy: &Policy, report: &Report) -> Step {
        const USER: &str = "user namespace";
        let (uid, gid) = (geteuid(), getegid());
        // The files below belong to root while we are not dumpable, as after a change of uid.
        prctl::set_dumpable(true).at(USER, "dumpable")?;
        leave(CloneFlags::CLONE_NEWUSER).at(USER, "unshare")?;
        let write = |file: &str, text: String| {
            fs::write(format!("/proc/self/{file}"), text).at(USER, file.to_owned())
        };
        write("setgroups", "deny".to_owned())?;
        write("uid_map", format!("{uid} {uid} 1"))?;
        write("gid_map", format!("{gid} {gid} 1"))?;
        prctl::set_dumpable(false).at(USER, "dumpable")?;
        let mut flags = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWCGROUP;
        let own_network = policy.network == Network::None;
        flags.set(CloneFlags::CLONE_NEWNET, own_network);
        leave(flags).at("namespaces", "unshare")?;
        let network = if own_network { " net" } else { "" };
        report.on("namespaces", &format!("user mount pid ipc uts cgroup{network}"));
        Ok(())
    }
}
