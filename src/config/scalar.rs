//! What a plain scalar means in YAML 1.1, as PyYAML reads it.
//!
//! `no` and `off` are bools, `010` is eight and `22:22` is 1342. Text that was quoted never comes
//! here. [`python_text`] says what `str()` made of the value, which is what the Python gateway put
//! into a child's environment.

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    /// Anything else, dates and integers beyond `i128` among them.
    Text,
}

pub(super) fn resolve(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Scalar::Bool(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Scalar::Bool(false)
        }
        _ => float(text)
            .map(Scalar::Float)
            .or_else(|| int(text).map(Scalar::Int))
            .unwrap_or(Scalar::Text),
    }
}

/// What PyYAML and `str()` make of a plain scalar, if that is not the text as written.
pub(super) fn python_text(text: &str) -> Option<String> {
    let python = match resolve(text) {
        Scalar::Null => "None".to_owned(),
        Scalar::Bool(true) => "True".to_owned(),
        Scalar::Bool(false) => "False".to_owned(),
        Scalar::Int(n) => n.to_string(),
        Scalar::Float(x) => python_float(x),
        Scalar::Text => super::timestamp::python_text(text)?,
    };
    (python != text).then_some(python)
}

/// Splits off one sign; the bool says whether it was a minus.
fn sign(text: &str) -> (bool, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    }
}

fn int(text: &str) -> Option<i128> {
    let (minus, body) = sign(text);
    let radix = |digits: &str, radix: u32| {
        let digits = digits.replace('_', "");
        // `from_str_radix` would take a sign of its own.
        digits
            .starts_with(|c: char| c.is_ascii_alphanumeric())
            .then(|| i128::from_str_radix(&digits, radix).ok())?
    };
    let value = if let Some(bits) = body.strip_prefix("0b") {
        radix(bits, 2)?
    } else if let Some(hex) = body.strip_prefix("0x") {
        radix(hex, 16)?
    } else if body.trim_end_matches('_') == "0" {
        0
    } else if let Some(octal) = body.strip_prefix('0') {
        radix(octal, 8)?
    } else if !body.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    } else if let Some((head, tail)) = body.split_once(':') {
        tail.split(':').try_fold(radix(head, 10)?, |sum, part| {
            sum.checked_mul(60)?.checked_add(sixty(part)?)
        })?
    } else {
        radix(body, 10)?
    };
    Some(if minus { -value } else { value })
}

/// A part of a sexagesimal number: `[0-5]?[0-9]`.
fn sixty(part: &str) -> Option<i128> {
    let digits = (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| part.parse().ok())?.filter(|&n| n < 60)
}

fn float(text: &str) -> Option<f64> {
    match text {
        ".nan" | ".NaN" | ".NAN" => return Some(f64::NAN),
        _ => {}
    }
    let (minus, body) = sign(text);
    let value = match body {
        ".inf" | ".Inf" | ".INF" => f64::INFINITY,
        _ => decimal(body, body.len() != text.len())?,
    };
    Some(if minus { -value } else { value })
}

/// `1.5`, `1_0.`, `.5`, `1.0e+3`, `1:30.5`. An exponent needs its sign, and a number that starts
/// with its point has none in front: PyYAML's rules.
fn decimal(body: &str, signed: bool) -> Option<f64> {
    let (whole, rest) = body.split_once('.')?;
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let (fraction, exponent) = match rest.find(['e', 'E']) {
        Some(i) => (&rest[..i], Some(&rest[i + 1..])),
        None => (rest, None),
    };
    if !digits(fraction) {
        return None;
    }
    if let Some(exponent) = exponent {
        let bare = exponent.strip_prefix(['+', '-'])?;
        if bare.is_empty() || !bare.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
    }
    if whole.is_empty() {
        if signed || !fraction.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
    } else if !whole.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if let Some((head, tail)) = whole.split_once(':') {
        if exponent.is_some() || !digits(head) {
            return None;
        }
        let head: f64 = head.replace('_', "").parse().ok()?;
        let parts =
            tail.split(':').try_fold(head, |sum, part| Some(sum * 60.0 + sixty(part)? as f64))?;
        return Some(parts + format!("0.{}", fraction.replace('_', "")).parse::<f64>().ok()?);
    }
    digits(whole).then(|| body.replace('_', "").parse().ok())?
}

