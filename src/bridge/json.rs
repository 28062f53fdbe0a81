//! As much JSON as it takes to know whose message a line is.
//!
//! Slices of the line, nothing is copied or decoded. It does not judge: a line that is no JSON has
//! no members, and goes on to the one who can say what is wrong with it.

use std::ops::Range;

/// The members of one object: where each key and each value lies.
pub struct Members<'a> {
    text: &'a [u8],
    at: usize,
}

/// Looks into the object that `text` begins with.
pub fn members(text: &[u8]) -> Members<'_> {
    let at = blank(text, 0);
    let at = if text.get(at) == Some(&b'{') { at + 1 } else { text.len() };
    Members { text, at }
}

impl<'a> Iterator for Members<'a> {
    /// The key as it is written, without its quotes, and where the value is.
    type Item = (&'a [u8], Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        let mut at = blank(self.text, self.at);
        if self.text.get(at) == Some(&b',') {
            at = blank(self.text, at + 1);
        }
        if self.text.get(at) != Some(&b'"') {
            return None;
        }
        let close = value(self.text, at)?;
        let key = &self.text[at + 1..close - 1];
        at = blank(self.text, close);
        if self.text.get(at) != Some(&b':') {
            return None;
        }
        let start = blank(self.text, at + 1);
        let end = value(self.text, start)?;
        self.at = end;
        Some((key, start..end))
    }
}

/// The value of one member.
pub fn member<'a>(text: &'a [u8], key: &str) -> Option<&'a [u8]> {
    members(text).find(|(name, _)| *name == key.as_bytes()).map(|(_, value)| &text[value])
}

/// The elements, if this is an array; otherwise the text itself.
pub fn elements(text: &[u8]) -> Vec<&[u8]> {
    let mut at = blank(text, 0);
    if text.get(at) != Some(&b'[') {
        return vec![text];
    }
    let mut found = Vec::new();
    at += 1;
    loop {
        at = blank(text, at);
        if text.get(at) == Some(&b',') {
            at = blank(text, at + 1);
        }
        match value(text, at) {
            Some(end) if text.get(at) != Some(&b']') => {
                found.push(&text[at..end]);
                at = end;
            }
            _ => return found,
        }
    }
}

fn blank(text: &[u8], mut at: usize) -> usize {
    while text.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

/// Where the value that begins at `at` ends.
fn value(text: &[u8], mut at: usize) -> Option<usize> {
    match text.get(at)? {
        b'"' => string(text, at),
        b'{' | b'[' => {
            let mut depth = 0_usize;
            loop {
                match text.get(at)? {
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' => {
                        depth -= 1;
                        if depth == 0 {
                            return Some(at + 1);
                        }
                    }
                    b'"' => {
                        at = string(text, at)?;
                        continue;
                    }
                    _ => {}
                }
                at += 1;
            }
        }
        _ => {
            let start = at;
            while text.get(at).is_some_and(|byte| !matches!(byte, b',' | b'}' | b']' | b':'))
                && !text[at].is_ascii_whitespace()
            {
                at += 1;
            }
            (at > start).then_some(at)
        }
    }
}

/// Where the string that begins at `at` ends, past its quote.
fn string(text: &[u8], at: usize) -> Option<usize> {
    let mut from = at + 1;
    loop {
        let quote = from + memchr::memchr(b'"', text.get(from..)?)?;
        let slashes = text[at + 1..quote].iter().rev().take_while(|byte| **byte == b'\\').count();
        if slashes % 2 == 0 {
            return Some(quote + 1);
        }
        from = quote + 1;
    }
}

/// `text` as a JSON string with its quotes.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A JSON string as plain text, for people; what is no string stays as it is.
pub fn plain(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let inside = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let Some(inside) = inside else { return text.into_owned() };
    let mut out = String::with_capacity(inside.len());
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('n' | 'r' | 't')) => out.push(' '),
            ('\\', Some('u')) => {
                let code: String = chars.by_ref().take(4).collect();
                let code = u32::from_str_radix(&code, 16).ok().and_then(char::from_u32);
                out.push(code.unwrap_or('?'));
            }
            ('\\', Some(c)) => out.push(c),
            (c, _) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_wherever_they_stand() {
        let line = br#" { "params" : {"id":1,"x":["}\"",{}]} ,"method":"a\\","id" :  "7\"" }"#;
        assert_eq!(member(line, "id"), Some(&br#""7\"""#[..]));
        assert_eq!(member(line, "method"), Some(&br#""a\\""#[..]));
        assert_eq!(member(line, "params"), Some(&br#"{"id":1,"x":["}\"",{}]}"#[..]));
        assert_eq!(member(line, "x"), None);
        assert_eq!(member(br#"{"id":1.5e3}"#, "id"), Some(&b"1.5e3"[..]));
        assert_eq!(members(br#"{"id":1,"params":{}}"#).count(), 2);
    }

    #[test]
    fn what_is_no_object_has_no_members() {
        for line in [
            &b""[..],
            b"x",
            b"{",
            b"{\"id\"",
            b"{\"id\":",
            b"{\"id\":}",
            b"{\"id\":\"",
            b"{\"a\":[}",
            b"{\"id\":\"\\",
            b"7",
            b"[]",
            b"{:}",
            b"{,}",
            b"\xff",
            b"{\"a\":{\"b\":1}",
        ] {
            assert_eq!(member(line, "id"), None, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn elements_of_a_batch() {
        assert_eq!(elements(br#"[{"id":1}, {"id":"]"}]"#), [&br#"{"id":1}"#[..], br#"{"id":"]"}"#]);
        assert_eq!(elements(b"{}"), [b"{}"]);
        assert!(elements(b"[]").is_empty());
        assert!(elements(b"[").is_empty());
    }

    #[test]
    fn quoting() {
        assert_eq!(plain(br#""no \"x\" \u00e9\\""#), "no \"x\" \u{e9}\\");
        assert_eq!(plain(b"7"), "7");
        assert_eq!(plain(br#""\"#), "\"\\");
        assert_eq!(quoted("a\"\\\n\u{e9}"), "\"a\\\"\\\\\\u000a\u{e9}\"");
    }
}
