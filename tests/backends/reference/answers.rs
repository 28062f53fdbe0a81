//! Short ways to write results, and the sample payloads in them.

use rmcp::{
    ErrorData,
    model::{CallToolResponse, CallToolResult, ContentBlock},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(crate) type Outcome = Result<CallToolResponse, ErrorData>;

/// A PNG of one red pixel.
pub(crate) const RED_PIXEL: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC";
/// A WAV of 8 kHz, 8 bits, one channel, and four samples of silence.
pub(crate) const SILENCE: &str = "UklGRigAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQQAAACAgICA";

pub(crate) fn text(text: impl Into<String>) -> Outcome {
    Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
}

/// A result whose text is JSON, for tests that look inside.
pub(crate) fn json_text(value: &Value) -> Outcome {
    text(value.to_string())
}

pub(crate) fn tool_error(message: impl Into<String>) -> Outcome {
    Ok(CallToolResult::error(vec![ContentBlock::text(message)]).into())
}

/// A result with these content blocks, given as JSON.
pub(crate) fn content(blocks: Value) -> Outcome {
    Ok(CallToolResult::success(typed(blocks)).into())
}

/// Literal JSON of this program as an rmcp type; a mismatch is a bug here.
pub(crate) fn typed<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a literal of this program fits its rmcp type")
}
