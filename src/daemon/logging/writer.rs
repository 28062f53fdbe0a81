//! Writes log lines to stderr on a thread of its own, many with one write where many come.
//!
//! A call writes a line, and waking a thread for each costs more than the line. So the thread
//! writes at once what comes after a silence, and then gathers for a moment. What does not fit is
//! left out and counted: nobody waits for a slow reader of stderr.

use std::{
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

/// Bytes that wait for a slow reader.
const ROOM: usize = 1 << 20;
/// The room of a burst is given back.
const KEPT: usize = 64 << 10;
/// How long lines are gathered after a write.
const GATHER: Duration = Duration::from_millis(5);
/// How long the end waits for a reader to take the last lines.
const LAST: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    left_out: usize,
    /// The thread waits for the next line.
    sleeping: bool,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where lines go in. Each is written with one call.
pub(super) struct Lines(Arc<Shared>);

/// Dropped, it writes what still waits.
pub struct Guard {
    shared: Arc<Shared>,
    ended: mpsc::Receiver<()>,
}

pub(super) fn start(output: impl Write + Send + 'static) -> io::Result<(Lines, Guard)> {
    let shared = Arc::new(Shared::default());
    let (end, ended) = mpsc::channel();
    let of_thread = Arc::clone(&shared);
    thread::Builder::new().name("log".to_owned()).spawn(move || {
        write(&of_thread, output);
        let _ = end.send(());
    })?;
    Ok((Lines(Arc::clone(&shared)), Guard { shared, ended }))
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Lines;

    fn make_writer(&'a self) -> &'a Lines {
        self
    }
}

impl Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.0.lock();
        if waiting.bytes.len() + line.len() > ROOM {
            waiting.left_out += 1;
            return Ok(line.len());
        }
        waiting.bytes.extend_from_slice(line);
        let sleeping = std::mem::take(&mut waiting.sleeping);
        drop(waiting);
        if sleeping {
            self.0.more.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.more.notify_one();
        let _ = self.ended.recv_timeout(LAST);
    }
}

/// Until the guard is dropped and everything is written. That a write failed is told to nobody: this
/// is where it would be told.
fn write(shared: &Shared, mut output: impl Write) {
    let mut taken = Vec::new();
    loop {
        let mut waiting = shared.lock();
        while waiting.bytes.is_empty() && !waiting.closed {
            waiting.sleeping = true;
            waiting = shared.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut taken, &mut waiting.bytes);
        let left_out = std::mem::take(&mut waiting.left_out);
        let last = waiting.closed;
        drop(waiting);
        let _ = output.write_all(&taken);
        if left_out > 0 {
            let _ = writeln!(output, "{left_out} log lines left out: this is not read fast enough");
        }
        let _ = output.flush();
        if last {
            return;
        }
        taken.clear();
        taken.shrink_to(KEPT);
        let gathering = shared.lock();
        let wait = shared.more.wait_timeout_while(gathering, GATHER, |waiting| !waiting.closed);
        drop(wait.unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tells each write, and waits for leave to do it.
    struct Slow {
        told: mpsc::Sender<Vec<u8>>,
        leave: mpsc::Receiver<()>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.told.send(bytes.to_vec());
            let _ = self.leave.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (Slow, mpsc::Receiver<Vec<u8>>, mpsc::Sender<()>) {
        let ((told, heard), (give, leave)) = (mpsc::channel(), mpsc::channel());
        (Slow { told, leave }, heard, give)
    }

    #[test]
    fn what_comes_while_it_writes_is_the_next_write() {
        let (output, heard, give) = slow();
        let (lines, guard) = start(output).unwrap();
        (&lines).write_all(b"one\n").unwrap();
        assert_eq!(heard.recv().unwrap(), b"one\n");
        (&lines).write_all(b"two\n").unwrap();
        (&lines).write_all(b"three\n").unwrap();
        give.send(()).unwrap();
        assert_eq!(heard.recv().unwrap(), b"two\nthree\n");
        give.send(()).unwrap();
        drop(guard);
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_counted() {
        let (output, heard, give) = slow();
        let (lines, guard) = start(output).unwrap();
        let line = vec![b'x'; ROOM / 4];
        for _ in 0..9 {
            (&lines).write_all(&line).unwrap();
        }
        drop(give);
        drop(guard);
        let all: Vec<u8> = heard.iter().flatten().collect();
        let whole = all.iter().filter(|byte| **byte == b'x').count() / line.len();
        assert!((4..=8).contains(&whole), "{whole}");
        let told = format!("{} log lines left out", 9 - whole);
        assert!(String::from_utf8(all).unwrap().contains(&told), "{told}");
    }

    #[test]
    fn the_end_writes_what_waits_and_does_not_wait_for_ever() {
        let (output, heard, give) = slow();
        let (lines, guard) = start(output).unwrap();
        (&lines).write_all(b"last\n").unwrap();
        drop(guard);
        assert_eq!(heard.recv().unwrap(), b"last\n");
        drop(give);
    }
}
