//! One message as the bridge sees it: whose it is and what it is about.

use super::json::{members, quoted};

#[derive(Default)]
pub struct Envelope<'a> {
    pub id: Option<&'a [u8]>,
    /// Without its quotes. Escapes in it are left as they are: no method of ours has any.
    pub method: Option<&'a [u8]>,
    pub params: Option<&'a [u8]>,
    pub result: Option<&'a [u8]>,
    pub error: Option<&'a [u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Request,
    Notification,
    Response,
    Neither,
}

impl<'a> Envelope<'a> {
    pub fn read(text: &'a [u8]) -> Self {
        let mut envelope = Envelope::default();
        for (key, range) in members(text) {
            let value = &text[range];
            match key {
                b"id" => envelope.id = Some(value),
                b"method" => {
                    envelope.method =
                        value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
                }
                b"params" => envelope.params = Some(value),
                b"result" => envelope.result = Some(value),
                b"error" => envelope.error = Some(value),
                _ => {}
            }
        }
        envelope
    }

    pub fn kind(&self) -> Kind {
        match (self.method, self.id) {
            (Some(_), Some(_)) => Kind::Request,
            (Some(_), None) => Kind::Notification,
            (None, _) if self.result.is_some() || self.error.is_some() => Kind::Response,
            (None, _) => Kind::Neither,
        }
    }
}

/// The same line under another id.
pub fn with_id(line: &[u8], id: &[u8]) -> Option<Vec<u8>> {
    let (_, range) = members(line).filter(|(key, _)| *key == b"id").last()?;
    Some([&line[..range.start], id, &line[range.end..]].concat())
}

/// An error response with its newline.
pub fn error(id: &[u8], why: &str) -> Vec<u8> {
    let id = String::from_utf8_lossy(id);
    let why = quoted(why);
    format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"error\":{{\"code\":-32603,\"message\":{why}}}}}\n")
        .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        for (line, kind) in [
            (r#"{"jsonrpc":"2.0","method":"a","id":1}"#, Kind::Request),
            (r#"{"method":"a","params":{"id":1}}"#, Kind::Notification),
            (r#"{"result":{},"id":"x"}"#, Kind::Response),
            (r#"{"error":{},"id":null}"#, Kind::Response),
            (r#"{"id":1}"#, Kind::Neither),
            ("nonsense", Kind::Neither),
        ] {
            assert_eq!(Envelope::read(line.as_bytes()).kind(), kind, "{line}");
        }
    }

    #[test]
    fn another_id() {
        let line = b"{\"params\":{\"id\":1},\"id\" : 7 }\n";
        assert_eq!(with_id(line, b"\"x\"").unwrap(), b"{\"params\":{\"id\":1},\"id\" : \"x\" }\n");
        assert_eq!(with_id(b"{}", b"1"), None);
    }
}
