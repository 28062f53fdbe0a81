//! What was decided about signals before we were started.

use nix::libc;

/// True under `nohup` and its like.
pub fn hangup_is_ignored() -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: with a null action nothing is changed; the old one is written to memory of ours that
    // has its type, and all zeroes are a valid value of it.
    let action = unsafe {
        libc::sigaction(libc::SIGHUP, std::ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}
