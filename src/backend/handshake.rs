//! How a conversation with a backend opens: which era it speaks, and what it says of itself.
//!
//! A backend that is not known yet is asked `server/discover`, as the 2026-07-28 specification
//! has it (transports, stdio, backward compatibility). A process holds to the era of its first
//! message and may choke on the other one's, so where the question went wrong a new child is
//! opened with `initialize`.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, Weak},
    time::Duration,
};

use serde::Deserialize;
use serde_json::Value;

use super::{AskError, Info, Link, own_meta, stderr};
use crate::{
    protocol::{Era, ErrorCode, MODERN, Message, Version, member, method},
    sys::fds,
};

/// How long a backend that has read the question may say nothing to it, or a third of its time to
/// start. Then it is of the older era, whose servers need not answer what they do not know.
const SILENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether the question has been read.
const LOOK: Duration = Duration::from_millis(50);

/// How to open the conversation with one instance.
pub struct Opening {
    /// The `initialize` parameters, as JSON text.
    pub params: String,
    /// The era that the backend spoke before.
    pub known: Option<Era>,
}

pub(super) enum Outcome {
    Open(Info),
    /// The child went away meanwhile; how it ended says more.
    Gone,
    Failed(String),
    /// This child is no use: another one, with `initialize` first.
    Again,
}

/// Tells whether the child has read what was written to it.
pub(super) struct Unread {
    pub link: Arc<Link>,
    /// Our end of its stdin. Where the kernel does not tell, the child counts as a reader.
    pub input: Option<Weak<OwnedFd>>,
}

impl Unread {
    pub(super) fn is_read(&self) -> bool {
        let input = self.input.as_ref().and_then(Weak::upgrade);
        self.link.has_written() && input.is_none_or(|input| fds::unread(&*input).unwrap_or(0) == 0)
    }
}

pub(super) async fn open(
    link: &Link,
    opening: &Opening,
    unread: &Unread,
    within: Duration,
) -> Outcome {
    if opening.known == Some(Era::Legacy) {
        return match initialize(link, &opening.params, within).await {
            Ok(info) => Outcome::Open(info),
            Err(None) => Outcome::Gone,
            // Once legacy is not for ever.
            Err(Some(why)) => match discover(link, within).await {
                Ok(Discovered::Modern(info)) => Outcome::Open(info),
                _ => Outcome::Failed(why),
            },
        };
    }
    let silent = async {
        // The clock starts when the process is ready: when it has read the question.
        while !unread.is_read() {
            tokio::time::sleep(LOOK).await;
        }
        tokio::time::sleep(SILENCE.min(within / 3)).await;
    };
    let discovered = tokio::select! {
        discovered = discover(link, within) => discovered,
        () = silent => return Outcome::Again,
    };
    match discovered {
        Ok(Discovered::Modern(info)) => Outcome::Open(info),
        Ok(Discovered::Other(versions)) => {
            let legacy = versions.iter().any(|name| Version::parse(name).is_some());
            if legacy { Outcome::Again } else { Outcome::Failed(unknown(&versions.join(", "))) }
        }
        Ok(Discovered::Not) => match initialize(link, &opening.params, within).await {
            Ok(info) => Outcome::Open(info),
            Err(_) => Outcome::Again,
        },
        Err(AskError::Gone) => Outcome::Gone,
        Err(error) => Outcome::Failed(format!("server/discover failed: {error}")),
    }
}

enum Discovered {
    Modern(Info),
    /// It knows the question, and speaks these revisions.
    Other(Vec<String>),
    /// It does not know the question.
    Not,
}

async fn discover(link: &Link, within: Duration) -> Result<Discovered, AskError> {
    #[derive(Deserialize, Default)]
    struct Supported {
        #[serde(rename = "supportedVersions", alias = "supported", default)]
        versions: Vec<String>,
        #[serde(default)]
        capabilities: Value,
    }
    let params = format!("{{\"_meta\":{}}}", own_meta());
    let answer = link.ask(method::DISCOVER, &params, within * 2).await?;
    if answer.is_error() {
        let unsupported = i64::from(ErrorCode::UnsupportedVersion.number());
        if answer.error_code() != Some(unsupported) {
            return Ok(Discovered::Not);
        }
        let supported: Supported = error_data(&answer).unwrap_or_default();
        return Ok(Discovered::Other(supported.versions));
    }
    let raw = answer.result().unwrap_or("null");
    let Ok(supported) = serde_json::from_str::<Supported>(raw) else { return Ok(Discovered::Not) };
    Ok(match supported.versions {
        versions if versions.is_empty() => Discovered::Not,
        versions if versions.iter().any(|name| name == MODERN) => Discovered::Modern(Info {
            raw: raw.into(),
            era: Era::Modern,
            version: MODERN,
            capabilities: supported.capabilities,
        }),
        versions => Discovered::Other(versions),
    })
}

fn error_data<T: for<'a> Deserialize<'a>>(answer: &Message) -> Option<T> {
    let (_, raw) = answer.error()?;
    serde_json::from_str(&raw[member(raw, "data")?]).ok()
}

/// `Err(None)`: the child went away meanwhile.
async fn initialize(link: &Link, params: &str, within: Duration) -> Result<Info, Option<String>> {
    #[derive(Deserialize)]
    struct Initialized {
        #[serde(rename = "protocolVersion", default)]
        version: String,
        #[serde(default)]
        capabilities: Value,
    }
    // The machine's deadline comes first; this one only bounds the wait.
    let answer = link.ask_result(method::INITIALIZE, params, within * 2).await.map_err(
        |error| match error {
            AskError::Gone => None,
            error => Some(format!("initialize failed: {error}")),
        },
    )?;
    let raw = answer.result().unwrap_or("null");
    let result: Initialized = serde_json::from_str(raw)
        .map_err(|error| Some(format!("its answer to initialize cannot be read: {error}")))?;
    let version = Version::parse(&result.version).ok_or_else(|| Some(unknown(&result.version)))?;
    link.announce(method::INITIALIZED, "{}").map_err(|_| None)?;
    Ok(Info {
        raw: raw.into(),
        era: Era::Legacy,
        version: version.as_str(),
        capabilities: result.capabilities,
    })
}

fn unknown(version: &str) -> String {
    let theirs = stderr::told(version);
    format!(
        "it speaks protocol version \"{theirs}\", this gateway speaks {}",
        Version::names().join(", ")
    )
}
