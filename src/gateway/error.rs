//! The gateway's own errors, as clients see them.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::{
    backend::AcquireError,
    protocol::{Era, ErrorCode, Version, error_response_with},
};

/// Why a request has no result. The texts are for the client; the log has more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Not there, or not for this principal: the two look the same.
    #[error("Unknown tool: {0}")]
    UnknownTool(String),
    #[error("Unknown prompt: {0}")]
    UnknownPrompt(String),
    #[error("Resource not found: {0}")]
    UnknownResource(String),
    #[error("Task not found: {0} (a task lives only as long as its backend's process)")]
    UnknownTask(String),
    #[error("Method not found: {0}")]
    UnknownMethod(String),
    #[error("{0}")]
    InvalidParams(String),
    #[error("requestState is refused: {0}")]
    BadState(&'static str),
    #[error("Unsupported protocol version: {0}")]
    UnsupportedVersion(String),
    /// As JSON: what the client would have to declare.
    #[error("Missing required client capability: {0}")]
    MissingCapability(Value),
    #[error("Header mismatch: {0}")]
    HeaderMismatch(String),
    #[error("not initialized: send `initialize` first")]
    NotInitialized,
    #[error("this session is initialized already")]
    AlreadyInitialized,
    #[error("id {0} is in flight already")]
    DuplicateId(String),
    #[error("{0}")]
    TooMany(String),
    #[error(transparent)]
    Acquire(#[from] AcquireError),
    #[error("backend \"{0}\" ended before it answered")]
    Gone(String),
    #[error(
        "backend \"{0}\" sent more at once than its client could take, and the call was cancelled"
    )]
    Flooded(String),
    #[error("backend \"{server}\" gave no answer within {seconds} s ({key})")]
    Late { server: String, seconds: f32, key: &'static str },
    #[error("backend \"{server}\": {reason}")]
    Backend { server: String, reason: String },
    #[error("the gateway is shutting down")]
    ShuttingDown,
}

impl Failure {
    fn code(&self, era: Era) -> ErrorCode {
        match self {
            Self::UnknownResource(_) if era == Era::Modern => ErrorCode::InvalidParams,
            Self::UnsupportedVersion(_) => ErrorCode::UnsupportedVersion,
            Self::HeaderMismatch(_) => ErrorCode::HeaderMismatch,
            Self::MissingCapability(_) => ErrorCode::MissingCapability,
            Self::UnknownTool(_)
            | Self::UnknownPrompt(_)
            | Self::UnknownTask(_)
            | Self::BadState(_)
            | Self::InvalidParams(_) => ErrorCode::InvalidParams,
            Self::UnknownResource(_) => ErrorCode::ResourceNotFound,
            Self::UnknownMethod(_) => ErrorCode::MethodNotFound,
            Self::NotInitialized | Self::AlreadyInitialized | Self::DuplicateId(_) => {
                ErrorCode::InvalidRequest
            }
            Self::TooMany(_)
            | Self::Acquire(_)
            | Self::Gone(_)
            | Self::Flooded(_)
            | Self::Late { .. }
            | Self::Backend { .. }
            | Self::ShuttingDown => ErrorCode::Internal,
        }
    }

    /// What the client needs for its next step.
    fn data(&self, era: Era) -> Option<Value> {
        match self {
            Self::UnsupportedVersion(asked) => {
                Some(json!({"supported": Version::names(), "requested": asked}))
            }
            Self::MissingCapability(missing) => Some(json!({"requiredCapabilities": missing})),
            Self::UnknownResource(uri) if era == Era::Modern => Some(json!({"uri": uri})),
            _ => None,
        }
    }

    pub(super) fn response(&self, id: Option<&str>, era: Era) -> Bytes {
        let data = self.data(era);
        error_response_with(id, self.code(era), &self.to_string(), data.as_ref())
    }

    /// One word for the audit line.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::UnknownTool(_) | Self::UnknownPrompt(_) | Self::UnknownResource(_) => "unknown",
            Self::Acquire(_) => "unavailable",
            Self::Gone(_) => "died",
            Self::Late { .. } => "timeout",
            Self::ShuttingDown => "shutdown",
            _ => "refused",
        }
    }
}
