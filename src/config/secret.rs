//! An env value, which may be a password: it never prints itself.

use std::fmt;

/// Text that is shown nowhere by accident; [`Secret::expose`] is the one way to read it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Parts of the names of variables whose values are secrets.
const NAMES: [&str; 8] =
    ["KEY", "TOKEN", "SECRET", "PASS", "CREDENTIAL", "AUTH", "PRIVATE", "COOKIE"];

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether a variable of this name most likely holds a secret.
    pub fn is_likely(name: &str) -> bool {
        let name = name.to_ascii_uppercase();
        NAMES.iter().any(|part| name.contains(part))
    }

    /// The text itself, for the child's environment and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        // Best effort: `black_box` keeps the fill from being optimized away, but copies made while
        // the text was read and expanded are out of reach.
        let mut bytes = std::mem::take(&mut self.0).into_bytes();
        bytes.fill(0);
        std::hint::black_box(&bytes);
    }
}
