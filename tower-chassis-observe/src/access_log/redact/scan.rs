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
    /// It ended with the name of a secret, and no value.
    open: bool,
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
            open: false,
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
                b'<' => self.tag(),
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
        let mut inner = Scan::new(self.redact, &content, self.nested - 1);
        inner.run();
        let open = inner.open;
        if let Some(inner) = inner.masked() {
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
        // What closed the string may have opened one: `it's my password: 'x'`. Of JSON no value follows a string.
        let next = self.byte(self.past(end, |byte| byte.is_ascii_whitespace()));
        if open && !matches!(next, None | Some(b',' | b'}' | b']' | b':' | b'"')) {
            self.mask_value();
        }
    }

    /// `<password type="text">x</password>`.
    fn tag(&mut self) {
        let begin = self.at + 1;
        let end = self.past(begin, |byte| is_word(byte) || byte == b':');
        self.at = begin;
        let name = self.slice(begin, end).to_owned();
        let local = name.rsplit(':').next().unwrap_or_default();
        let open = self.past(end, |byte| byte != b'>');
        let is_empty = self.byte(open.saturating_sub(1)) == Some(b'/');
        if self.byte(open).is_none() || is_empty || !self.redact.is_secret(local) {
            return;
        }
        let value = open + 1;
        let inside = self.text.get(value..).unwrap_or_default();
        let len = inside.find(&format!("</{name}"));
        // Perhaps it was no tag: then up to the next one.
        let len = len.or_else(|| inside.find('<'));
        self.put(value, value + len.unwrap_or(inside.len()), MASK);
    }

    fn word(&mut self) {
        let begin = self.at;
        let end = self.past(begin, is_word);
        self.at = end;
        let raw = self.slice(begin, end);
        // Of three parts with points between, in letters that JSON in base64 begins with.
        let jwt = raw.len() > 20 && raw.starts_with("eyJ") && raw.contains('.');
        let word = decoded(raw).into_owned();
        let encoded = word != raw;
        // A quote that is left over does not part a name from its value.
        let sign = self.past(end, |byte| matches!(byte, b'"' | b'\''));
        if self.is_name(&word, sign) {
            return;
        }
        // An address in a value of an address.
        let hides = encoded
            && match self.nested.checked_sub(1) {
                Some(nested) => self.redact.scan(&word, nested).is_some(),
                None => self.redact.is_secret(&word),
            };
        if jwt || hides {
            self.put(begin, end, MASK);
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
            None => {
                self.open = true;
                return;
            }
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
