//! Who this process runs as.

pub fn uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}
