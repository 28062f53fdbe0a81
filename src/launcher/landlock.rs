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

pub(super) fn restrict(policy: &Policy, report: &Report) -> Step {
    let abi = abi();
    if policy.layers.landlock {
        if abi < 3 {
            return fault("landlock", format!("the kernel has version {abi} of it, 3 is needed"));
        }
        let ports = matches!(policy.network, Network::Ports { .. });
        if ports && abi < 4 {
            return fault("landlock", format!("the kernel has version {abi} of it, ports need 4"));
        }
        let known = match abi {
            3 => ABI::V3,
            4 => ABI::V4,
            _ => ABI::V5,
        };
        let count = enforce("landlock", files(policy, known))?;
        let ports = if ports { " and ports" } else { "" };
        report.on("landlock", &format!("version {abi}, {count} rules for files{ports}"));
    }
    if policy.layers.scopes {
        if abi < 6 {
            return fault(
                "scopes",
                format!("the kernel has version {abi} of landlock, 6 is needed"),
            );
        }
        let scopes = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .scope(Scope::from_all(ABI::V6))
            .and_then(Ruleset::create);
        enforce("scopes", scopes.map(|ruleset| (ruleset, 0)))?;
        report.on("scopes", "no signal and no abstract socket leads out");
    }
    Ok(())
}

fn enforce(
    step: &'static str,
    ruleset: Result<(RulesetCreated, usize), RulesetError>,
) -> Step<usize> {
    let outcome = ruleset.and_then(|(ruleset, count)| Ok((ruleset.restrict_self()?, count)));
    match outcome {
        Ok((RestrictionStatus { ruleset: RulesetStatus::FullyEnforced, .. }, count)) => Ok(count),
        Ok((status, _)) => fault(step, format!("came out as {:?}", status.ruleset)),
        Err(error) => fault(step, error.to_string()),
    }
}

fn files(policy: &Policy, abi: ABI) -> Result<(RulesetCreated, usize), RulesetError> {
    let all = AccessFs::from_all(abi);
    let read = AccessFs::from_read(abi);
    let mut ruleset =
        Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(all)?;
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
    // The kernel guards what in it is not ours; a process may set its own name there.
    rules.push((Path::new("/proc"), touch));
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
