//! One event as one readable line, the way `tracing-subscriber` writes it without colours, in a
//! tenth of the work: a line is written for every call.
//!
//! What others said reaches the log as one line: control characters are escaped.

use std::{
    fmt::{self, Write},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::fmt::{
    FmtContext, FormatEvent, FormatFields,
    format::Writer,
    time::{self, FormatTime},
};

/// `2026-11-30T23:28:21`, what of a time changes once a second.
const UP_TO_SECONDS: usize = 19;

#[derive(Default)]
pub(super) struct Line {
    second: Mutex<Second>,
}

/// The text of the second that was written last.
#[derive(Default)]
struct Second {
    since_epoch: u64,
    text: String,
}

impl<S: Subscriber, N> FormatEvent<S, N> for Line
where
    S: for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        self.time(&mut line)?;
        let about = event.metadata();
        line.write_str(match *about.level() {
            Level::ERROR => " ERROR ",
            Level::WARN => "  WARN ",
            Level::INFO => "  INFO ",
            Level::DEBUG => " DEBUG ",
            Level::TRACE => " TRACE ",
        })?;
        line.write_str(about.target())?;
        line.write_char(':')?;
        let mut fields = Fields { line, outcome: Ok(()) };
        event.record(&mut fields);
        fields.outcome?;
        fields.line.write_char('\n')
    }
}

impl Line {
    fn time(&self, line: &mut Writer<'_>) -> fmt::Result {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        if second.text.is_empty() || second.since_epoch != now.as_secs() {
            second.since_epoch = now.as_secs();
            second.text.clear();
            time::SystemTime.format_time(&mut Writer::new(&mut second.text))?;
            second.text.truncate(UP_TO_SECONDS);
        }
        line.write_str(&second.text)?;
        let mut micros = now.subsec_micros();
        let mut fraction = *b".000000Z";
        for digit in fraction[1..7].iter_mut().rev() {
            *digit = b'0' + (micros % 10) as u8;
            micros /= 10;
        }
        line.write_str(str::from_utf8(&fraction).map_err(|_| fmt::Error)?)
    }
}

struct Fields<'w> {
    line: Writer<'w>,
    outcome: fmt::Result,
}

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.outcome.is_ok() {
            self.outcome = self.line.write_char(' ').and_then(|()| {
                if field.name() != "message" {
                    self.line.write_str(field.name())?;
                    self.line.write_char('=')?;
                }
                value(&mut self.line)
            });
        }
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, |line| {
            if !is_plain(value) {
                return write!(line, "{value:?}");
            }
            line.write_char('"')?;
            line.write_str(value)?;
            line.write_char('"')
        });
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, |line| line.write_str(itoa::Buffer::new().format(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, |line| write!(OneLine(line), "{value:?}"));
    }
}

/// Whether `{:?}` would write it as it is.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\')
}

/// Escapes what would end the line or drive a terminal.
struct OneLine<'w, 'l>(&'w mut Writer<'l>);

impl Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(|c: char| c.is_control() && c != '\t') {
            self.0.write_str(&rest[..at])?;
            let mut after = rest[at..].chars();
            if let Some(control) = after.next() {
                write!(self.0, "{}", control.escape_default())?;
            }
            rest = after.as_str();
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(std::sync::Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Kept {
        type Writer = Kept;

        fn make_writer(&'a self) -> Kept {
            self.clone()
        }
    }

    /// What the library writes and what this writes, without the time.
    fn both(say: impl Fn()) -> [String; 2] {
        let (theirs, ours) = (Kept::default(), Kept::default());
        let library = tracing_subscriber::fmt().with_ansi(false).with_writer(theirs.clone());
        tracing::subscriber::with_default(library.finish(), &say);
        let lines = tracing_subscriber::fmt().with_ansi(false).with_writer(ours.clone());
        tracing::subscriber::with_default(lines.event_format(Line::default()).finish(), &say);
        [theirs, ours].map(|kept| {
            let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
            assert!(text.as_bytes()[UP_TO_SECONDS] == b'.' && &text[26..27] == "Z", "{text}");
            text[27..].to_owned()
        })
    }

    #[test]
    fn lines_look_as_the_librarys() {
        let uid: Option<u32> = None;
        let [theirs, ours] = both(|| {
            tracing::info!(
                target: "audit",
                session = "abc".get(..2),
                uid,
                gid = Some(7_u32),
                method = "tools/call",
                odd = "a \"b\" \\ é\n",
                shared = true,
                below = -3_i64,
                error = %"x y",
                debug = ?Some("z"),
                ms = u64::MAX,
            );
        });
        assert_eq!(theirs, ours);
        let [theirs, ours] = both(|| tracing::warn!(server = "s", "{} of {}", 1, "many"));
        assert_eq!(theirs, ours);
    }

    #[test]
    fn what_others_say_stays_on_one_line() {
        let [_, ours] = both(|| tracing::error!(why = %"\u{1b}[2J\r", "one\ntwo\tthree"));
        assert!(ours.ends_with(": one\\ntwo\tthree why=\\u{1b}[2J\\r\n"), "{ours}");
    }

    #[test]
    fn the_time_is_that_of_the_line() {
        let line = Line::default();
        let said = || {
            let mut text = String::new();
            line.time(&mut Writer::new(&mut text)).unwrap();
            text
        };
        let mut theirs = String::new();
        let before = said();
        time::SystemTime.format_time(&mut Writer::new(&mut theirs)).unwrap();
        let after = said();
        assert!(before <= theirs && theirs <= after, "{before} {theirs} {after}");
    }
}
