//! `access`: which user and which group has which role. In the order of the files; the first that
//! fits holds.

use super::reader::{Fields, Reader, Spot};
use super::tree::At;
use super::{Access, Who};
use crate::sys::ids;

pub(super) const KEYS: &[&str] = &["user", "group", "role"];

/// Reads the list. Whether the roles are there is known when all files are.
pub(super) fn read(reader: &mut Reader<'_>, spot: &Spot<'_>) -> Vec<(At, String, Access)> {
    let items = reader.items(spot, "write a list, such as [{group: developers, role: developer}]");
    let mut rules = Vec::new();
    for item in items.into_iter().flatten() {
        let whole = Spot { node: item.node, place: item.place.clone() };
        let Some(fields) = reader.fields(item, KEYS) else { continue };
        let role = match fields.get("role") {
            Some(role) => reader.string(&role).map(|name| (role.node.at, name.to_owned())),
            None => {
                reader.error(&whole, "has no role; add `role: NAME`, one of `roles:`");
                None
            }
        };
        let who = who(reader, &whole, &fields);
        if let (Some((at, role)), Some(who)) = (role, who) {
            rules.push((at, format!("{}.role", whole.place), Access { who, role }));
        }
    }
    rules
}

fn who(reader: &mut Reader<'_>, whole: &Spot<'_>, fields: &Fields<'_>) -> Option<Who> {
    match (fields.get("user"), fields.get("group")) {
        (Some(user), None) => {
            let name = reader.text(&user)?.to_owned();
            let id = number(&name).or_else(|| ids::user_id(&name));
            if id.is_none() {
                reader.lax(&user, format!("no user named \"{name}\" on this machine"));
            }
            Some(Who::User { name, id })
        }
        (None, Some(group)) => {
            let name = reader.text(&group)?.to_owned();
            let id = number(&name).or_else(|| ids::group_id(&name));
            if id.is_none() {
                reader.lax(
                    &group,
                    format!(
                        "no group named \"{name}\" on this machine; `groupadd {name}` makes one"
                    ),
                );
            }
            Some(Who::Group { name, id })
        }
        _ => {
            reader.error(whole, "write one of `user:` and `group:`");
            None
        }
    }
}

fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}