/// Python's `repr` of a float: the shortest digits, with an exponent below 1e-4 and from 1e16.
fn python_float(x: f64) -> String {
    if x.is_nan() {
        return "nan".to_owned();
    }
    if x.is_infinite() {
        return if x < 0.0 { "-inf" } else { "inf" }.to_owned();
    }
    let scientific = format!("{x:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if x != 0.0 && !(-4..16).contains(&exponent) {
        let mark = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{mark}{:02}", exponent.abs());
    }
    let plain = x.to_string();
    if plain.contains('.') { plain } else { format!("{plain}.0") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_pyyaml_makes_of_them() {
        use Scalar::{Bool, Float, Int, Null, Text};
        let table = [
            ("", Null),
            ("~", Null),
            ("null", Null),
            ("nUll", Text),
            ("yes", Bool(true)),
            ("On", Bool(true)),
            ("TRUE", Bool(true)),
            ("no", Bool(false)),
            ("OFF", Bool(false)),
            ("False", Bool(false)),
            ("y", Text),
            ("yEs", Text),
            ("0", Int(0)),
            ("-0", Int(0)),
            ("+12", Int(12)),
            ("010", Int(8)),
            ("-010", Int(-8)),
            ("08", Text),
            ("0x1F", Int(31)),
            ("0X1F", Text),
            ("0x", Text),
            ("0x+1", Text),
            ("0b101", Int(5)),
            ("0b2", Text),
            ("0_", Int(0)),
            ("0o17", Text),
            ("1_000", Int(1000)),
            ("_1", Text),
            ("22:22", Int(1342)),
            ("1:00:00", Int(3600)),
            ("22:60", Text),
            ("1:", Text),
            ("0:10", Text),
            ("--1", Text),
            ("1.10", Float(1.1)),
            ("1.", Float(1.0)),
            (".5", Float(0.5)),
            ("-.5", Text),
            (".", Text),
            ("1e5", Text),
            ("1.0e5", Text),
            ("1.0e+5", Float(100_000.0)),
            ("1:30.5", Float(90.5)),
            (".inf", Float(f64::INFINITY)),
            ("-.Inf", Float(f64::NEG_INFINITY)),
            ("inf", Text),
            ("1.2.3", Text),
            ("2024-01-01", Text),
            ("340282366920938463463374607431768211456", Text),
        ];
        for (text, expected) in table {
            assert_eq!(resolve(text), expected, "{text:?}");
        }
        assert!(matches!(resolve(".NaN"), Float(x) if x.is_nan()));
    }

    #[test]
    fn python_texts() {
        let table = [
            ("true", Some("True")),
            ("True", None),
            ("no", Some("False")),
            ("null", Some("None")),
            ("", Some("None")),
            ("5", None),
            ("+5", Some("5")),
            ("010", Some("8")),
            ("1_000", Some("1000")),
            ("22:22", Some("1342")),
            ("1.10", Some("1.1")),
            ("1.5", None),
            ("1.", Some("1.0")),
            (".5", Some("0.5")),
            ("0.00001", Some("1e-05")),
            ("0.0001", None),
            ("12345678901234567.0", Some("1.2345678901234568e+16")),
            ("1234567890123456.0", None),
            ("1.0e+2", Some("100.0")),
            ("-0.0", None),
            (".inf", Some("inf")),
            (".nan", Some("nan")),
            ("2024-01-01", None),
            ("hello", None),
        ];
        for (text, expected) in table {
            assert_eq!(python_text(text).as_deref(), expected, "{text:?}");
        }
    }
}
