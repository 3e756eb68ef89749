//! `profile.proto` of pprof, by hand.
//! See <https://github.com/google/pprof/blob/main/proto/profile.proto>.

use std::{collections::HashMap, io::Write as _, time::UNIX_EPOCH};

use flate2::{Compression, write::GzEncoder};
use pprof::Report;

/// The report as a message.
pub(super) fn profile(report: &Report) -> Vec<u8> {
    let period = 1_000_000_000 / u64::try_from(report.timing.frequency).unwrap_or(1).max(1);
    let mut tables = Tables::default();
    tables.text("");
    let (samples, count) = (tables.text("samples"), tables.text("count"));
    let (cpu, nanoseconds) = (tables.text("cpu"), tables.text("nanoseconds"));
    let thread = tables.text("thread");

    let mut out = Message::default();
    let value = |kind, unit| Message::default().number(1, kind).number(2, unit);
    out = out.message(1, &value(samples, count));
    out = out.message(1, &value(cpu, nanoseconds));
    for (stack, &count) in &report.data {
        let locations: Vec<u64> = stack
            .frames
            .iter()
            .map(|frame| {
                // What was inlined is one place, the innermost first, as here.
                let lines = frame.iter().map(|symbol| {
                    let raw = symbol.sys_name();
                    let file = match &symbol.filename {
                        Some(file) => file.to_string_lossy(),
                        None => "".into(),
                    };
                    let function = tables.function(&symbol.name(), &raw, &file);
                    (function, u64::from(symbol.lineno()))
                });
                let lines = lines.collect();
                tables.location(lines)
            })
            .collect();
        let count = u64::try_from(count).unwrap_or(0);
        let name = tables.text(&stack.thread_name_or_id());
        let label = Message::default().number(1, thread).number(2, name);
        let sample = Message::default()
            .packed(1, &locations)
            .packed(2, &[count, count * period])
            .message(3, &label);
        out = out.message(2, &sample);
    }
    for (at, lines) in tables.locations.iter().enumerate() {
        let mut location = Message::default().number(1, at as u64 + 1);
        for (function, line) in lines {
            let line = Message::default().number(1, *function).number(2, *line);
            location = location.message(4, &line);
        }
        out = out.message(4, &location);
    }
    for (at, (name, raw, file)) in tables.functions.iter().enumerate() {
        let function = Message::default()
            .number(1, at as u64 + 1)
            .number(2, *name)
            .number(3, *raw)
            .number(4, *file);
        out = out.message(5, &function);
    }
    for text in &tables.texts {
        out = out.bytes(6, text.as_bytes());
    }
    let start = report.timing.start_time.duration_since(UNIX_EPOCH);
    let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(0);
    out.number(9, start.map_or(0, nanos))
        .number(10, nanos(report.timing.duration))
        .message(11, &value(cpu, nanoseconds))
        .number(12, period)
        .0
}

/// What `go tool pprof` and others take.
pub(super) fn gzip(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // A vector takes everything.
    let _ = encoder.write_all(message);
    encoder.finish().unwrap_or_default()
}

/// What samples refer to by number, each once. The numbers of texts begin with 0, the others with 1.
#[derive(Default)]
struct Tables {
    texts: Vec<String>,
    text_at: HashMap<String, u64>,
    functions: Vec<(u64, u64, u64)>,
    function_at: HashMap<(u64, u64, u64), u64>,
    locations: Vec<Vec<(u64, u64)>>,
    location_at: HashMap<Vec<(u64, u64)>, u64>,
}

impl Tables {
    fn text(&mut self, text: &str) -> u64 {
        if let Some(at) = self.text_at.get(text) {
            return *at;
        }
        let at = self.texts.len() as u64;
        self.texts.push(text.to_owned());
        self.text_at.insert(text.to_owned(), at);
        at
    }

    fn function(&mut self, name: &str, raw: &str, file: &str) -> u64 {
        let function = (self.text(name), self.text(raw), self.text(file));
        *self.function_at.entry(function).or_insert_with(|| {
            self.functions.push(function);
            self.functions.len() as u64
        })
    }

    fn location(&mut self, lines: Vec<(u64, u64)>) -> u64 {
        if let Some(at) = self.location_at.get(&lines) {
            return *at;
        }
        self.locations.push(lines.clone());
        let at = self.locations.len() as u64;
        self.location_at.insert(lines, at);
        at
    }
}

/// A message of protobuf.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    /// A field that is 0 is left out, as proto3 has it.
    fn number(mut self, field: u64, value: u64) -> Self {
        if value != 0 {
            varint(&mut self.0, field << 3);
            varint(&mut self.0, value);
        }
        self
    }

    fn bytes(mut self, field: u64, bytes: &[u8]) -> Self {
        varint(&mut self.0, field << 3 | 2);
        varint(&mut self.0, bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn message(self, field: u64, message: &Self) -> Self {
        self.bytes(field, &message.0)
    }

    fn packed(self, field: u64, values: &[u64]) -> Self {
        let mut packed = Vec::new();
        for value in values {
            varint(&mut packed, *value);
        }
        self.bytes(field, &packed)
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
