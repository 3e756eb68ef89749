//! What a text without quotes means: the core schema of YAML 1.2, and nothing else.
//!
//! `yes`, `no`, `on`, `off` are strings. `010` is ten, `0o10` is eight. No dates, no base 60.

use super::value::Value;

/// The value of a text without quotes.
///
/// An integer that does not fit 64 bits with a sign becomes a floating point number: whoever wants an
/// integer then refuses it, where a wrapped or clipped one would pass.
pub(super) fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        _ => {}
    }
    int(text)
        .or_else(|| float(text).map(Value::Float))
        .unwrap_or_else(|| Value::Str(text.to_owned()))
}

fn int(text: &str) -> Option<Value> {
    let only =
        |digits: &str, radix| !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    for (prefix, radix) in [("0o", 8), ("0x", 16)] {
        if let Some(digits) = text.strip_prefix(prefix) {
            let wide = only(digits, radix).then(|| u128::from_str_radix(digits, radix).ok())??;
            return Some(i64::try_from(wide).map_or(Value::Float(wide as f64), Value::Int));
        }
    }
    only(text.strip_prefix(['-', '+']).unwrap_or(text), 10)
        .then(|| text.parse().ok().map(Value::Int))?
}

fn float(text: &str) -> Option<f64> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if matches!(rest, ".inf" | ".Inf" | ".INF") {
        return Some(sign * f64::INFINITY);
    }
    // Rust reads more than the schema allows ("inf", "nan"), never less.
    let begins = rest
        .trim_start_matches('.')
        .starts_with(|c: char| c.is_ascii_digit());
    let allowed = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'e' | 'E' | '+' | '-');
    if begins && rest.chars().all(allowed) {
        Some(sign * rest.parse::<f64>().ok()?)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_pinned() {
        let s = |text: &str| Value::Str(text.into());
        for (text, value) in [
            ("", Value::Null),
            ("~", Value::Null),
            ("null", Value::Null),
            ("nULL", s("nULL")),
            ("true", Value::Bool(true)),
            ("FALSE", Value::Bool(false)),
            ("tRue", s("tRue")),
            ("yes", s("yes")),
            ("no", s("no")),
            ("on", s("on")),
            ("Off", s("Off")),
            ("y", s("y")),
            ("0", Value::Int(0)),
            ("-0", Value::Int(0)),
            ("+7", Value::Int(7)),
            ("010", Value::Int(10)),
            ("08", Value::Int(8)),
            ("0o10", Value::Int(8)),
            ("0x1F", Value::Int(31)),
            ("0o8", s("0o8")),
            ("0x", s("0x")),
            ("-0x1", s("-0x1")),
            ("0b1", s("0b1")),
            ("1_000", s("1_000")),
            ("1:30", s("1:30")),
            ("2020-01-01", s("2020-01-01")),
            ("9223372036854775807", Value::Int(i64::MAX)),
            ("-9223372036854775808", Value::Int(i64::MIN)),
            ("1.5", Value::Float(1.5)),
            ("-.5", Value::Float(-0.5)),
            ("1.", Value::Float(1.0)),
            ("1e3", Value::Float(1000.0)),
            ("1.5E-3", Value::Float(0.0015)),
            ("010.5", Value::Float(10.5)),
            (".inf", Value::Float(f64::INFINITY)),
            ("-.INF", Value::Float(f64::NEG_INFINITY)),
            ("inf", s("inf")),
            ("nan", s("nan")),
            (".", s(".")),
            ("..5", s("..5")),
            ("1.2.3", s("1.2.3")),
            ("e3", s("e3")),
            ("1e", s("1e")),
            ("-", s("-")),
            ("--1", s("--1")),
            ("+-1", s("+-1")),
            ("127.0.0.1:80", s("127.0.0.1:80")),
        ] {
            assert_eq!(resolve(text), value, "{text}");
        }
        assert!(matches!(resolve(".nan"), Value::Float(n) if n.is_nan()));
        for (text, number) in [
            ("9223372036854775808", 9223372036854775808.0),
            ("-9223372036854775809", -9223372036854775808.0),
            ("0xFFFFFFFFFFFFFFFF", 18446744073709551615.0),
        ] {
            assert_eq!(resolve(text), Value::Float(number), "{text}");
        }
        let huge = format!("0x{}", "F".repeat(40));
        assert_eq!(resolve(&huge), s(&huge));
    }
}
