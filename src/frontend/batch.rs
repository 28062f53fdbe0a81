//! JSON-RPC batches, which exist in revision 2025-03-26 only.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::value::RawValue;

use crate::protocol::{ErrorCode, Invalid, Kind, Message, error_response, method};

/// True for a body that is a JSON array.
pub(super) fn is_batch(body: &[u8]) -> bool {
    body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[')
}

/// The messages of a batch, in order, and answers to the elements that are none.
pub(super) struct Batch {
    pub(super) messages: Vec<Message>,
    pub(super) refused: Vec<Bytes>,
}

impl Batch {
    /// How many responses will come from the gateway.
    pub(super) fn requests(&self) -> usize {
        self.messages.iter().filter(|message| message.kind() == Kind::Request).count()
    }
}

/// Splits a body without copying its messages. `Err`: the answer to the whole.
pub(super) fn split(body: &Bytes, most: usize) -> Result<Batch, Bytes> {
    let invalid = |why: &str| Err(error_response(None, ErrorCode::InvalidRequest, why));
    let elements: Vec<&RawValue> =
        serde_json::from_slice(body).map_err(|error| refusal(&Invalid::Json(error.to_string())))?;
    if elements.is_empty() {
        return invalid("a batch must not be empty");
    }
    if elements.len() > most {
        return invalid(&format!("a batch may have at most {most} messages"));
    }
    let mut batch = Batch { messages: Vec::with_capacity(elements.len()), refused: Vec::new() };
    for element in elements {
        match Message::parse(body.slice_ref(element.get().as_bytes())) {
            Ok(message) if message.method() == method::INITIALIZE => {
                return invalid("initialize must not be part of a batch");
            }
            Ok(message) => batch.messages.push(message),
            Err(error) => batch.refused.push(refusal(&error)),
        }
    }
    Ok(batch)
}

/// The answer to bytes that are no message.
pub(super) fn refusal(invalid: &Invalid) -> Bytes {
    match invalid {
        Invalid::Json(_) => error_response(None, ErrorCode::Parse, &invalid.to_string()),
        Invalid::Message { id, why } => {
            error_response(id.as_deref(), ErrorCode::InvalidRequest, why)
        }
    }
}

/// Responses as one array.
pub(super) fn join(responses: &[Bytes]) -> Bytes {
    let len: usize = responses.iter().map(|response| response.len() + 1).sum();
    let mut out = BytesMut::with_capacity(len + 2);
    for (index, response) in responses.iter().enumerate() {
        out.put_u8(if index == 0 { b'[' } else { b',' });
        out.extend_from_slice(response);
    }
    if responses.is_empty() {
        out.put_u8(b'[');
    }
    out.put_u8(b']');
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &'static str) -> Result<Batch, Bytes> {
        super::split(&Bytes::from_static(text.as_bytes()), 3)
    }

    #[test]
    fn only_arrays_are_batches() {
        assert!(is_batch(b" \n[1]"));
        assert!(!is_batch(b"{}"));
        assert!(!is_batch(b""));
    }

    #[test]
    fn elements_are_messages_or_answered() {
        let batch = split(
            r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}, 5, {"jsonrpc":"2.0","method":"n"}]"#,
        )
        .ok()
        .unwrap();
        assert_eq!(batch.messages.len(), 2);
        assert_eq!(batch.requests(), 1);
        assert_eq!(batch.messages[0].bytes(), r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#);
        assert_eq!(batch.refused.len(), 1);
    }

    #[test]
    fn some_batches_are_refused_as_a_whole() {
        for (text, code) in [
            ("[", "-32700"),
            ("[]", "-32600"),
            ("[1,2,3,4]", "-32600"),
            (r#"[{"jsonrpc":"2.0","id":1,"method":"initialize"}]"#, "-32600"),
        ] {
            let answer = split(text).err().unwrap();
            assert!(std::str::from_utf8(&answer).unwrap().contains(code), "{text}: {answer:?}");
        }
    }

    #[test]
    fn responses_are_joined() {
        assert_eq!(join(&[]), "[]");
        assert_eq!(join(&[Bytes::from("1"), Bytes::from("2")]), "[1,2]");
    }
}
