//! The fields of an event or a span, written as they are visited.

use std::{
    error::Error,
    fmt::{self, Write as _},
    panic::{AssertUnwindSafe, catch_unwind},
};

use tracing::{
    Metadata,
    field::{Field, Visit},
};

use super::LogFormat;
use crate::access_log::{escape_json, escape_text, is_dangerous};

/// A value is cut off after so many bytes.
const LONGEST: usize = 64 * 1024;

/// What a line says itself. A field of such a name is written as `field.name`.
const RESERVED: [&str; 7] = [
    "timestamp",
    "level",
    "target",
    "trace_id",
    "span_id",
    "request_id",
    "spans",
];

pub(super) struct Fields<'a> {
    pub(super) format: LogFormat,
    pub(super) of: &'static Metadata<'static>,
    pub(super) out: &'a mut String,
    pub(super) scratch: &'a mut String,
}

impl Fields<'_> {
    /// Writes the name of a field. False for the message of a line of text, which has none.
    fn name(&mut self, field: &Field) -> bool {
        let name = field.name();
        let name = name.strip_prefix("r#").unwrap_or(name);
        // Said twice, the second one has its number.
        let again = self
            .of
            .fields()
            .field(field.name())
            .is_some_and(|first| first != *field);
        match self.format {
            LogFormat::Text => {
                if name == "message" && !again {
                    self.out.push(' ');
                    return false;
                }
                self.out.push(' ');
                self.write_name(name, field, again);
                self.out.push('=');
            }
            LogFormat::Json => {
                // Those of a span are put between braces later.
                if !self.out.is_empty() {
                    self.out.push(',');
                }
                self.out.push('"');
                self.write_name(name, field, again);
                self.out.push_str("\":");
            }
        }
        true
    }

    /// Names are the programmer's, and any text: `"a b" = 1`.
    fn write_name(&mut self, name: &str, field: &Field, again: bool) {
        if RESERVED.contains(&name) {
            self.out.push_str("field.");
        }
        for c in name.chars() {
            let plain = !matches!(c, '"' | '\\' | '=' | ' ') && !is_dangerous(c);
            self.out.push(if plain { c } else { '_' });
        }
        if again {
            _ = write!(self.out, ".{}", field.index());
        }
    }

    fn number(&mut self, field: &Field, value: impl fmt::Display) {
        self.name(field);
        _ = write!(self.out, "{value}");
    }

    /// Too large to be a number to everybody who reads JSON.
    fn large(&mut self, field: &Field, value: impl fmt::Display) {
        self.name(field);
        _ = match self.format {
            LogFormat::Text => write!(self.out, "{value}"),
            LogFormat::Json => write!(self.out, "\"{value}\""),
        };
    }

    fn text(&mut self, field: &Field, value: &str) {
        let named = self.name(field);
        self.value(named, value);
    }

    fn value(&mut self, named: bool, value: &str) {
        match self.format {
            LogFormat::Json => escape_json(self.out, value.as_bytes()),
            LogFormat::Text if named => escape_text(self.out, value.as_bytes()),
            LogFormat::Text => message(self.out, value),
        }
    }

    /// Writes what `format` writes, whatever it does.
    fn formatted(&mut self, field: &Field, format: impl FnOnce(&mut Cut<'_>) -> fmt::Result) {
        let mut scratch = std::mem::take(self.scratch);
        scratch.clear();
        let mut cut = Cut(&mut scratch);
        let formatted = catch_unwind(AssertUnwindSafe(|| format(&mut cut)));
        match formatted {
            Ok(Ok(())) => {}
            Ok(Err(_)) => scratch.push_str("<cannot be formatted>"),
            Err(_) => scratch.push_str("<panicked>"),
        }
        self.text(field, &scratch);
        *self.scratch = scratch;
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.formatted(field, |out| write!(out, "{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, cut(value));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.number(field, value);
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(field, value);
    }
    fn record_i128(&mut self, field: &Field, value: i128) {
        self.large(field, value);
    }
    fn record_u128(&mut self, field: &Field, value: u128) {
        self.large(field, value);
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.number(field, value);
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no others.
        if value.is_finite() {
            self.number(field, value)
        } else {
            self.large(field, value)
        }
    }
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.formatted(field, |out| {
            write!(out, "{value}")?;
            // A chain may be made to go in circles.
            let causes = std::iter::successors(value.source(), |error| (*error).source());
            causes
                .take(16)
                .try_for_each(|cause| write!(out, ": {cause}"))
        });
    }
}

/// A text of a line that has no quotes: as it is, but for what would break the line or reach a terminal.
pub(super) fn message(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push('\t'),
            c if is_dangerous(c) => _ = write!(out, "\\u{{{:x}}}", u32::from(c)),
            c => out.push(c),
        }
    }
}

fn cut(value: &str) -> &str {
    &value[..floor(value, LONGEST)]
}

/// Keeps the beginning of what is written.
struct Cut<'a>(&'a mut String);

impl fmt::Write for Cut<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LONGEST.saturating_sub(self.0.len());
        self.0.push_str(&text[..floor(text, room)]);
        Ok(())
    }
}

fn floor(text: &str, upto: usize) -> usize {
    let mut upto = upto.min(text.len());
    while !text.is_char_boundary(upto) {
        upto -= 1;
    }
    upto
}
