//! What a request of the modern era says of its client, in `_meta`.

use crate::{
    gateway::{error::Failure, opening::Level},
    protocol::{MODERN, Message, method},
};

/// Read, and found to be in order.
#[derive(Debug)]
pub(in crate::gateway) struct Said {
    /// The client wants log messages of this request, from this level on.
    pub level: Option<Level>,
}

/// Whether the request is of the modern era, be it in order or not.
pub(in crate::gateway) fn is_modern(message: &Message) -> bool {
    message.version().is_some()
        || message.client_capabilities().is_some()
        || matches!(message.method().as_ref(), method::DISCOVER | method::LISTEN)
}

impl Said {
    /// Basic protocol, "Per-request protocol fields"; versioning, "Protocol Version Negotiation".
    pub(in crate::gateway) fn read(message: &Message) -> Result<Self, Failure> {
        let missing = |key: &str, what: &str| {
            Failure::InvalidParams(format!("`_meta` needs `io.modelcontextprotocol/{key}`, {what}"))
        };
        let version = message.version().and_then(string);
        let version = version.ok_or_else(|| missing("protocolVersion", "a string"))?;
        let capabilities = message.client_capabilities();
        if !capabilities.is_some_and(|raw| raw.starts_with('{')) {
            return Err(missing("clientCapabilities", "an object"));
        }
        if version != MODERN {
            return Err(Failure::UnsupportedVersion(version));
        }
        let level = message.log_level().map(|raw| {
            let level = string(raw).and_then(|text| Level::parse(&text));
            level.ok_or_else(|| missing("logLevel", "where it is there, to be a log level"))
        });
        Ok(Said { level: level.transpose()? })
    }
}

fn string(raw: &str) -> Option<String> {
    serde_json::from_str(raw).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(meta: &str) -> Result<Said, Failure> {
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{"_meta":{{{meta}}}}}}}"#
        );
        let message = Message::parse(text.into()).unwrap();
        assert!(is_modern(&message) || !meta.contains("io.model"));
        Said::read(&message)
    }

    #[test]
    fn what_is_needed_is_there_and_of_its_kind() {
        const VERSION: &str = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#;
        const CAPABLE: &str = r#""io.modelcontextprotocol/clientCapabilities":{}"#;
        let level = |level: &str| {
            read(&format!(r#"{VERSION},{CAPABLE},"io.modelcontextprotocol/logLevel":{level}"#))
        };
        assert!(read(&format!("{VERSION},{CAPABLE}")).unwrap().level.is_none());
        assert_eq!(level("\"error\"").unwrap().level, Some(Level::Error));
        for refused in [level("\"loud\""), level("3"), read(VERSION), read(CAPABLE), read("")] {
            assert!(matches!(refused, Err(Failure::InvalidParams(_))), "{refused:?}");
        }
        for (version, unsupported) in
            [("\"1900-01-01\"", true), ("\"2025-11-25\"", true), ("1", false), ("null", false)]
        {
            let said =
                read(&format!(r#""io.modelcontextprotocol/protocolVersion":{version},{CAPABLE}"#));
            assert_eq!(
                matches!(said, Err(Failure::UnsupportedVersion(_))),
                unsupported,
                "{said:?}"
            );
        }
    }
}
