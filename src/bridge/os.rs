//! What the bridge asks of the system. It knows nothing of messages.

use std::{
    ffi::{CString, OsStr},
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::AsFd,
        unix::{ffi::OsStrExt, net::UnixStream},
    },
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::{Gid, Group, Uid, User, execvp},
};

pub fn uid() -> u32 {
    Uid::effective().as_raw()
}

/// Who listens at the other end: of a listening socket the kernel keeps who called `listen`.
#[cfg(target_os = "linux")]
pub fn listener_uid(stream: &UnixStream) -> io::Result<u32> {
    use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
    Ok(getsockopt(stream, PeerCredentials)?.uid())
}

#[cfg(not(target_os = "linux"))]
pub fn listener_uid(stream: &UnixStream) -> io::Result<u32> {
    let (uid, _) = nix::unistd::getpeereid(stream)?;
    Ok(uid.as_raw())
}

/// The name of a user, for what an administrator is told to type.
pub fn user_name(uid: u32) -> Option<String> {
    Some(User::from_uid(Uid::from_raw(uid)).ok()??.name)
}

pub fn group_name(gid: u32) -> Option<String> {
    Some(Group::from_gid(Gid::from_raw(gid)).ok()??.name)
}

/// Becomes another program. Returns only if it cannot.
pub fn become_program(program: &OsStr, args: &[&OsStr]) -> io::Error {
    let words = std::iter::once(program).chain(args.iter().copied());
    let words: Result<Vec<CString>, _> = words.map(|word| CString::new(word.as_bytes())).collect();
    let Ok(words) = words else { return io::ErrorKind::InvalidInput.into() };
    match execvp(&words[0], &words) {
        Ok(never) => match never {},
        Err(error) => error.into(),
    }
}

/// A file that may be set to fail rather than wait, as whoever gave it to us liked. We wait.
pub struct Patient(pub File);

impl Patient {
    fn until(&self, events: PollFlags) {
        // If it fails, the next try tells.
        let _ = poll(&mut [PollFd::new(self.0.as_fd(), events)], PollTimeout::NONE);
    }
}

impl Read for Patient {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.until(PollFlags::POLLIN)
                }
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
                    self.until(PollFlags::POLLOUT)
                }
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
