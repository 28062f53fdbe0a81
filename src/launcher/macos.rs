//! The sandbox of macOS: a `sandbox-exec` profile from the same policy, and a monitor by kqueue.
//!
//! Weaker than the one of Linux, and said to be: no namespaces, so other processes are seen, and one
//! that leaves the process group twice over is not found again; no limit on all processes
//! together; ports are not told apart. Compiled and linked, not run.

use std::{convert::Infallible, ffi::CString, fmt::Write, path::Path};

use nix::{
    sys::{
        event::{EvFlags, EventFilter, FilterFlag, KEvent, Kqueue},
        signal::{Signal, kill, killpg, raise},
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, Gid, Uid, fork, setsid},
};

use super::{At, LIFELINE_FD, Network, Policy, REPORT_FD, Report, Step, fault, steps};

const SANDBOX_EXEC: &std::ffi::CStr = c"/usr/bin/sandbox-exec";

/// What every program needs to begin at all; the rest is denied by default.
const BASE: &str = "(version 1)
(deny default)
(allow process-fork)
(allow process-exec)
(allow process-info* (target same-sandbox))
(allow signal (target same-sandbox))
(allow sysctl-read)
(allow mach-lookup (global-name \"com.apple.system.opendirectoryd.libinfo\")
  (global-name \"com.apple.system.notification_center\") (global-name \"com.apple.trustd.agent\")
  (global-name \"com.apple.SecurityServer\"))
(allow ipc-posix-sem)
(allow file-read-metadata)
(allow file-read* (literal \"/\") (subpath \"/usr\") (subpath \"/bin\") (subpath \"/sbin\")
  (subpath \"/System\") (subpath \"/Library\") (subpath \"/opt/homebrew\")
  (subpath \"/private/etc/ssl\") (literal \"/private/etc/hosts\")
  (literal \"/private/etc/resolv.conf\") (literal \"/private/etc/passwd\")
  (subpath \"/private/var/db/timezone\") (subpath \"/dev/fd\") (literal \"/dev/random\")
  (literal \"/dev/urandom\"))
(allow file-read* file-write-data (literal \"/dev/null\") (literal \"/dev/zero\"))
";

pub(super) fn run(policy: &Policy, report: &Report) -> Step<Infallible> {
    if let Some(ids) = &policy.ids {
        become_user(ids.uid, ids.gid)?;
    }
    let queue = Kqueue::new().at("monitor", "kqueue")?;
    // SAFETY: this process has one thread, so the child may do whatever the parent may.
    let main = match unsafe { fork() }.at("monitor", "fork")? {
        ForkResult::Child => return program(policy, report),
        ForkResult::Parent { child } => child,
    };
    for fd in [0, 1, 2, REPORT_FD] {
        // SAFETY: they are the program's; no owner of them is left in this process.
        unsafe { nix::libc::close(fd) };
    }
    let event =
        |ident: usize, filter, fflags| KEvent::new(ident, filter, EvFlags::EV_ADD, fflags, 0, 0);
    let none = FilterFlag::empty();
    let pid = usize::try_from(main.as_raw()).unwrap_or_default();
    let wanted = [
        event(pid, EventFilter::EVFILT_PROC, FilterFlag::NOTE_EXIT),
        event(LIFELINE_FD as usize, EventFilter::EVFILT_READ, none),
        event(Signal::SIGTERM as usize, EventFilter::EVFILT_SIGNAL, none),
    ];
    // SAFETY: ignoring a signal needs no handler; the queue sees it all the same.
    unsafe { nix::libc::signal(nix::libc::SIGTERM, nix::libc::SIG_IGN) };
    let mut happened = [wanted[0]];
    let mut changes = &wanted[..];
    loop {
        let count = queue.kevent(changes, &mut happened, None).unwrap_or(0);
        changes = &[];
        if count == 0 {
            // It has ended before we could watch it, or the wait was interrupted.
            if nix::sys::signal::kill(main, None).is_ok() {
                continue;
            }
        } else if happened[0].filter() == Ok(EventFilter::EVFILT_SIGNAL) {
            if killpg(main, Signal::SIGTERM).is_err() {
                let _ = kill(main, Signal::SIGTERM);
            }
            continue;
        }
        let _ = killpg(main, Signal::SIGKILL);
        let _ = kill(main, Signal::SIGKILL);
        match waitpid(main, None) {
            Ok(WaitStatus::Exited(_, code)) => std::process::exit(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                // SAFETY: back to what ends a process.
                unsafe { nix::libc::signal(signal as i32, nix::libc::SIG_DFL) };
                let _ = raise(signal);
                std::process::exit(128 + signal as i32)
            }
            _ => std::process::exit(1),
        }
    }
}

fn become_user(uid: u32, gid: u32) -> Step {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    if uid.is_root() {
        return fault("ids", "a backend does not become root");
    }
    // SAFETY: no groups are read where their number is 0.
    let outcome = unsafe { nix::libc::setgroups(0, std::ptr::null()) };
    nix::errno::Errno::result(outcome).at("ids", "setgroups")?;
    nix::unistd::setgid(gid).at("ids", format!("gid {gid}"))?;
    nix::unistd::setuid(uid).at("ids", format!("uid {uid}"))?;
    if nix::unistd::setuid(Uid::from_raw(0)).is_ok() {
        return fault("ids", "could become root again");
    }
    Ok(())
}

fn program(policy: &Policy, report: &Report) -> Step<Infallible> {
    setsid().at("session", "of the program")?;
    let home = policy.home.as_deref().unwrap_or(Path::new("/tmp"));
    if !policy.cwd.as_deref().is_some_and(|cwd| nix::unistd::chdir(cwd).is_ok()) {
        nix::unistd::chdir(home).at("directory", home.display().to_string())?;
    }
    let (mut path, mut args, env) = steps::command(policy)?;
    if policy.layers.seccomp || policy.layers.landlock {
        let own = args.split_off(1.min(args.len()));
        let profile = profile(policy);
        report.on("sandbox-exec", &format!("{} lines", profile.lines().count()));
        let profile = CString::new(profile).map_err(std::io::Error::from).at("execve", "a NUL")?;
        args = vec![SANDBOX_EXEC.into(), c"-p".into(), profile, path];
        args.extend(own);
        path = SANDBOX_EXEC.into();
    }
    report.exec();
    nix::unistd::execve(&path, &args, &env).at("execve", policy.program.display().to_string())
}

/// The profile's text. A path is written as a string of it, with nothing in it that ends one.
fn profile(policy: &Policy) -> String {
    let mut out = BASE.to_owned();
    let mut rule = |what: &str, paths: &[std::path::PathBuf]| {
        for path in paths {
            let _ = writeln!(out, "(allow {what} (subpath {}))", quoted(path));
        }
    };
    rule("file-read*", &policy.read);
    rule("file-read* file-write*", &policy.write);
    rule("file-read* file-write*", policy.home.as_slice());
    out.push_str(match &policy.network {
        Network::None => "",
        // Profiles know remote ports by number, and names need the resolver's socket.
        Network::Ports { .. } | Network::Host => {
            "(allow network-outbound)\n(allow system-socket)\n\
             (allow mach-lookup (global-name \"com.apple.dnssd.service\"))\n"
        }
    });
    out
}

fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
