//! Texts of any kind, in which names have values.

use super::{
    MASK, Redact,
    decode::{decoded, unescaped},
};

/// Reads a text for names and their values. It takes what is no JSON too: of a broken document the secrets must not be
/// shown either.
pub(super) struct Scan<'a> {
    redact: &'a Redact,
    text: &'a str,
    /// How much deeper a string in it is read.
    nested: u32,
    at: usize,
    /// The text before it is in `out`; 0 as long as nothing was masked.
    copied: usize,
    /// Of brackets.
    depth: u32,
    out: String,
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'$' | b'%' | 0x80..)
}

impl<'a> Scan<'a> {
    pub(super) const fn new(redact: &'a Redact, text: &'a str, nested: u32) -> Self {
        Self {
            redact,
            text,
            nested,
            at: 0,
            copied: 0,
            depth: 0,
            out: String::new(),
        }
    }

    /// What was read, if anything in it was masked.
    pub(super) fn masked(mut self) -> Option<String> {
        if self.copied == 0 {
            return None;
        }
        let rest = self.text.get(self.copied..).unwrap_or_default();
        self.out.push_str(rest);
        Some(self.out)
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    fn slice(&self, from: usize, to: usize) -> &str {
        self.text.get(from..to).unwrap_or_default()
    }

    /// The first place from `at` on whose byte is none of them.
    fn past(&self, mut at: usize, skip: impl Fn(u8) -> bool) -> usize {
        while self.byte(at).is_some_and(&skip) {
            at += 1;
        }
        at
    }

    pub(super) fn run(&mut self) {
        while let Some(byte) = self.byte(self.at) {
            match byte {
                b'"' | b'\'' => self.string(byte),
                b'{' | b'[' => {
                    self.depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.at += 1;
                }
                b'/' if self.slice(self.at, self.at + 2) == "//" => self.authority(),
                byte if is_word(byte) => self.word(),
                _ => self.at += 1,
            }
        }
    }

    /// Where a string ends that begins at `at`: its last letter, and the place behind its quote.
    fn end_of_string(&self, at: usize) -> (usize, usize) {
        let quote = self.byte(at);
        let mut end = at + 1;
        while let Some(byte) = self.byte(end) {
            match byte {
                b'\\' => end += 2,
                _ if Some(byte) == quote => return (end, end + 1),
                _ => end += 1,
            }
        }
        let end = self.text.len();
        (end, end)
    }

    fn string(&mut self, quote: u8) {
        let begin = self.at;
        let (last, end) = self.end_of_string(begin);
        self.at = end;
        let content = unescaped(self.slice(begin + 1, last)).into_owned();
        if self.is_name(&content, end) {
            return;
        }
        if self.nested == 0 {
            if self.redact.is_secret(&content) {
                self.put(begin, end, "\"***\"");
            }
            return;
        }
        // A text in a text: a message, or JSON once more.
        if let Some(inner) = self.redact.scan(&content, self.nested - 1) {
            let mut masked = String::new();
            if quote == b'"' {
                super::super::escape::json(&mut masked, inner.as_bytes());
            } else {
                // Perhaps it was none: it isn't one.
                let close = if last < end { "'" } else { "" };
                masked = format!("'{inner}{close}");
            }
            self.put(begin, end, &masked);
        }
    }

    fn word(&mut self) {
        let begin = self.at;
        let end = self.past(begin, is_word);
        self.at = end;
        let tag = begin > 0 && self.byte(begin - 1) == Some(b'<') && self.byte(end) == Some(b'>');
        let word = decoded(self.slice(begin, end)).into_owned();
        if tag && self.redact.is_secret(&word) {
            let value = end + 1;
            let value_end = self.past(value, |byte| byte != b'<');
            self.put(value, value_end, MASK);
            return;
        }
        if self.is_name(&word, end) {
            return;
        }
        // `Bearer eyJ…` in the middle of a text.
        let value = self.past(end, |byte| byte == b' ');
        let value_end = self.past(value, |byte| byte.is_ascii_graphic() && byte != b'"');
        if word.eq_ignore_ascii_case("bearer") && value > end && value_end > value + 5 {
            self.put(value, value_end, MASK);
        }
    }

    /// Whether `name`, which ended at `end`, has a value. If it is a secret, masks it.
    fn is_name(&mut self, name: &str, end: usize) -> bool {
        let sign = self.past(end, |byte| {
            matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b']')
        });
        if !matches!(self.byte(sign), Some(b':' | b'=')) {
            return false;
        }
        self.at = self.past(sign + 1, |byte| matches!(byte, b'=' | b'>' | b':'));
        if self.redact.is_secret(name) {
            self.mask_value();
        }
        true
    }

    fn mask_value(&mut self) {
        let begin = self.past(self.at, |byte| byte.is_ascii_whitespace());
        let inside = self.depth > 0;
        let (end, quoted) = match self.byte(begin) {
            None => return,
            Some(b'"' | b'\'') => (self.end_of_string(begin).1, true),
            Some(b'{' | b'[') => (self.end_of_brackets(begin), true),
            Some(_) => (begin, inside),
        };
        // Behind a quote that was a letter of it ('it's'), and where there was none.
        let end = if end == begin || self.byte(end).is_some_and(is_word) {
            self.past(end, |byte| match byte {
                b'\n' | b'&' | b'<' => false,
                b',' | b'}' | b']' => !inside,
                _ => true,
            })
        } else {
            end
        };
        if quoted {
            self.put(begin, end, "\"***\"");
        } else {
            self.put(begin, end, MASK);
        }
    }

    fn end_of_brackets(&self, mut at: usize) -> usize {
        let mut depth = 0_u32;
        while let Some(byte) = self.byte(at) {
            match byte {
                b'"' | b'\'' => {
                    at = self.end_of_string(at).1;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 {
                return at;
            }
        }
        self.text.len()
    }

    /// `//user:password@host`.
    fn authority(&mut self) {
        let begin = self.at + 2;
        let end = self.past(begin, |byte| {
            !byte.is_ascii_whitespace() && !matches!(byte, b'/' | b'"' | b'\'' | b'?' | b'#')
        });
        match self.slice(begin, end).rfind('@') {
            Some(at) => self.put(begin, begin + at, MASK),
            None => self.at = begin,
        }
    }

    /// Writes `instead` for the text from `begin` to `end`, and goes on behind it.
    fn put(&mut self, begin: usize, end: usize, instead: &str) {
        self.out
            .push_str(self.text.get(self.copied..begin).unwrap_or_default());
        self.out.push_str(instead);
        self.copied = end;
        self.at = end;
    }
}
