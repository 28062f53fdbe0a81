//! Error codes and the answers that the gateway itself gives.

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

/// The codes that the gateway uses. Of -32000..-32099, which the specification keeps, only those
/// that it defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    Parse,
    InvalidRequest,
    MethodNotFound,
    InvalidParams,
    Internal,
    /// Resource not found, in the revisions that open with `initialize`.
    ResourceNotFound,
    // In the stateless one.
    HeaderMismatch,
    MissingCapability,
    UnsupportedVersion,
}

impl ErrorCode {
    pub fn number(self) -> i32 {
        match self {
            Self::Parse => -32700,
            Self::InvalidRequest => -32600,
            Self::MethodNotFound => -32601,
            Self::InvalidParams => -32602,
            Self::Internal => -32603,
            Self::ResourceNotFound => -32002,
            Self::HeaderMismatch => -32020,
            Self::MissingCapability => -32021,
            Self::UnsupportedVersion => -32022,
        }
    }
}

#[derive(Serialize)]
struct Body<'a> {
    code: i32,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Value>,
}

/// A whole error response; `id` is raw JSON text, `None` where the request's could not be read.
pub fn error_response(id: Option<&str>, code: ErrorCode, message: &str) -> Bytes {
    error_response_with(id, code, message, None)
}

pub fn error_response_with(
    id: Option<&str>,
    code: ErrorCode,
    message: &str,
    data: Option<&Value>,
) -> Bytes {
    let body = Body { code: code.number(), message, data };
    // A struct of numbers and strings always serializes.
    let body = serde_json::to_string(&body).unwrap_or_default();
    let id = id.unwrap_or("null");
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{body}}}"#).into()
}

/// A whole response around a result that is already JSON text.
pub fn result_response(id: &str, result: &str) -> Bytes {
    let mut text = String::with_capacity(result.len() + id.len() + 36);
    text.push_str(r#"{"jsonrpc":"2.0","id":"#);
    text.push_str(id);
    text.push_str(r#","result":"#);
    text.push_str(result);
    text.push('}');
    text.into()
}
