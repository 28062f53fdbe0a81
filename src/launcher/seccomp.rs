//! Which system calls a backend has. Last of all, since it forbids what the other steps do.
//!
//! Three filters, of which the strictest answer counts, and among equals that of the last: a list
//! of the calls that there are (anything else, x32 and what no kernel has yet included, is ENOSYS),
//! the socket families, and what is refused with EPERM, by call or by argument.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp as Op,
    SeccompCondition as Condition, SeccompFilter, SeccompRule, apply_filter,
};

use super::{Network, Policy, Report, Step, fault};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

macro_rules! calls {
    ($($name:ident)*) => { [$(libc::$name),*] };
}

/// What programs of today use, without what [`REFUSED`] names. `clone3` and `openat2` are left out
/// on purpose: their arguments lie in memory, where a filter cannot look; libcs fall back.
#[rustfmt::skip]
const KNOWN: &[i64] = &calls![
    SYS_read SYS_write SYS_close SYS_fstat SYS_lseek SYS_mmap SYS_mprotect SYS_munmap SYS_brk
    SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_ioctl SYS_pread64 SYS_pwrite64 SYS_readv
    SYS_writev SYS_sched_yield SYS_mremap SYS_msync SYS_mincore SYS_madvise SYS_shmget SYS_shmat
    SYS_shmctl SYS_shmdt SYS_dup SYS_nanosleep SYS_getitimer SYS_setitimer SYS_getpid SYS_sendfile
    SYS_socket SYS_connect SYS_accept SYS_sendto SYS_recvfrom SYS_sendmsg SYS_recvmsg SYS_shutdown
    SYS_bind SYS_listen SYS_getsockname SYS_getpeername SYS_socketpair SYS_setsockopt SYS_getsockopt
    SYS_clone SYS_execve SYS_exit SYS_wait4 SYS_kill SYS_uname SYS_semget SYS_semop SYS_semctl
    SYS_msgget SYS_msgsnd SYS_msgrcv SYS_msgctl SYS_fcntl SYS_flock SYS_fsync SYS_fdatasync
    SYS_truncate SYS_ftruncate SYS_getcwd SYS_chdir SYS_fchdir SYS_fchmod SYS_fchown SYS_umask
    SYS_gettimeofday SYS_getrusage SYS_sysinfo SYS_times SYS_getuid SYS_getgid SYS_setuid SYS_setgid
    SYS_geteuid SYS_getegid SYS_setpgid SYS_getpgid SYS_getppid SYS_setsid SYS_getsid SYS_setreuid
    SYS_setregid SYS_getgroups SYS_setgroups SYS_setresuid SYS_getresuid SYS_setresgid
    SYS_getresgid SYS_setfsuid SYS_setfsgid SYS_capget SYS_capset SYS_rt_sigpending
    SYS_rt_sigtimedwait SYS_rt_sigqueueinfo SYS_rt_sigsuspend SYS_sigaltstack SYS_statfs SYS_fstatfs
    SYS_getpriority SYS_setpriority SYS_sched_setparam SYS_sched_getparam SYS_sched_setscheduler
    SYS_sched_getscheduler SYS_sched_get_priority_max SYS_sched_get_priority_min
    SYS_sched_rr_get_interval SYS_mlock SYS_munlock SYS_mlockall SYS_munlockall SYS_mlock2 SYS_prctl
    SYS_getrlimit SYS_setrlimit SYS_sync SYS_gettid SYS_readahead SYS_setxattr SYS_lsetxattr
    SYS_fsetxattr SYS_getxattr SYS_lgetxattr SYS_fgetxattr SYS_listxattr SYS_llistxattr
    SYS_flistxattr SYS_removexattr SYS_lremovexattr SYS_fremovexattr SYS_tkill SYS_tgkill SYS_futex
    SYS_sched_setaffinity SYS_sched_getaffinity SYS_io_setup SYS_io_destroy SYS_io_getevents
    SYS_io_submit SYS_io_cancel SYS_getdents64 SYS_set_tid_address SYS_restart_syscall SYS_semtimedop
    SYS_fadvise64 SYS_timer_create SYS_timer_settime SYS_timer_gettime SYS_timer_getoverrun
    SYS_timer_delete SYS_clock_gettime SYS_clock_getres SYS_clock_nanosleep SYS_exit_group
    SYS_epoll_ctl SYS_waitid SYS_mbind SYS_set_mempolicy SYS_get_mempolicy SYS_mq_open SYS_mq_unlink
    SYS_mq_timedsend SYS_mq_timedreceive SYS_mq_notify SYS_mq_getsetattr SYS_ioprio_set
    SYS_ioprio_get SYS_inotify_add_watch SYS_inotify_rm_watch SYS_inotify_init1 SYS_openat
    SYS_mkdirat SYS_mknodat SYS_fchownat SYS_newfstatat SYS_unlinkat SYS_renameat SYS_renameat2
    SYS_linkat SYS_symlinkat SYS_readlinkat SYS_fchmodat SYS_faccessat SYS_faccessat2
    SYS_pselect6 SYS_ppoll SYS_set_robust_list SYS_get_robust_list SYS_splice SYS_tee
    SYS_sync_file_range SYS_vmsplice SYS_utimensat SYS_epoll_pwait SYS_epoll_pwait2 SYS_timerfd_create
    SYS_timerfd_settime SYS_timerfd_gettime SYS_fallocate SYS_accept4 SYS_signalfd4 SYS_eventfd2
    SYS_epoll_create1 SYS_dup3 SYS_pipe2 SYS_preadv SYS_pwritev SYS_preadv2 SYS_pwritev2
    SYS_rt_tgsigqueueinfo SYS_recvmmsg SYS_sendmmsg SYS_prlimit64 SYS_syncfs SYS_getcpu
    SYS_sched_setattr SYS_sched_getattr SYS_seccomp SYS_getrandom SYS_memfd_create SYS_execveat
    SYS_membarrier SYS_copy_file_range SYS_pkey_mprotect SYS_pkey_alloc SYS_pkey_free SYS_statx
    SYS_rseq SYS_pidfd_open SYS_pidfd_send_signal SYS_close_range SYS_landlock_create_ruleset
    SYS_landlock_add_rule SYS_landlock_restrict_self SYS_futex_waitv SYS_personality
    SYS_mseal
];
/// `futex_wake`, `futex_wait`, `futex_requeue`: the same numbers everywhere.
const FUTEX2: [i64; 3] = [454, 455, 456];
/// Not named by the libc crate everywhere.
const FCHMODAT2: i64 = 452;

