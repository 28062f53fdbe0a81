//! The bridge's few calls of the C library. It knows nothing of messages.

use std::{
    ffi::{CStr, CString, OsStr},
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, net::UnixStream},
    },
};

/// Where `byte` is first.
pub fn find(byte: u8, text: &[u8]) -> Option<usize> {
    // SAFETY: the pointer and the length are those of one live slice.
    let found = unsafe { libc::memchr(text.as_ptr().cast(), i32::from(byte), text.len()) };
    (!found.is_null()).then(|| found as usize - text.as_ptr() as usize)
}

pub fn uid() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// Who listens at the other end: of a listening socket the kernel keeps who called `listen`.
#[cfg(target_os = "linux")]
pub fn listener_uid(stream: &UnixStream) -> io::Result<u32> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut size = libc::socklen_t::try_from(size_of_val(&peer)).unwrap_or_default();
    // SAFETY: `peer` is as large as `size` says, and both outlive the call.
    let status = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut size,
        )
    };
    if status == 0 { Ok(peer.uid) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(target_os = "linux"))]
pub fn listener_uid(stream: &UnixStream) -> io::Result<u32> {
    let (mut uid, mut gid) = (u32::MAX, u32::MAX);
    // SAFETY: both places outlive the call.
    let status = unsafe { libc::getpeereid(stream.as_raw_fd(), &raw mut uid, &raw mut gid) };
    if status == 0 { Ok(uid) } else { Err(io::Error::last_os_error()) }
}

/// The name of a user, for what an administrator is told to type.
pub fn user_name(uid: u32) -> Option<String> {
    // SAFETY: called before there is a second thread, and what it points to is copied at once.
    unsafe {
        let entry = libc::getpwuid(uid).as_ref()?;
        Some(CStr::from_ptr(entry.pw_name).to_string_lossy().into_owned())
    }
}

pub fn group_name(gid: u32) -> Option<String> {
    // SAFETY: as with `user_name`.
    unsafe {
        let entry = libc::getgrgid(gid).as_ref()?;
        Some(CStr::from_ptr(entry.gr_name).to_string_lossy().into_owned())
    }
}

/// Becomes another program. Returns only if it cannot.
pub fn become_program(program: &OsStr, args: &[&OsStr]) -> io::Error {
    let words = std::iter::once(program).chain(args.iter().copied());
    let words: Result<Vec<CString>, _> = words.map(|word| CString::new(word.as_bytes())).collect();
    let Ok(words) = words else { return io::ErrorKind::InvalidInput.into() };
    let mut pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
    pointers.push(std::ptr::null());
    // SAFETY: SIGPIPE is given back its default, which Rust's start took from it.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    // SAFETY: `pointers` ends with a null, and every other points into `words`, which live.
    unsafe { libc::execvp(pointers[0], pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// A file that may be set to fail rather than wait, as whoever gave it to us liked. We wait.
pub struct Patient(pub File);

impl Patient {
    fn until(&self, events: i16) {
        let mut one = libc::pollfd { fd: self.0.as_raw_fd(), events, revents: 0 };
        // SAFETY: one descriptor, which outlives the call.
        unsafe { libc::poll(&raw mut one, 1, -1) };
    }
}

impl Read for Patient {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.until(libc::POLLIN),
                done => return done,
            }
        }
    }
}

impl Write for Patient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.until(libc::POLLOUT)
                }
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
