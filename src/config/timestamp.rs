//! YAML 1.1 timestamps: what `str()` made of the date that PyYAML saw in a plain scalar.
//!
//! Nothing else in the config is a date; this only tells a user that `2024-01-01T10:00:00Z` used to
//! reach the child in another form.

/// The text that PyYAML would have given, or `None` if this is no timestamp.
pub(super) fn python_text(text: &str) -> Option<String> {
    if !text.is_ascii() {
        return None;
    }
    let (date, time) = match text.find(['T', 't', ' ', '\t']) {
        Some(i) => (&text[..i], Some(&text[i + 1..])),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let short = |part: &str| number(part, 1, 2);
    let (y, m, d) = (number(year, 4, 4)?, short(month)?, short(day)?);
    if parts.next().is_some() || y == 0 || !(1..=12).contains(&m) || !(1..=31).contains(&d) {
        return None;
    }
    let Some(time) = time else {
        return (month.len() == 2 && day.len() == 2).then(|| text.to_owned());
    };
    let time = time.trim_start_matches([' ', '\t']);
    let (clock, zone) = match time.find([' ', '\t', 'Z', '+', '-']) {
        Some(i) => (&time[..i], time[i..].trim_start_matches([' ', '\t'])),
        None => (time, ""),
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut parts = clock.split(':');
    let (hour, minute, second) =
        (short(parts.next()?)?, number(parts.next()?, 2, 2)?, number(parts.next()?, 2, 2)?);
    let odd = parts.next().is_some() || hour > 23 || minute > 59 || second > 59;
    if odd || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let micros = format!("{:0<6.6}", fraction);
    let micros = if micros == "000000" { String::new() } else { format!(".{micros}") };
    let zone = python_zone(zone)?;
    Some(format!("{y:04}-{m:02}-{d:02} {hour:02}:{minute:02}:{second:02}{micros}{zone}"))
}

fn python_zone(zone: &str) -> Option<String> {
    if zone.is_empty() {
        return Some(String::new());
    }
    if zone == "Z" {
        return Some("+00:00".to_owned());
    }
    let sign = zone.chars().next().filter(|c| matches!(c, '+' | '-'))?;
    let (hours, minutes) = zone[1..].split_once(':').unwrap_or((&zone[1..], "00"));
    let (hours, minutes) = (number(hours, 1, 2)?, number(minutes, 2, 2)?);
    let sign = if hours == 0 && minutes == 0 { '+' } else { sign };
    (hours < 24 && minutes < 60).then(|| format!("{sign}{hours:02}:{minutes:02}"))
}

fn number(text: &str, least: usize, most: usize) -> Option<u32> {
    let fits = (least..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    fits.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    #[test]
    fn timestamps_as_python_prints_them() {
        let table = [
            ("2024-01-01", Some("2024-01-01")),
            ("2024-1-1", None),
            ("2024-13-01", None),
            ("2001-12-14t21:59:43.10-05:00", Some("2001-12-14 21:59:43.100000-05:00")),
            ("2001-12-15T02:59:43.1Z", Some("2001-12-15 02:59:43.100000+00:00")),
            ("2001-12-14 21:59:43.10 -5", Some("2001-12-14 21:59:43.100000-05:00")),
            ("2001-12-15 2:59:43", Some("2001-12-15 02:59:43")),
            ("2001-12-15 2:59", None),
            ("1.2.3", None),
            ("häh", None),
        ];
        for (text, expected) in table {
            assert_eq!(super::python_text(text).as_deref(), expected, "{text:?}");
        }
    }
}
