//! Users and groups of this machine, by name and by number. Asks the machine's name services, so
//! it may wait for a directory server: not for the way of every call.

use nix::unistd::{Gid, Group, Uid, User};

/// `None`: nobody is called so, or the name services do not say.
pub fn user_id(name: &str) -> Option<u32> {
    User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
}

pub fn group_id(name: &str) -> Option<u32> {
    Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
}

pub fn user_name(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
}

pub fn group_name(gid: u32) -> Option<String> {
    Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_by_name_and_number() {
        assert_eq!(user_id("root"), Some(0));
        assert_eq!(user_name(0).as_deref(), Some("root"));
        let group = group_name(0).unwrap();
        assert_eq!(group_id(&group), Some(0));
        assert_eq!(user_id("no such user"), None);
        assert_eq!(group_id("no such group"), None);
        assert_eq!(user_name(u32::MAX - 1), None);
    }
}
