//! Open descriptors, and who inherits them.

use nix::libc;

/// Keeps what our own parent left open to ourselves: no child gets it. Our own descriptors are
/// never inherited anyway.
pub fn keep_from_children() {
    let Ok(open) = std::fs::read_dir("/dev/fd") else { return };
    let open: Vec<i32> =
        open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|fd| *fd > 2) {
        // SAFETY: only sets a flag, which closes nothing for us; a descriptor that is closed by
        // now (the folder's own) is refused with EBADF.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}
