//! Lines out of a stream of bytes, as they were written, each with its newline.
//!
//! A line is handed out whole, so that a connection that breaks leaves nothing half said. Memory
//! grows to the longest line, is bounded, and is given back after it.

use std::io::{self, Read};

/// Room that is kept.
const ROOM: usize = 16 << 10;

/// The longest line, as the gateway has it.
pub const LONGEST: usize = 64 << 20;

pub struct Lines<R> {
    source: R,
    buffer: Vec<u8>,
    /// What of `buffer` was read, was handed out, and was searched for a newline.
    filled: usize,
    taken: usize,
    searched: usize,
    skipping: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    Whole(&'a [u8]),
    /// A line longer than [`LONGEST`] was left out.
    TooLong,
    End,
}

impl<R: Read> Lines<R> {
    pub fn new(source: R) -> Self {
        Lines { source, buffer: Vec::new(), filled: 0, taken: 0, searched: 0, skipping: false }
    }

    /// Waits for the next line. An unfinished one at the end is none.
    pub fn next(&mut self) -> io::Result<Line<'_>> {
        loop {
            if let Some(found) = memchr::memchr(b'\n', &self.buffer[self.searched..self.filled]) {
                let start = self.taken;
                self.taken = self.searched + found + 1;
                self.searched = self.taken;
                if std::mem::take(&mut self.skipping) || self.taken - start > LONGEST {
                    return Ok(Line::TooLong);
                }
                return Ok(Line::Whole(&self.buffer[start..self.taken]));
            }
            self.make_room();
            match self.source.read(&mut self.buffer[self.filled..]) {
                Ok(0) => return Ok(Line::End),
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn make_room(&mut self) {
        self.searched = self.filled;
        if self.filled - self.taken > LONGEST || self.skipping {
            self.skipping = true;
            self.taken = self.filled;
        }
        if self.taken > 0 {
            self.buffer.copy_within(self.taken..self.filled, 0);
            self.filled -= self.taken;
            self.searched -= self.taken;
            self.taken = 0;
            if self.filled < ROOM && self.buffer.len() > 4 * ROOM {
                self.buffer.truncate(ROOM);
                self.buffer.shrink_to_fit();
            }
        }
        if self.buffer.len() - self.filled < ROOM / 2 {
            let room = ROOM.max(self.buffer.len());
            self.buffer.resize(self.buffer.len() + room, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives so many bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let many = self.1.min(self.0.len()).min(into.len());
            into[..many].copy_from_slice(&self.0[..many]);
            self.0 = &self.0[many..];
            Ok(many)
        }
    }

    #[test]
    fn lines_come_whole_however_they_were_cut() {
        let long = "x".repeat(3 * ROOM);
        let text = format!("a\n\n{long}\r\nb\n{long}\nrest");
        for step in [1, 2, 7, ROOM, usize::MAX] {
            let mut lines = Lines::new(Slow(text.as_bytes(), step));
            let mut got = Vec::new();
            while let Line::Whole(line) = lines.next().unwrap() {
                got.extend_from_slice(line);
            }
            assert!(got == text.as_bytes()[..text.len() - 4], "{step}");
        }
    }

    #[test]
    fn the_room_of_a_long_line_is_given_back() {
        let text = format!("{}\n{}", "x".repeat(1 << 20), "a\n".repeat(20));
        let mut lines = Lines::new(Slow(text.as_bytes(), 999));
        while lines.next().unwrap() != Line::End {}
        assert!(lines.buffer.capacity() <= 4 * ROOM, "{}", lines.buffer.capacity());
    }

    #[test]
    fn a_line_that_is_too_long_is_left_out() {
        let mut text = vec![b'x'; LONGEST + 2 * ROOM];
        text.extend_from_slice(b"\nnext\n");
        let mut lines = Lines::new(&text[..]);
        // Not `assert_eq`, which would print it.
        assert!(lines.next().unwrap() == Line::TooLong);
        assert_eq!(lines.next().unwrap(), Line::Whole(b"next\n"));
        assert_eq!(lines.next().unwrap(), Line::End);
    }
}
