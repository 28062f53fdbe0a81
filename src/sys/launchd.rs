//! The sockets that launchd holds for a job. Compiled, not run, where this is written.

use std::{
    ffi::{CString, c_char, c_int},
    io,
    os::fd::{FromRawFd, OwnedFd},
    slice,
};

use nix::libc;

unsafe extern "C" {
    fn launch_activate_socket(
        name: *const c_char,
        fds: *mut *mut c_int,
        count: *mut libc::size_t,
    ) -> c_int;
}

/// The listening sockets under this key of the job's `Sockets`: none if we are no job of
/// launchd's, or if the job has no such key. Each key can be asked for once.
pub fn activate(name: &str) -> io::Result<Vec<OwnedFd>> {
    let name = CString::new(name)?;
    let mut fds: *mut c_int = std::ptr::null_mut();
    let mut count: libc::size_t = 0;
    // SAFETY: `name` is a C string that outlives the call, and the other two point to variables
    // of the types that launchd writes: an array that it has allocated, and its length.
    let error = unsafe { launch_activate_socket(name.as_ptr(), &raw mut fds, &raw mut count) };
    match error {
        0 => {}
        libc::ENOENT | libc::ESRCH => return Ok(Vec::new()),
        error => return Err(io::Error::from_raw_os_error(error)),
    }
    if fds.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: on success `fds` is an array of `count` descriptors, which nobody else reads.
    let sockets = unsafe { slice::from_raw_parts(fds, count) }
        .iter()
        // SAFETY: each is open, and launchd has given it to us alone.
        .map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) })
        .collect();
    // SAFETY: launchd says that the caller frees the array, which was allocated with malloc.
    unsafe { libc::free(fds.cast()) };
    Ok(sockets)
}
