//! The line that opens a framed connection: `MCP-GATEWAY 1 {"server":"NAME"}`.
//!
//! No HTTP method begins with an `M` here, so the first byte of a connection tells the two apart.

use std::path::PathBuf;

use serde::Deserialize;

/// Longer is no preface.
pub(super) const MOST: usize = 4096;

const WORDS: &str = "MCP-GATEWAY 1";

/// What a framed client asks for.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Preface {
    /// One backend, as it is; otherwise all of them.
    pub(super) server: Option<String>,
    /// The directory that the client works in.
    pub(super) cwd: Option<PathBuf>,
    /// Act in this role only.
    pub(super) role: Option<String>,
    /// Be told by a last line when the gateway exits because it is idle.
    #[serde(default)]
    pub(super) farewell: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opening {
    Http,
    Framed,
    Neither,
}

/// Decides by the first byte.
pub(super) fn opening(first: u8) -> Opening {
    match first {
        b'M' => Opening::Framed,
        b'A'..=b'Z' => Opening::Http,
        _ => Opening::Neither,
    }
}

/// Reads the line without its newline. `Err` says what was wrong.
pub(super) fn parse(line: &[u8]) -> Result<Preface, String> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let rest = line
        .strip_prefix(WORDS.as_bytes())
        .filter(|rest| rest.first().is_none_or(|byte| *byte == b' '))
        .ok_or("this is another line")?
        .trim_ascii();
    if rest.is_empty() {
        return Ok(Preface::default());
    }
    let preface: Preface = serde_json::from_slice(rest).map_err(|error| error.to_string())?;
    if preface.cwd.as_ref().is_some_and(|cwd| !cwd.is_absolute()) {
        return Err("cwd must be an absolute path".to_owned());
    }
    Ok(preface)
}

/// What to send instead, for the one who sent something else.
pub(super) fn expected(why: &str) -> String {
    format!(
        "expected an http request or the line \
         `{WORDS} {{\"server\":\"NAME\",\"cwd\":\"/PATH\",\"role\":\"NAME\",\"farewell\":true}}` (each key optional), \
         then json-rpc messages, one a line: {why}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_tells() {
        for method in ["GET", "POST", "DELETE", "OPTIONS", "HEAD"] {
            assert_eq!(opening(method.as_bytes()[0]), Opening::Http);
        }
        assert_eq!(opening(b'M'), Opening::Framed);
        for byte in [b'{', b'g', 0, 0x16, b'\n'] {
            assert_eq!(opening(byte), Opening::Neither);
        }
    }

    #[test]
    fn prefaces() {
        let full = parse(br#"MCP-GATEWAY 1 {"server":"git","cwd":"/p","role":"r"}"#).unwrap();
        assert_eq!(full.server.as_deref(), Some("git"));
        assert_eq!(full.cwd, Some(PathBuf::from("/p")));
        assert_eq!(full.role.as_deref(), Some("r"));
        for line in ["MCP-GATEWAY 1", "MCP-GATEWAY 1 \r", "MCP-GATEWAY 1 {}"] {
            assert_eq!(parse(line.as_bytes()), Ok(Preface::default()), "{line}");
        }
        for line in [
            "MCP-GATEWAY",
            "MCP-GATEWAY 2 {}",
            "MCP-GATEWAY 11",
            "MCP-GATEWAY 1 []x",
            r#"MCP-GATEWAY 1 {"sever":"git"}"#,
            r#"MCP-GATEWAY 1 {"server":1}"#,
            r#"MCP-GATEWAY 1 {"cwd":"p"}"#,
            "MCP-GATEWAY 1 \u{1}",
            "M",
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line}");
        }
        assert!(parse(b"MCP-GATEWAY 1 \xff").is_err());
    }
}