/// What only the older architecture has.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLD: &[i64] = &calls![
    SYS_open SYS_stat SYS_lstat SYS_poll SYS_access SYS_pipe SYS_select SYS_dup2 SYS_pause SYS_alarm
    SYS_fork SYS_vfork SYS_rename SYS_mkdir SYS_rmdir SYS_creat SYS_link SYS_unlink SYS_symlink
    SYS_readlink SYS_chmod SYS_chown SYS_lchown SYS_utime SYS_mknod SYS_getpgrp SYS_arch_prctl
    SYS_time SYS_epoll_create SYS_epoll_wait SYS_futimesat SYS_utimes SYS_signalfd SYS_eventfd
    SYS_inotify_init SYS_getdents
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[i64] = &[];

/// What clone would make anew.
#[rustfmt::skip]
const SPACES: [i32; 7] = calls![
    CLONE_NEWNS CLONE_NEWCGROUP CLONE_NEWUTS CLONE_NEWIPC CLONE_NEWUSER CLONE_NEWPID CLONE_NEWNET
];

/// Never, whatever the arguments: other processes' insides, mounts, kernel code, clocks, keys.
#[rustfmt::skip]
const REFUSED: &[i64] = &calls![
    SYS_process_vm_readv SYS_process_vm_writev SYS_process_madvise SYS_kcmp SYS_pidfd_getfd SYS_bpf
    SYS_perf_event_open SYS_userfaultfd SYS_mount SYS_umount2 SYS_pivot_root SYS_open_tree
    SYS_move_mount SYS_fsopen SYS_fsconfig SYS_fsmount SYS_fspick SYS_mount_setattr SYS_setns
    SYS_add_key SYS_request_key SYS_keyctl SYS_init_module SYS_finit_module SYS_delete_module
    SYS_kexec_load SYS_kexec_file_load SYS_swapon SYS_swapoff SYS_reboot SYS_quotactl SYS_acct
    SYS_settimeofday SYS_clock_settime SYS_clock_adjtime SYS_adjtimex SYS_syslog SYS_name_to_handle_at
    SYS_open_by_handle_at SYS_fanotify_init SYS_fanotify_mark SYS_sethostname SYS_setdomainname
    SYS_vhangup
];
/// `open_tree_attr`, which the libc crate does not name yet.
const OPEN_TREE_ATTR: i64 = 467;

