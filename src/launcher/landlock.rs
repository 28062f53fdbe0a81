//! The second lock on files, and the only one on ports: Landlock's rules and scopes.
//!
//! Put on after the private root (it forbids mounts), and compared with what was asked for: in its
//! lenient mode the library says yes even where the kernel has no Landlock.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath,
    PathFd, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr,
    RulesetError, RulesetStatus, Scope,
};
use nix::libc;

use super::{Network, Policy, Report, Step, fault};

/// What of /etc can be read: names, certificates, the loader's cache. Never /etc whole.
pub(super) const ETC: [&str; 26] = [
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/ca-certificates.conf",
    "/etc/crypto-policies",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/locale.alias",
    "/etc/mime.types",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/etc/passwd",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/etc/protocols",
    "/etc/resolv.conf",
    "/etc/services",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/timezone",
];
pub(super) const SYSTEM: [&str; 8] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/libexec"];
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// The version that the running kernel has; 0 is none.
pub fn abi() -> i64 {
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
    if layers.landlock && abi < if ports { 4 } else { 3 } {
        let least = if ports { 4 } else { 3 };
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
    let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    if policy.layers.scopes {
        ruleset = ruleset.scope(Scope::from_all(ABI::V6))?;
    }
    if !policy.layers.landlock {
        let mut ruleset = ruleset.handle_access(AccessFs::Refer)?.create()?;
        if let Ok(root) = PathFd::new("/") {
            ruleset = ruleset.add_rule(PathBeneath::new(root, AccessFs::Refer))?;
        }
        return Ok((ruleset.restrict_self()?, 0));
    }
    let (ruleset, count) = files(policy, abi, ruleset)?;
    Ok((ruleset.restrict_self()?, count))
}

fn files(
    policy: &Policy,
    abi: ABI,
    ruleset: Ruleset,
) -> Result<(RulesetCreated, usize), RulesetError> {
    let all = AccessFs::from_all(abi);
    let read = AccessFs::from_read(abi);
    let mut ruleset = ruleset.handle_access(all)?;
    if let Network::Ports { .. } = policy.network {
        ruleset = ruleset.handle_access(AccessNet::from_all(ABI::V4))?;
    }
    let mut ruleset = ruleset.create()?;
    if let Network::Ports { tcp, .. } = &policy.network {
        for port in tcp {
            ruleset = ruleset.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
        }
    }
    let mut rules: Vec<(&Path, BitFlags<AccessFs>)> = Vec::new();
    rules.extend(SYSTEM.iter().chain(&ETC).map(|path| (Path::new(path), read)));
    if policy.shape.fonts {
        rules.extend(["/etc/fonts", "/var/cache/fontconfig"].map(|path| (Path::new(path), read)));
    }
    rules.extend(policy.read.iter().map(|path| (path.as_path(), read)));
    let private = ["/tmp", "/dev/shm"].iter().filter(|_| policy.layers.namespaces);
    rules.extend(private.map(|path| (Path::new(path), all)));
    rules.extend(policy.write.iter().chain(&policy.home).map(|path| (path.as_path(), all)));
    if policy.layers.namespaces {
        // What is there at all may be listed.
        rules.push((Path::new("/"), AccessFs::ReadDir.into()));
    }
    // `> /dev/null` truncates.
    let touch = read | AccessFs::WriteFile | AccessFs::Truncate;
    rules.extend(DEVICES.map(|path| (Path::new(path), touch)));
    // A browser writes the maps of its own user namespaces.
    rules.push((Path::new("/proc"), if policy.shape.nested { touch } else { read }));
    let mut count = 0;
    for (path, access) in rules {
        // What is not there needs no rule, and the lists name more than any one system has.
        let (Ok(fd), Ok(meta)) = (PathFd::new(path), path.metadata()) else { continue };
        let access = if meta.is_dir() { access } else { access & AccessFs::from_file(abi) };
        ruleset = ruleset.add_rule(PathBeneath::new(fd, access))?;
        count += 1;
    }
    Ok((ruleset, count))
}
