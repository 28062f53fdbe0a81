//! The second lock on files, and the only one on ports: Landlock's rules and scopes.
//!
//! Put on after the private root (it forbids mounts), and compared with what was asked for: in its
//! lenient mode the library says yes even where the kernel has no Landlock.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath,
    PathFd, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope,
};
use nix::libc;

use super::{Network, Policy, Report, Step, fault};

const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// The version that the running kernel has; 0 is none.
fn abi() -> i64 {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the call takes no attributes and returns a number.
    let abi = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION)
    };
    abi.max(0)
}

/// One ruleset for both: one without rules for files would forbid every rename and link from one
/// directory to another, as any does that does not speak of them.
pub(super) fn restrict(policy: &Policy, report: &Report) -> Step {
    let (abi, layers) = (abi(), policy.layers);
    let ports = matches!(policy.network, Network::Ports { .. });
    let least = if ports { 4 } else { 3 };
    if layers.landlock && abi < least {
        return fault("landlock", format!("the kernel has version {abi} of it, {least} is needed"));
    }
    if layers.scopes && abi < 6 {
        return fault("scopes", format!("the kernel has version {abi} of landlock, 6 is needed"));
    }
    if !layers.landlock && !layers.scopes {
        return Ok(());
    }
    let known = match abi {
        3 => ABI::V3,
        4 => ABI::V4,
        _ => ABI::V5,
    };
    let step = if layers.landlock { "landlock" } else { "scopes" };
    let (status, count) = enforce(policy, known).or_else(|error| fault(step, error.to_string()))?;
    if status.ruleset != RulesetStatus::FullyEnforced {
        return fault(step, format!("came out as {:?}", status.ruleset));
    }
    if layers.landlock {
        let ports = if ports { " and ports" } else { "" };
        report.on("landlock", &format!("version {abi}, {count} rules for files{ports}"));
    }
    if layers.scopes {
        report.on("scopes", "no signal and no abstract socket leads out");
    }
    Ok(())
}

fn enforce(policy: &Policy, abi: ABI) -> Result<(RestrictionStatus, usize), RulesetError> {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    let mut ruleset = ruleset.handle_access(AccessFs::from_all(abi))?;
    if policy.layers.scopes {
        ruleset = ruleset.scope(Scope::from_all(ABI::V6))?;
    }
    let ports = match &policy.network {
        Network::Ports { tcp, .. } if policy.layers.landlock => {
            ruleset = ruleset.handle_access(AccessNet::from_all(ABI::V4))?;
            tcp.as_slice()
        }
        _ => &[],
    };
    let mut ruleset = ruleset.create()?;
    for port in ports {
        ruleset = ruleset.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    let mut count = 0;
    for (path, access) in files(policy, abi) {
        // What is not there needs no rule, and the lists name more than any one system has.
        let (Ok(fd), Ok(meta)) = (PathFd::new(path), path.metadata()) else { continue };
        let access = if meta.is_dir() { access } else { access & AccessFs::from_file(abi) };
        ruleset = ruleset.add_rule(PathBeneath::new(fd, access))?;
        count += 1;
    }
    Ok((ruleset.restrict_self()?, count))
}

/// What may be done where.
fn files(policy: &Policy, abi: ABI) -> Vec<(&Path, BitFlags<AccessFs>)> {
    let (all, read) = (AccessFs::from_all(abi), AccessFs::from_read(abi));
    let (root, proc) = (Path::new("/"), Path::new("/proc"));
    if !policy.layers.landlock {
        return vec![(root, all)];
    }
    // `> /dev/null` truncates.
    let touch = read | AccessFs::WriteFile | AccessFs::Truncate;
    let readable = policy.common().into_iter().chain(policy.read.iter().map(PathBuf::as_path));
    let mut rules: Vec<_> = readable.map(|path| (path, read)).collect();
    rules.extend(policy.write.iter().chain(&policy.home).map(|path| (path.as_path(), all)));
    rules.extend(DEVICES.map(|path| (Path::new(path), touch)));
    // A browser writes the maps of its own user namespaces.
    rules.push((proc, if policy.shape.nested { touch } else { read }));
    if policy.layers.namespaces {
        rules.extend(["/tmp", "/dev/shm"].map(|path| (Path::new(path), all)));
        // What is there at all may be listed.
        rules.push((root, AccessFs::ReadDir.into()));
    }
    rules
}