pub(super) fn restrict(policy: &Policy, report: &Report) -> Step {
    let filters = compile(policy).or_else(|error| fault("seccomp", error.to_string()))?;
    for filter in &filters {
        apply_filter(filter).or_else(|error| fault("seccomp", error.to_string()))?;
    }
    let length: usize = filters.iter().map(Vec::len).sum();
    report.on("seccomp", &format!("{} filters, {length} instructions", filters.len()));
    Ok(())
}

/// In the order in which they are put on.
pub(super) fn compile(policy: &Policy) -> Result<[BpfProgram; 3], BackendError> {
    let allow = SeccompAction::Allow;
    let errno = |errno: i32| SeccompAction::Errno(errno as u32);
    let arch = std::env::consts::ARCH.try_into()?;
    let program = |rules, mismatch, matched| -> Result<BpfProgram, BackendError> {
        SeccompFilter::new(rules, mismatch, matched, arch)?.try_into()
    };
    let known =
        KNOWN.iter().chain(&FUTEX2).chain(&[FCHMODAT2]).chain(OLD).map(|call| (*call, Vec::new()));
    let traced = [libc::SYS_ptrace].into_iter().filter(|_| policy.shape.trace);
    let nested = [libc::SYS_unshare, libc::SYS_chroot].into_iter();
    let nested = nested.filter(|_| policy.shape.nested);
    let known = known.chain(traced.chain(nested).map(|call| (call, Vec::new())));
    Ok([
        program(known.collect(), errno(libc::ENOSYS), allow.clone())?,
        program(families()?, allow.clone(), errno(libc::EAFNOSUPPORT))?,
        program(refused(policy)?, allow, errno(libc::EPERM))?,
    ])
}

/// `argument op value`, in its low half where `int` arguments leave the other half undefined.
fn low(argument: u8, op: Op, value: i64) -> Result<Condition, BackendError> {
    Condition::new(argument, Dword, op, value as u32 as u64)
}

fn all(
    conditions: impl IntoIterator<Item = Result<Condition, BackendError>>,
) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions.into_iter().collect::<Result<_, _>>()?)
}

fn has(argument: u8, bits: i64) -> Result<Condition, BackendError> {
    low(argument, Op::MaskedEq(bits as u64), bits)
}

const SOCKET_FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

fn families() -> Result<Rules, BackendError> {
    let none = all(SOCKET_FAMILIES.map(|family| low(0, Op::Ne, family.into())))?;
    Ok(Rules::from([(libc::SYS_socket, vec![none.clone()]), (libc::SYS_socketpair, vec![none])]))
}

