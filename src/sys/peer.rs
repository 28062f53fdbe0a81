//! Sockets as the kernel sees them: who is at the other end, and a listener only we can reach.
//!
//! A Unix socket names its peer. A TCP connection names nobody, but on loopback the peer's own
//! socket is on this machine, and sock_diag tells whose it is. No policy here: what a uid may do
//! is decided elsewhere, and what cannot be found out is an error or `None`, never a guess.

use std::{
    io,
    net::SocketAddr,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixListener,
    },
    path::Path,
};

/// The process at the other end of a Unix socket, as it was when it connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub uid: u32,
    pub gid: u32,
    pub pid: Option<i32>,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// The uid we act as.
pub fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// Who is at the other end of a connected Unix socket.
#[cfg(target_os = "linux")]
pub fn unix(stream: &impl AsFd) -> io::Result<Peer> {
    use nix::sys::socket::{getsockopt, sockopt};
    let peer = getsockopt(stream, sockopt::PeerCredentials)?;
    // A peer in a pid namespace that we cannot see has pid 0.
    let pid = Some(peer.pid()).filter(|pid| *pid > 0);
    Ok(Peer { uid: peer.uid(), gid: peer.gid(), pid, groups: linux::groups(stream)? })
}

/// Who is at the other end of a connected Unix socket.
#[cfg(target_os = "macos")]
pub fn unix(stream: &impl AsFd) -> io::Result<Peer> {
    macos::peer(stream)
}

/// The uid that owns the socket at `peer` of a connection to our `local` end, both on this
/// machine. `None`: not found, or no longer held by a process.
#[cfg(target_os = "linux")]
pub fn tcp_owner(local: SocketAddr, peer: SocketAddr) -> io::Result<Option<u32>> {
    linux::owner(local, peer)
}

/// The uid that owns the socket at `peer`: cannot be found out here.
#[cfg(not(target_os = "linux"))]
pub fn tcp_owner(_local: SocketAddr, _peer: SocketAddr) -> io::Result<Option<u32>> {
    Ok(None)
}

/// True for a socket file that belongs to us.
pub fn is_own_socket(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    metadata.file_type().is_socket() && metadata.uid() == own_uid()
}

