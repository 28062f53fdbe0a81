//! Lets the lines of a `[…]` or `{…}` stand as far left as they like.
//!
//! YAML 1.2 wants them indented deeper than the key, and saphyr-parser insists even on the closing
//! bracket (saphyr-rs/saphyr#108); PyYAML does not care, and people write `args: [` with the `]`
//! below the `a`. White space at the start of such a line means nothing, so a line that is refused
//! gets more of it and the file is read again; places are told as they are in the file.

use std::collections::HashMap;

use saphyr_parser::{Marker, ScanError};

use super::tree::At;

/// Added to a line at a time.
const PAD: usize = 256;
/// Bytes that may be read again in all: a large file full of such lines is refused in the end.
const BUDGET: usize = 32 << 20;
/// What the scanner says of a line too far left; it says so inside brackets only.
const REFUSALS: [&str; 2] = ["invalid indentation", "invalid indentation in flow construct"];

pub(super) struct Padded {
    text: String,
    lines: HashMap<usize, usize>,
    budget: usize,
}

impl Padded {
    pub(super) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), lines: HashMap::new(), budget: BUDGET }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Where a place of the padded text is in the file.
    pub(super) fn at(&self, marker: &Marker) -> At {
        let line = marker.line();
        let pad = self.lines.get(&line).copied().unwrap_or(0);
        At { line, column: marker.col().saturating_sub(pad) + 1 }
    }

    /// Pads the line that was refused. False if that cannot help.
    pub(super) fn pad(&mut self, error: &ScanError) -> bool {
        let line = error.marker().line();
        let (Some(budget), Some(start)) =
            (self.budget.checked_sub(self.text.len()), self.start_of(line))
        else {
            return false;
        };
        if !REFUSALS.contains(&error.info()) {
            return false;
        }
        self.budget = budget;
        self.text.insert_str(start, &" ".repeat(PAD));
        *self.lines.entry(line).or_default() += PAD;
        true
    }

    /// The byte at which a line starts. A line ends as the scanner sees it: `\n`, `\r\n` or `\r`.
    fn start_of(&self, line: usize) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let ends = (0..bytes.len()).filter(|&i| match bytes[i] {
            b'\n' => true,
            b'\r' => bytes.get(i + 1) != Some(&b'\n'),
            _ => false,
        });
        match line.checked_sub(2) {
            None => Some(0),
            Some(nth) => ends.map(|i| i + 1).nth(nth),
        }
    }
}