fn refused(policy: &Policy) -> Result<Rules, BackendError> {
    let mut rules: Rules =
        REFUSED.iter().chain(&[OPEN_TREE_ATTR]).map(|call| (*call, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    rules.extend([libc::SYS_iopl, libc::SYS_ioperm].map(|call| (call, Vec::new())));
    if !policy.shape.trace {
        rules.insert(libc::SYS_ptrace, Vec::new());
    }
    if !policy.shape.nested {
        rules.extend([libc::SYS_unshare, libc::SYS_chroot].map(|call| (call, Vec::new())));
        let each = SPACES.map(|flag| all([has(0, i64::from(flag))]));
        rules.insert(libc::SYS_clone, each.into_iter().collect::<Result<_, _>>()?);
    }
    // Typing into a terminal that somebody else reads.
    let typing = [libc::TIOCSTI as i64, libc::TIOCLINUX as i64];
    let typing = typing.map(|request| all([low(1, Op::Eq, request)]));
    rules.insert(libc::SYS_ioctl, typing.into_iter().collect::<Result<_, _>>()?);
    // Asking what it is is fine; address randomization stays on.
    let asking = [0, 0xffff_ffff].map(|persona| low(0, Op::Ne, persona));
    rules.insert(libc::SYS_personality, vec![all(asking)?]);
    special_modes(&mut rules)?;
    sockets(policy, &mut rules)?;
    if !policy.layers.namespaces {
        // Without a pid namespace other processes of this uid can be named.
        for (call, argument) in [
            (libc::SYS_prlimit64, 0),
            (libc::SYS_sched_setaffinity, 0),
            (libc::SYS_sched_setattr, 0),
            (libc::SYS_sched_setparam, 0),
            (libc::SYS_sched_setscheduler, 0),
            (libc::SYS_setpriority, 1),
            (libc::SYS_ioprio_set, 1),
        ] {
            rules.insert(call, vec![all([low(argument, Op::Ne, 0)])?]);
        }
    }
    Ok(rules)
}

/// No file with setuid or setgid is made, by any call that takes a mode.
fn special_modes(rules: &mut Rules) -> Result<(), BackendError> {
    let modes = [libc::S_ISUID, libc::S_ISGID].map(i64::from);
    let mut plain = vec![
        (libc::SYS_fchmod, 1),
        (libc::SYS_fchmodat, 2),
        (FCHMODAT2, 2),
        (libc::SYS_mknodat, 2),
    ];
    let mut opening = vec![(libc::SYS_openat, 2)];
    #[cfg(target_arch = "x86_64")]
    {
        plain.extend([(libc::SYS_chmod, 1), (libc::SYS_creat, 1), (libc::SYS_mknod, 1)]);
        opening.push((libc::SYS_open, 1));
    }
    for (call, argument) in plain {
        let each = modes.map(|mode| all([has(argument, mode)]));
        rules.insert(call, each.into_iter().collect::<Result<_, _>>()?);
    }
    // Where nothing is created the mode is whatever the register held.
    let temporary = i64::from(libc::O_TMPFILE & !libc::O_DIRECTORY);
    for (call, flags) in opening {
        let each = modes.map(|mode| {
            [i64::from(libc::O_CREAT), temporary]
                .map(|create| all([has(flags, create), has(flags + 1, mode)]))
        });
        let each = each.into_iter().flatten();
        rules.insert(call, each.collect::<Result<_, _>>()?);
    }
    Ok(())
}

/// Sockets past the kernel's rules for ports, which know TCP's plain connect and bind and nothing
/// else: Fast Open, MPTCP, other transports.
fn sockets(policy: &Policy, rules: &mut Rules) -> Result<(), BackendError> {
    const KIND: Op = Op::MaskedEq(0xf);
    let inet = [libc::AF_INET, libc::AF_INET6].map(i64::from);
    let mut socket = vec![all([low(0, Op::Eq, libc::AF_NETLINK.into()), low(2, Op::Ne, 0)])?];
    for family in inet {
        let of = || low(0, Op::Eq, family);
        socket.push(all([of(), low(1, KIND, libc::SOCK_RAW.into())])?);
        match &policy.network {
            // No namespace keeps the network away, so nothing of it is had.
            Network::None if !policy.layers.namespaces => socket.push(all([of()])?),
            Network::Ports { udp, .. } => {
                for kind in [3, 4, 5, 6, 10] {
                    socket.push(all([of(), low(1, KIND, kind)])?);
                }
                let plain = [0, libc::IPPROTO_TCP, libc::IPPROTO_UDP];
                let other = plain.map(|protocol| low(2, Op::Ne, protocol.into()));
                socket.push(all([of()].into_iter().chain(other))?);
                if !udp {
                    socket.push(all([of(), low(1, KIND, libc::SOCK_DGRAM.into())])?);
                }
            }
            _ => {}
        }
    }
    rules.insert(libc::SYS_socket, socket);
    if let Network::Ports { .. } = policy.network {
        for (call, flags) in
            [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)]
        {
            rules.insert(call, vec![all([has(flags, libc::MSG_FASTOPEN.into())])?]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::launcher::{Layers, Shape};

    #[test]
    fn the_filters_of_every_kind_of_policy_compile() {
        let ports = Network::Ports { tcp: vec![443], udp: true };
        for network in [Network::None, Network::Host, ports] {
            for layers in [Layers::ALL, Layers { namespaces: false, ..Layers::ALL }] {
                for nested in [false, true] {
                    let shape = Shape { nested, ..Shape::default() };
                    let policy =
                        Policy { network: network.clone(), layers, shape, ..Policy::default() };
                    let filters = compile(&policy).unwrap();
                    assert!(filters.iter().all(|filter| filter.len() < 4096));
                }
            }
        }
    }

    #[test]
    fn no_call_is_both_known_and_refused() {
        let both: Vec<_> = REFUSED.iter().filter(|call| KNOWN.contains(call)).collect();
        assert!(both.is_empty(), "{both:?}");
    }
}
