//! Variables in env values: `$VAR`, `${VAR}` and `${VAR:-default}`, in one pass.
//!
//! What is put in is not looked at again. A `$` that starts none of these stays as it is, so a
//! dollar sign in front of a name is written `${X:-$}NAME`.

/// A value after expansion, and what could not be expanded and stands there as written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expanded {
    pub(super) text: String,
    pub(super) missing: Vec<Missing>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// This variable is not set, and there is no default.
    Unset(String),
    /// `${…}` around something else than a name. The text may be part of a password: not shown.
    NoName,
}

pub(super) fn expand(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Expanded {
    let mut out = Expanded::default();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        out.text.push_str(&rest[..dollar]);
        rest = &rest[dollar..];
        let Some((reference, written)) = reference(rest) else {
            out.text.push('$');
            rest = &rest[1..];
            continue;
        };
        match value(&reference, env) {
            Ok(value) => out.text.push_str(&value),
            Err(missing) => {
                out.text.push_str(&rest[..written]);
                out.missing.push(missing);
            }
        }
        rest = &rest[written..];
    }
    out.text.push_str(rest);
    out
}

/// What stands behind a `$`: the part in braces or the name, split at `:-`.
struct Reference<'t> {
    name: &'t str,
    default: Option<&'t str>,
}

/// Reads the reference that `text` starts with, and its length in bytes.
fn reference(text: &str) -> Option<(Reference<'_>, usize)> {
    let after = text.strip_prefix('$')?;
    if let Some(inside) = after.strip_prefix('{') {
        let inside = &inside[..inside.find('}')?];
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        return Some((Reference { name, default }, inside.len() + 3));
    }
    let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
    let name = &after[..end];
    is_name(name).then_some((Reference { name, default: None }, end + 1))
}

fn value(
    reference: &Reference<'_>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<String, Missing> {
    if !is_name(reference.name) {
        return Err(Missing::NoName);
    }
    // As in a shell, `:-` also stands in for a variable that is set but empty.
    match (env(reference.name), reference.default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Missing::Unset(reference.name.to_owned())),
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let env = |name: &str| match name {
            "HOME" => Some("/home/u".to_owned()),
            "EMPTY" => Some(String::new()),
            "D" => Some("$HOME".to_owned()),
            _ => None,
        };
        let table = [
            ("plain", "plain", 0),
            ("$HOME/x", "/home/u/x", 0),
            ("${HOME}x", "/home/ux", 0),
            ("$HOMEx", "$HOMEx", 1),
            ("${NO}", "${NO}", 1),
            ("${NO:-d}", "d", 0),
            ("${NO:-}", "", 0),
            ("${NO:-$}HOME", "$HOME", 0),
            ("${EMPTY:-d}", "d", 0),
            ("[${EMPTY}]", "[]", 0),
            ("$D", "$HOME", 0),
            ("$$HOME", "$/home/u", 0),
            ("\\$HOME", "\\/home/u", 0),
            ("$1 $ a$", "$1 $ a$", 0),
            ("${HOME", "${HOME", 0),
            ("${}", "${}", 1),
            ("${cred:x}", "${cred:x}", 1),
            ("é$HOMEé", "é/home/ué", 0),
        ];
        for (text, expected, missing) in table {
            let out = expand(text, &env);
            assert_eq!((out.text.as_str(), out.missing.len()), (expected, missing), "{text:?}");
        }
    }
}