/// Whether a process listens at `path`. A full backlog counts as yes.
pub fn unix_listens(path: &Path) -> io::Result<bool> {
    use nix::{errno::Errno, sys::socket};
    // Non-blocking, since a listener that does not accept would hold us up.
    let socket = stream_socket()?;
    let outcome = nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_GETFL)
        .map(|flags| nix::fcntl::OFlag::from_bits_retain(flags) | nix::fcntl::OFlag::O_NONBLOCK)
        .and_then(|flags| nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_SETFL(flags)))
        .and_then(|_| {
            let address = socket::UnixAddr::new(path)?;
            socket::connect(socket.as_raw_fd(), &address)
        });
    match outcome {
        Ok(()) | Err(Errno::EAGAIN | Errno::EINPROGRESS) => Ok(true),
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A listener whose socket file only we can connect to (mode 0600), from its first moment on.
pub fn listen_unix(path: &Path) -> io::Result<UnixListener> {
    use nix::sys::{
        socket::{self, Backlog, UnixAddr},
        stat::Mode,
    };
    let socket = stream_socket()?;
    let private = Mode::S_IRUSR | Mode::S_IWUSR;
    // Linux gives the new file the mode of the unbound socket, minus the umask, so there is no
    // moment at which others can connect; the umask of a threaded process is not ours to change.
    #[cfg(target_os = "linux")]
    nix::sys::stat::fchmod(&socket, private)?;
    let address = UnixAddr::new(path)?;
    socket::bind(socket.as_raw_fd(), &address)?;
    // Elsewhere the file is bound first; nobody can connect before listen().
    nix::sys::stat::fchmodat(
        nix::fcntl::AT_FDCWD,
        path,
        private,
        nix::sys::stat::FchmodatFlags::FollowSymlink,
    )?;
    socket::listen(&socket, Backlog::new(1024).unwrap_or(Backlog::MAXCONN))?;
    let listener = UnixListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn stream_socket() -> io::Result<OwnedFd> {
    // std has no unbound Unix stream socket; a descriptor that a child inherits would keep the
    // listener alive, so it is closed on exec from the start where the system can do that.
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    #[cfg(target_os = "linux")]
    let flags = SockFlag::SOCK_CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    let flags = SockFlag::empty();
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    #[cfg(not(target_os = "linux"))]
    nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    Ok(socket)
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        io,
        net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
        os::fd::{AsFd, AsRawFd},
    };

    use nix::{
        errno::Errno,
        libc,
        sys::socket::{
            AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
        },
    };

    /// SO_PEERGROUPS, which nix does not have.
    pub(super) fn groups(stream: &impl AsFd) -> io::Result<Vec<u32>> {
        let mut groups: Vec<libc::gid_t> = vec![0; 32];
        // Twice at most: the first answer, if too long, says how long it is.
        for _ in 0..2 {
            let mut len = libc::socklen_t::try_from(size_of_val(groups.as_slice()))
                .map_err(io::Error::other)?;
            // SAFETY: the descriptor is borrowed and so open; `groups` is writable for `len`
            // bytes, any bytes are valid gid_t, and the kernel writes at most `len` of them.
            let outcome = unsafe {
                libc::getsockopt(
                    stream.as_fd().as_raw_fd(),
                    libc::SOL_SOCKET,
                    libc::SO_PEERGROUPS,
                    groups.as_mut_ptr().cast(),
                    &raw mut len,
                )
            };
            let count = len as usize / size_of::<libc::gid_t>();
            match Errno::result(outcome) {
                Ok(_) => {
                    groups.truncate(count);
                    return Ok(groups);
                }
                Err(Errno::ERANGE) => groups.resize(count, 0),
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::ERANGE.into())
    }

    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST: u16 = 1;
    const NLMSG_ERROR: u16 = 2;
    const HEADER: usize = 16;
    const SEQUENCE: u32 = 1;
    const TCP_ESTABLISHED: u8 = 1;

    /// One exact lookup: no dump, so the cost does not grow with the number of sockets.
    pub(super) fn owner(local: SocketAddr, peer: SocketAddr) -> io::Result<Option<u32>> {
        let netlink = socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkSockDiag,
        )?;
        // The socket we ask for is the peer's: its source is our peer, its destination is us.
        let (source, target) = (canonical(peer), canonical(local));
        send(netlink.as_raw_fd(), &request(source, target), MsgFlags::empty())?;
        // The kernel has put the answer into our queue before send() returned.
        let mut answer = [0; 4096];
        let len = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        read(&answer[..len], source, target)
    }

    /// A dual-stack listener sees IPv4 peers as mapped addresses; the kernel looks both up alike.
    fn canonical(address: SocketAddr) -> (IpAddr, u16) {
        (address.ip().to_canonical(), address.port())
    }

    /// `nlmsghdr` + `inet_diag_req_v2`.
    fn request(source: (IpAddr, u16), target: (IpAddr, u16)) -> Vec<u8> {
        let family = match source.0 {
            IpAddr::V4(_) => libc::AF_INET,
            IpAddr::V6(_) => libc::AF_INET6,
        };
        let mut out = Vec::with_capacity(72);
        out.extend_from_slice(&72_u32.to_ne_bytes());
        out.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        out.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
        out.extend_from_slice(&SEQUENCE.to_ne_bytes());
        out.extend_from_slice(&0_u32.to_ne_bytes());
        out.extend_from_slice(&[family as u8, libc::IPPROTO_TCP as u8, 0, 0]);
        out.extend_from_slice(&u32::MAX.to_ne_bytes()); // any state; checked in the answer
        out.extend_from_slice(&source.1.to_be_bytes());
        out.extend_from_slice(&target.1.to_be_bytes());
        for address in [source.0, target.0] {
            let mut field = [0; 16];
            match address {
                IpAddr::V4(v4) => field[..4].copy_from_slice(&v4.octets()),
                IpAddr::V6(v6) => field = v6.octets(),
            }
            out.extend_from_slice(&field);
        }
        out.extend_from_slice(&0_u32.to_ne_bytes()); // any interface
        out.extend_from_slice(&[0xff; 8]); // INET_DIAG_NOCOOKIE
        out
    }

    /// `nlmsghdr` + `inet_diag_msg`, or an error message. Anything unexpected is "not found".
    fn read(
        answer: &[u8],
        source: (IpAddr, u16),
        target: (IpAddr, u16),
    ) -> io::Result<Option<u32>> {
        let u16_at = |at| answer.get(at..at + 2).and_then(|b| b.try_into().ok());
        let u32_at = |at| answer.get(at..at + 4).and_then(|b| b.try_into().ok());
        let kind = u16_at(4).map(u16::from_ne_bytes);
        if kind == Some(NLMSG_ERROR) {
            return match u32_at(HEADER).map(i32::from_ne_bytes) {
                Some(code) if code == -libc::ENOENT => Ok(None),
                Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                None => Ok(None),
            };
        }
        if kind != Some(SOCK_DIAG_BY_FAMILY) || u32_at(8).map(u32::from_ne_bytes) != Some(SEQUENCE)
        {
            return Ok(None);
        }
        let body = HEADER;
        let family = answer.get(body).copied().map(i32::from);
        let address = |at: usize| {
            let bytes: [u8; 16] = answer.get(at..at + 16)?.try_into().ok()?;
            match family? {
                libc::AF_INET => Some(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into()),
                libc::AF_INET6 => Some(IpAddr::from(Ipv6Addr::from(bytes)).to_canonical()),
                _ => None,
            }
        };
        let end = |port, at| Some((address(at)?, u16_at(port).map(u16::from_be_bytes)?));
        // Where no connection matches, the kernel offers a listener on the same port.
        if end(body + 4, body + 8) != Some(source) || end(body + 6, body + 24) != Some(target) {
            return Ok(None);
        }
        // A socket that its process has closed lives on with uid 0 and no inode: its owner is
        // unknown, not root.
        let state = answer.get(body + 1).copied();
        let inode = u32_at(body + 68).map(u32::from_ne_bytes);
        if state != Some(TCP_ESTABLISHED) || inode.is_none_or(|inode| inode == 0) {
            return Ok(None);
        }
        Ok(u32_at(body + 64).map(u32::from_ne_bytes))
    }
}

#[cfg(target_os = "macos")]
mod macos {
    use std::{
        io,
        mem::MaybeUninit,
        os::fd::{AsFd, AsRawFd},
    };

    use nix::{
        errno::Errno,
        libc,
        sys::socket::{getsockopt, sockopt},
    };

    use super::Peer;

    /// LOCAL_PEERCRED. nix's reading of it does not tell how many of the groups are meant, and
    /// the rest would read as group 0.
    pub(super) fn peer(stream: &impl AsFd) -> io::Result<Peer> {
        let mut cred = MaybeUninit::<libc::xucred>::zeroed();
        let mut len =
            libc::socklen_t::try_from(size_of::<libc::xucred>()).map_err(io::Error::other)?;
        // SAFETY: the descriptor is borrowed and so open; `cred` is writable for `len` bytes, and
        // the kernel writes at most `len` of them.
        let outcome = unsafe {
            libc::getsockopt(
                stream.as_fd().as_raw_fd(),
                libc::SOL_LOCAL,
                libc::LOCAL_PEERCRED,
                cred.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        Errno::result(outcome)?;
        // SAFETY: all fields are integers, for which zero is a value, so it was valid before the
        // kernel wrote to it and is so after.
        let cred = unsafe { cred.assume_init() };
        if len as usize != size_of::<libc::xucred>() || cred.cr_version != libc::XUCRED_VERSION {
            return Err(io::Error::other("the kernel describes the peer in an unknown form"));
        }
        let known = usize::try_from(cred.cr_ngroups).unwrap_or(0).min(cred.cr_groups.len());
        let groups = cred.cr_groups[..known].to_vec();
        let gid = *groups.first().ok_or_else(|| io::Error::other("the peer has no group"))?;
        let pid = getsockopt(&stream.as_fd(), sockopt::LocalPeerPid).ok().filter(|pid| *pid > 0);
        Ok(Peer { uid: cred.cr_uid, gid, pid, groups })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::unix::net::UnixStream,
    };

    use super::*;

    #[test]
    fn a_unix_peer_is_known() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let peer = unix(&ours).unwrap();
        assert_eq!(peer.uid, own_uid());
        assert_eq!(peer.gid, nix::unistd::getegid().as_raw());
        assert_eq!(peer.pid, Some(std::process::id().cast_signed()));
        let groups = nix::unistd::getgroups().unwrap();
        assert_eq!(peer.groups.len(), groups.len());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_loopback_peer_is_known_over_both_families() {
        let own = Some(own_uid());
        for (bind, connect) in [
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
            ("::", "127.0.0.1"),
            ("0.0.0.0", "127.0.0.1"),
        ] {
            let Ok(listener) = TcpListener::bind((bind, 0)) else {
                continue; // no IPv6 here
            };
            let port = listener.local_addr().unwrap().port();
            let client = TcpStream::connect((connect, port)).unwrap();
            let (server, peer) = listener.accept().unwrap();
            let local = server.local_addr().unwrap();
            assert_eq!(tcp_owner(local, peer).unwrap(), own, "{bind} {connect}");
            // The listener is no connection, and neither is a port that nobody has.
            let nobody = SocketAddr::new(local.ip(), port);
            assert_eq!(tcp_owner(nobody, nobody).unwrap(), None, "{bind} {connect}");
            drop(client);
            // Closed by its process: an owner of nothing is no owner.
            assert_eq!(tcp_owner(local, peer).unwrap(), None, "{bind} {connect}");
        }
    }

    #[test]
    fn a_listener_is_private_and_found_alive() {
        use std::os::unix::fs::PermissionsExt;
        let dir = std::env::temp_dir().join(format!("mcp-gateway-peer-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("s");
        assert!(!unix_listens(&path).unwrap());
        let listener = listen_unix(&path).unwrap();
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert!(is_own_socket(&metadata));
        assert!(unix_listens(&path).unwrap());
        drop(listener);
        assert!(!unix_listens(&path).unwrap());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
