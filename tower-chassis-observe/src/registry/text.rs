//! What was measured as Prometheus's text, version 0.0.4.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write as _,
};

use metrics::{Label, Unit};

use super::{Distribution, Family, MetricKind, Snapshot, Value};

/// What was measured, in Prometheus's text format.
///
/// Names are Prometheus's: `http.server.request.duration` in seconds is `http_server_request_duration_seconds`, counters
/// end in `_total`. Of two metrics that would have one name the first one is written, unless they are of one kind; of two
/// series that would be one, the first. What would have the name of a histogram's own series, `…_count`, is left out.
#[must_use]
pub fn text(snapshot: &Snapshot) -> String {
    let mut pages = BTreeMap::<String, Vec<&Family>>::new();
    for family in &snapshot.families {
        let there = pages.entry(text_name(family)).or_default();
        if there.first().is_none_or(|first| first.kind == family.kind) {
            there.push(family);
        }
    }
    // A histogram has series of these names too.
    let of_histogram = |name: &str| {
        let suffixes = ["_bucket", "_count", "_sum"];
        let of = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
        let of = of.and_then(|of| pages.get(of)?.first());
        of.is_some_and(|family| family.kind == MetricKind::Histogram)
    };
    let mut out = String::new();
    for (name, families) in &pages {
        if of_histogram(name) {
            continue;
        }
        write_families(&mut out, name, families);
    }
    out
}

fn write_families(out: &mut String, name: &str, families: &[&Family]) {
    let Some(first) = families.first() else {
        return;
    };
    if !first.help.is_empty() {
        out.push_str("# HELP ");
        out.push_str(name);
        out.push(' ');
        escape(out, &first.help, false);
        out.push('\n');
    }
    let kind = match first.kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
    };
    // Writing into a string does not fail.
    let _ = writeln!(out, "# TYPE {name} {kind}");
    let mut seen = HashSet::new();
    for series in families.iter().flat_map(|family| &family.series) {
        let labels = text_labels(&series.labels, first.kind);
        if seen.contains(&labels) {
            continue;
        }
        match &series.value {
            Value::Counter(count) => {
                sample(out, name, "", &labels, None, format_args!("{count}"));
            }
            Value::Gauge(value) => gauge(out, name, &labels, *value),
            Value::Histogram(distribution) => histogram(out, name, &labels, distribution),
        }
        seen.insert(labels);
    }
}

fn gauge(out: &mut String, name: &str, labels: &str, value: f64) {
    sample(
        out,
        name,
        "",
        labels,
        None,
        format_args!("{}", Number(value)),
    );
}

fn histogram(out: &mut String, name: &str, labels: &str, distribution: &Distribution) {
    let mut up_to = 0;
    for (at, count) in distribution.counts.iter().enumerate() {
        up_to += count;
        let bound = distribution.bounds.get(at).copied();
        let bound = Number(bound.unwrap_or(f64::INFINITY));
        let le = Some(format_args!("{bound}"));
        sample(out, name, "_bucket", labels, le, format_args!("{up_to}"));
    }
    let sum = Number(distribution.sum);
    sample(out, name, "_sum", labels, None, format_args!("{sum}"));
    sample(out, name, "_count", labels, None, format_args!("{up_to}"));
}

fn sample(
    out: &mut String,
    name: &str,
    suffix: &str,
    labels: &str,
    le: Option<std::fmt::Arguments<'_>>,
    value: std::fmt::Arguments<'_>,
) {
    out.push_str(name);
    out.push_str(suffix);
    if !labels.is_empty() || le.is_some() {
        out.push('{');
        out.push_str(labels);
        if let Some(le) = le {
            let comma = if labels.is_empty() { "" } else { "," };
            let _ = write!(out, "{comma}le=\"{le}\"");
        }
        out.push('}');
    }
    let _ = writeln!(out, " {value}");
}

/// A number as Go reads it.
struct Number(f64);

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            value if value.is_nan() => f.write_str("NaN"),
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            value => write!(f, "{value}"),
        }
    }
}

/// The name of a family: with its unit, and `_total` if it counts.
fn text_name(family: &Family) -> String {
    let mut name = plain(&family.name, ':');
    let unit = match family.unit {
        None | Some(Unit::Count) => None,
        Some(Unit::Percent) => Some("ratio"),
        Some(unit) => Some(unit.as_str()),
    };
    let counts = family.kind == MetricKind::Counter;
    // `bytes_sent_total` in bytes: the unit comes before.
    let total = if name.ends_with("_total") {
        name.truncate(name.len() - "_total".len());
        "_total"
    } else if counts {
        "_total"
    } else {
        ""
    };
    if let Some(unit) = unit
        && !name.ends_with(unit)
    {
        name.push('_');
        name.push_str(unit);
    }
    name + total
}

/// `a="1",b="2"`, each name once: the last word counts.
fn text_labels(labels: &[Label], kind: MetricKind) -> String {
    let mut out = String::new();
    for (at, label) in labels.iter().enumerate() {
        let mut key = plain(label.key(), '_');
        if labels[at + 1..]
            .iter()
            .any(|later| plain(later.key(), '_') == key)
        {
            continue;
        }
        let ours = key == "le" && kind == MetricKind::Histogram;
        if ours || key.starts_with("__") {
            // As Prometheus does with what it has a name for itself.
            key.insert_str(0, "exported_");
        }
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(&key);
        out.push_str("=\"");
        escape(&mut out, label.value(), true);
        out.push('"');
    }
    out
}

/// Letters, digits (not first), `_` and `also`; `_` for everything else.
fn plain(name: &str, also: char) -> String {
    let fits = |at: usize, c: char| {
        c == '_' || c == also || c.is_ascii_alphabetic() || (at > 0 && c.is_ascii_digit())
    };
    let chars = name.chars().enumerate();
    let name: String = chars
        .map(|(at, c)| if fits(at, c) { c } else { '_' })
        .collect();
    if name.is_empty() { "_".into() } else { name }
}

fn escape(out: &mut String, text: &str, quoted: bool) {
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\\' => out.push_str("\\\\"),
            '"' if quoted => out.push_str("\\\""),
            c => out.push(c),
        }
    }
}
