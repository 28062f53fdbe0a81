//! Open descriptors, and who inherits them.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
};

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

/// Whether a socket is one that others connect to.
pub fn listens(socket: &impl AsFd) -> io::Result<bool> {
    use nix::sys::socket::{getsockopt, sockopt};
    Ok(getsockopt(&socket.as_fd(), sockopt::AcceptConn)?)
}

/// How many bytes that were written to a pipe nobody has read yet.
pub fn unread(pipe: &impl AsFd) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, and `bytes` is one that outlives the call.
    let done = unsafe { libc::ioctl(pipe.as_fd().as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    usize::try_from(bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_writer_sees_what_has_been_read() {
        let (mut reader, mut writer) = io::pipe().unwrap();
        assert_eq!(unread(&writer).unwrap(), 0);
        writer.write_all(b"12345").unwrap();
        assert_eq!(unread(&writer).unwrap(), 5);
        reader.read_exact(&mut [0; 3]).unwrap();
        assert_eq!(unread(&writer).unwrap(), 2);
        drop(reader);
        assert_eq!(unread(&writer).unwrap(), 2, "also when nobody is there to read");
    }
}
