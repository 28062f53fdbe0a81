//! Unsolicited messages that wait until their client listens. Bounded: the oldest make room.

use std::collections::VecDeque;

use bytes::Bytes;

const MESSAGES: usize = 64;
/// A message that is longer waits alone.
const BYTES: usize = 1 << 20;

#[derive(Default)]
pub(super) struct Backlog(VecDeque<Bytes>);

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn push(&mut self, message: Bytes) {
        self.0.push_back(message);
        let mut bytes: usize = self.0.iter().map(Bytes::len).sum();
        while self.0.len() > MESSAGES || (bytes > BYTES && self.0.len() > 1) {
            bytes -= self.0.pop_front().map_or(0, |oldest| oldest.len());
        }
    }
}

impl IntoIterator for Backlog {
    type Item = Bytes;
    type IntoIter = std::collections::vec_deque::IntoIter<Bytes>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_make_room_by_number_and_by_bytes() {
        let mut backlog = Backlog::default();
        for _ in 0..2 * MESSAGES {
            backlog.push(Bytes::from_static(b"x"));
        }
        assert_eq!(backlog.0.len(), MESSAGES);
        for _ in 0..3 {
            backlog.push(Bytes::from(vec![b'y'; BYTES / 2]));
        }
        assert_eq!(backlog.0.len(), 2, "the newest that fit");
        backlog.push(Bytes::from(vec![b'z'; BYTES * 2]));
        assert_eq!(backlog.0.len(), 1, "one that is too long waits alone");
        backlog.push(Bytes::from_static(b"x"));
        assert_eq!(backlog.into_iter().collect::<Vec<_>>(), ["x"]);
    }
}
