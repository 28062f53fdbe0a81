//! A child's stderr, line by line to the log: bounded in length, in rate and in memory.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::config::Secret;

const LINE: usize = 4096;
const TAIL: usize = 20;
/// Characters of a backend's words in a message of ours.
const TOLD: usize = 1000;
/// Bytes a second that reach the log; the rest is counted.
const RATE: usize = 16 * 1024;
/// Over which the rate is counted, and after which what was left out is told.
const WINDOW: Duration = Duration::from_secs(1);

/// The last lines, for the errors of callers; and what must not stand in any line.
#[derive(Default)]
pub(super) struct Tail {
    said: Mutex<Said>,
    secrets: Vec<Secret>,
}

/// What one child has said.
#[derive(Default)]
struct Said {
    lines: VecDeque<String>,
    /// Some are no longer among them.
    forgotten: bool,
}

/// A shorter value would blot out ordinary words.
const SHORTEST_SECRET: usize = 6;

impl Tail {
    pub(super) fn new(env: &[(String, Secret)]) -> Self {
        let secrets = env.iter().filter(|(name, value)| {
            value.expose().len() >= SHORTEST_SECRET && Secret::is_likely(name)
        });
        // A secret of several lines comes out line by line.
        let lines = secrets.flat_map(|(_, value)| value.expose().lines().map(Secret::new));
        let secrets = lines.filter(|line| line.expose().len() >= SHORTEST_SECRET).collect();
        Tail { said: Mutex::default(), secrets }
    }

    /// The line without the values of the backend's secrets.
    fn redact(&self, mut line: String) -> String {
        for secret in &self.secrets {
            if line.contains(secret.expose()) {
                line = line.replace(secret.expose(), "***");
            }
        }
        line
    }

    /// A new child speaks from now on.
    pub(super) fn clear(&self) {
        *self.said() = Said::default();
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: String) {
        let mut said = self.said();
        if said.lines.len() == TAIL {
            said.lines.pop_front();
            said.forgotten = true;
        }
        said.lines.push_back(line);
    }

    /// The last `n` lines in order. Of a child that said little else the first `n` come before
    /// them: some begin with the reason and go on with a stack.
    pub(super) fn words(&self, n: usize) -> Vec<String> {
        let said = self.said();
        let lines = &said.lines;
        let last = lines.len().saturating_sub(n);
        let first = if said.forgotten { 0 } else { n.min(last) };
        let gap = (first > 0 && first < last).then(|| "…".to_owned());
        lines
            .iter()
            .take(first)
            .cloned()
            .chain(gap)
            .chain(lines.iter().skip(last).cloned())
            .collect()
    }
}

/// Reads to the end. Never stops reading, so a child is never stuck on a full pipe.
pub(super) async fn log_lines(server: &str, mut input: impl AsyncRead + Unpin, tail: &Tail) {
    let mut gate = Gate { window: Instant::now(), spent: 0, withheld: 0 };
    let mut line = Vec::new();
    let mut cut = 0usize;
    let mut chunk = vec![0; 8192];
    loop {
        let read = tokio::select! {
            read = input.read(&mut chunk) => read,
            () = gate.closes() => {
                gate.settle(server);
                continue;
            }
        };
        let n = match read {
            Ok(0) | Err(_) => break,
            Ok(n) => n,
        };
        for &byte in &chunk[..n] {
            if byte == b'\n' {
                finish(server, &mut line, &mut cut, &mut gate, tail);
            } else if line.len() < LINE {
                line.push(byte);
            } else {
                cut += 1;
            }
        }
    }
    if !line.is_empty() {
        finish(server, &mut line, &mut cut, &mut gate, tail);
    }
    gate.settle(server);
}

fn finish(server: &str, line: &mut Vec<u8>, cut: &mut usize, gate: &mut Gate, tail: &Tail) {
    let mut text = tail.redact(printable(line));
    if *cut > 0 {
        text.push_str(&format!(" … ({cut} more bytes)"));
    }
    line.clear();
    *cut = 0;
    if text.is_empty() {
        return;
    }
    if gate.admits(server, text.len()) {
        tracing::info!(target: "backend", server, "{text}");
    }
    tail.push(text);
}

/// A backend's own words inside a message of ours: on one line, and not long.
pub(super) fn told(words: &str) -> String {
    let words = printable(words.as_bytes());
    match words.char_indices().nth(TOLD) {
        Some((end, _)) => format!("{} …", &words[..end]),
        None => words,
    }
}

/// Control characters would let a backend forge log lines or drive a terminal.
fn printable(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut out = String::with_capacity(text.len());
    for c in text.trim_end().chars() {
        if c.is_control() && c != '\t' {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

struct Gate {
    window: Instant,
    spent: usize,
    withheld: u64,
}

impl Gate {
    fn admits(&mut self, server: &str, len: usize) -> bool {
        if self.window.elapsed() >= WINDOW {
            self.settle(server);
            self.window = Instant::now();
            self.spent = 0;
        }
        self.spent += len;
        let admitted = self.spent <= RATE;
        self.withheld += u64::from(!admitted);
        admitted
    }

    /// When the lines left out are to be told, though no more come.
    async fn closes(&self) {
        if self.withheld == 0 {
            return std::future::pending().await;
        }
        tokio::time::sleep(WINDOW.saturating_sub(self.window.elapsed())).await;
    }

    fn settle(&mut self, server: &str) {
        if self.withheld > 0 {
            tracing::warn!(target: "backend", server, "{} lines of stderr left out", self.withheld);
            self.withheld = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_cut_escaped_and_counted() {
        let tail = Tail::default();
        let mut input = b"plain\n\x1b[31mred\r\n\n".to_vec();
        input.extend(vec![b'x'; LINE + 10]);
        input.extend(b"\nlast without newline");
        log_lines("s", input.as_slice(), &tail).await;
        let lines = tail.words(10);
        assert_eq!(lines[0], "plain");
        assert_eq!(lines[1], "\\u{1b}[31mred");
        assert!(lines[2].ends_with("(10 more bytes)"));
        assert_eq!(lines[3], "last without newline");
    }

    #[tokio::test]
    async fn a_flood_is_withheld_but_read() {
        let tail = Tail::default();
        let input = b"0123456789\n".repeat(100_000);
        log_lines("s", input.as_slice(), &tail).await;
        assert_eq!(tail.words(100).len(), TAIL);
        assert_eq!(tail.words(3), ["0123456789"; 3]);
    }

    #[tokio::test]
    async fn the_reason_may_stand_first_or_last() {
        let tail = Tail::default();
        for (lines, words) in
            [(2, "1 2"), (3, "1 2 3"), (5, "1 2 3 4 5"), (6, "1 2 3 4 5 6"), (7, "1 2 3 … 5 6 7")]
        {
            tail.clear();
            let said: String = (1..=lines).map(|n| format!("{n}\n")).collect();
            log_lines("s", said.as_bytes(), &tail).await;
            assert_eq!(tail.words(3).join(" "), words);
        }
    }
}
