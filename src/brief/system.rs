//! What of the machine every backend may read: the system's programs, and what they need of /etc.
//!
//! Names only; more than any one system has.

use std::path::Path;

use super::Policy;

/// What of /etc can be read: names, certificates, the loader's cache. Never /etc whole.
const ETC: [&str; 26] = [
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
/// Where the system keeps its programs.
pub const SYSTEM: [&str; 8] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/libexec"];
const FONTS: [&str; 2] = ["/etc/fonts", "/var/cache/fontconfig"];

impl Policy {
    /// Every path that can be read if it is there, beside those that are given.
    pub fn common(&self) -> Vec<&Path> {
        let fonts = FONTS.iter().filter(|_| self.shape.fonts);
        SYSTEM.iter().chain(&ETC).chain(fonts).map(Path::new).collect()
    }
}
