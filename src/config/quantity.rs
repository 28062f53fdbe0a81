//! Durations and sizes as people write them: `300`, `1.5`, `5m`, `500ms`; `8388608`, `8M`, `512KiB`.

use std::time::Duration;

use super::scalar::{Scalar, resolve};

/// Longer than any sensible wait, and short enough to be added to a clock.
const MAX_DURATION: Duration = Duration::from_secs(365 * 24 * 3600);

/// Reads a duration; a bare number is seconds. The error is the remedy.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    let seconds = match resolve(text) {
        Scalar::Int(n) => n as f64,
        Scalar::Float(x) => x,
        _ => with_unit(text).ok_or("write seconds, or a number with ms, s, m, h or d")?,
    };
    if seconds < 0.0 {
        return Err("a duration cannot be negative");
    }
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| *duration <= MAX_DURATION)
        .ok_or("a duration is at most 365d")
}

fn with_unit(text: &str) -> Option<f64> {
    let start = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(start);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return None,
    };
    Some(number.trim_end().parse::<f64>().ok()? * seconds)
}

/// The shortest text that [`duration`] reads back as the same.
pub(super) fn duration_text(duration: Duration) -> String {
    let whole = duration.as_secs();
    match duration.subsec_nanos() {
        0 if whole > 0 && whole.is_multiple_of(3600) => format!("{}h", whole / 3600),
        0 if whole > 600 && whole.is_multiple_of(60) => format!("{}m", whole / 60),
        0 => format!("{whole}s"),
        nanos if nanos % 1_000_000 == 0 => format!("{}ms", duration.as_millis()),
        _ => format!("{}s", duration.as_secs_f64()),
    }
}

/// Reads a size in bytes; `K`, `M` and `G` are powers of 1024, with or without `iB`.
pub(super) fn size(text: &str) -> Option<u64> {
    if let Scalar::Int(n) = resolve(text) {
        return u64::try_from(n).ok();
    }
    let start = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(start);
    let shift = match unit {
        "B" => 0,
        "K" | "KiB" | "k" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        _ => return None,
    };
    number.trim_end().parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// The shortest text that [`size`] reads back as the same.
pub(super) fn size_text(bytes: u64) -> String {
    [(30, "GiB"), (20, "MiB"), (10, "KiB")]
        .into_iter()
        .find(|(shift, _)| bytes > 0 && bytes.is_multiple_of(1 << shift))
        .map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let table = [
            ("300", Some(300_000)),
            ("0", Some(0)),
            ("1.5", Some(1500)),
            ("5:00", Some(300_000)),
            ("300s", Some(300_000)),
            ("5m", Some(300_000)),
            ("5 m", Some(300_000)),
            ("1h", Some(3_600_000)),
            ("500ms", Some(500)),
            ("1.5h", Some(5_400_000)),
            ("-1", None),
            ("-5m", None),
            ("abc", None),
            ("", None),
            ("5 minutes", None),
            ("infs", None),
            (".inf", None),
            (".nan", None),
            ("1e400s", None),
            ("366d", None),
        ];
        for (text, millis) in table {
            let read = duration(text).ok();
            assert_eq!(read, millis.map(Duration::from_millis), "{text:?}");
            if let Some(read) = read {
                assert_eq!(duration(&duration_text(read)), Ok(read), "{text:?}");
            }
        }
    }

    #[test]
    fn sizes() {
        let table = [
            ("65536", Some(65536)),
            ("8M", Some(8 << 20)),
            ("8MiB", Some(8 << 20)),
            ("512K", Some(512 << 10)),
            ("1G", Some(1 << 30)),
            ("1_000", Some(1000)),
            ("-1", None),
            ("8MB", None),
            ("1.5M", None),
            ("99999999999G", None),
            ("", None),
        ];
        for (text, bytes) in table {
            let read = size(text);
            assert_eq!(read, bytes, "{text:?}");
            if let Some(read) = read {
                assert_eq!(size(&size_text(read)), Some(read), "{text:?}");
            }
        }
    }
}
