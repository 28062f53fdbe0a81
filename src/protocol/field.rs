//! Texts as HTTP header fields carry them, in the stateless revision.

use base64::{Engine, engine::general_purpose::STANDARD};

/// A field's value as it was meant: `=?base64?...?=` holds what a header field cannot (streamable
/// HTTP, "Value Encoding").
pub fn decode_field(value: &str) -> Result<String, String> {
    let wrapped = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?="));
    let Some(wrapped) = wrapped else {
        let plain = value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte));
        return if plain { Ok(value.to_owned()) } else { Err("has invalid characters".to_owned()) };
    };
    let bytes = STANDARD.decode(wrapped).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    text.ok_or_else(|| "is no base64 of a text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::decode_field as decode;

    #[test]
    fn values_are_decoded_as_the_specification_has_it() {
        for (value, decoded) in [
            ("us-west1", "us-west1"),
            ("=?base64?SGVsbG8sIOS4lueVjA==?=", "Hello, 世界"),
            ("=?base64?IHBhZGRlZCA=?=", " padded "),
            ("=?base64?bGluZTEKbGluZTI=?=", "line1\nline2"),
            ("=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=", "=?base64?literal?="),
            ("=?BASE64?eA==?=", "=?BASE64?eA==?="),
            ("", ""),
        ] {
            assert_eq!(decode(value).unwrap(), decoded, "{value}");
        }
        for wrong in ["=?base64?SGVsbG8?=", "=?base64?!?=", "=?base64?/w==?=", "é"] {
            assert!(decode(wrong).is_err(), "{wrong}");
        }
    }
}
