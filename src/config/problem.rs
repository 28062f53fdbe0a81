//! What is wrong with a config file, and where.
//!
//! A [`Problem`] is one line for a person, `path:line:column: where: what`; [`Problems`] are all
//! that a load found, errors and warnings together, in the order of the files.

use std::fmt;
use std::path::PathBuf;

/// Whether a problem stops the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}

/// One thing that is wrong, or odd, in one place of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub path: PathBuf,
    /// From 1; 0 if the problem is with the file as a whole.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The way to the value, such as `servers.git.timeouts.call`; empty at the top of a file.
    pub place: String,
    pub severity: Severity,
    pub what: String,
}

impl Problem {
    pub(super) fn whole_file(path: impl Into<PathBuf>, what: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            line: 0,
            column: 0,
            place: String::new(),
            severity: Severity::Error,
            what: what.into(),
        }
    }

    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if !self.place.is_empty() {
            write!(f, " {}:", self.place)?;
        }
        if self.severity == Severity::Warning {
            f.write_str(" warning:")?;
        }
        write!(f, " {}", self.what)
    }
}

/// Everything that a load found, when at least one of them is an error. Prints one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}
