//! The protocol revisions and how one is agreed on.

use std::fmt;

/// The stateless revision, where each request says by itself what it needs.
pub const MODERN: &str = "2026-07-28";

/// How a conversation is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Era {
    /// It opens with `initialize`, and both sides ask.
    Legacy,
    /// Each request stands for itself, and only the client asks: [`MODERN`].
    Modern,
}

/// A revision that opens with `initialize`. The stateless one is not in this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    V2024_11_05,
    V2025_03_26,
    V2025_06_18,
    V2025_11_25,
}

impl Version {
    pub const ALL: [Version; 4] =
        [Self::V2024_11_05, Self::V2025_03_26, Self::V2025_06_18, Self::V2025_11_25];
    /// What the gateway offers to backends, and answers to a version it does not know.
    pub const LATEST: Version = Self::V2025_11_25;

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == text)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
        }
    }

    /// The names of all revisions that the gateway speaks to clients, the newest first.
    pub fn names() -> [&'static str; 5] {
        let [a, b, c, d] = Self::ALL.map(Self::as_str);
        [MODERN, d, c, b, a]
    }

    /// JSON-RPC batches exist in 2025-03-26 only.
    pub fn has_batches(self) -> bool {
        self == Self::V2025_03_26
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_is_read_back() {
        for version in Version::ALL {
            assert_eq!(Version::parse(version.as_str()), Some(version));
        }
        assert_eq!(Version::parse("2099-01-01"), None);
        assert!(Version::V2024_11_05 < Version::LATEST);
    }

    #[test]
    fn the_names_are_those_of_the_official_types() {
        let known: Vec<String> =
            rmcp::model::ProtocolVersion::KNOWN_VERSIONS.iter().map(ToString::to_string).collect();
        for version in Version::names() {
            assert!(known.iter().any(|name| name == version), "{version}");
        }
        assert_eq!(MODERN, rmcp::model::ProtocolVersion::LATEST.as_str());
    }
}
