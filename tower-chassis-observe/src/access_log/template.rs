//! A line of one's own.

use std::{error::Error, fmt, sync::Arc};

use http::HeaderName;
use tower_chassis_core::live::{Invalid, Validate};

use super::{
    civil::{padded, write_common, write_rfc3339},
    escape,
    line::{Line, address, decimal, hex},
};
use crate::fault::class_name;

/// What a line of [`Format::Template`](super::Format::Template) looks like.
///
/// Text, and names in braces that stand for what is known of the call; a brace of its own is written twice. What is not
/// known is `-`. In what a client sent, `"`, `\` and all that is no printable ASCII is escaped (`\x0a`), so put quotes
/// around what may hold spaces.
///
/// | name | |
/// |---|---|
/// | `time`, `time_common` | when it ended: RFC 3339; as in [`Format::Common`](super::Format::Common) |
/// | `client`, `user` | |
/// | `method`, `target`, `path`, `query`, `protocol` | `target` is path and query, as they may be shown |
/// | `route` | the template that matched |
/// | `status`, `grpc`, `class`, `level`, `slow` | `slow` is `true` or `false` |
/// | `duration_ms`, `duration_us`, `duration_s` | |
/// | `bytes`, `request_bytes` | |
/// | `request_id`, `trace_id`, `span_id` | |
/// | `user_agent`, `header:NAME` | a header of the request; of a secret one `***` |
///
/// ```
/// use tower_chassis_observe::access_log::{AccessLogLayer, Format, Template, stdout};
///
/// let template = Template::parse(r#"{client} "{method} {path}" {status} {duration_ms}ms {header:x-tenant}"#)?;
/// let layer = AccessLogLayer::new(Format::Template, stdout()).template(template);
///
/// let fault = Template::parse("{client} {staus}").unwrap_err();
/// assert_eq!(fault.to_string(), "at 9: there is no `staus`; did you mean `status`?");
/// # Ok::<(), tower_chassis_observe::access_log::TemplateFault>(())
/// ```
#[derive(Clone)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(try_from = "String")
)]
pub struct Template {
    source: Arc<str>,
    parts: Arc<[Part]>,
}

#[derive(Debug)]
enum Part {
    Text(Box<str>),
    Value(Value),
    Header(HeaderName),
}

macro_rules! values {
    ($($value:ident $name:literal),+ $(,)?) => {
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        enum Value { $($value),+ }

        const NAMES: &[(&str, Value)] = &[$(($name, Value::$value)),+];
    };
}

values! {
    Time "time",
    TimeCommon "time_common",
    Client "client",
    User "user",
    Method "method",
    Target "target",
    Path "path",
    Query "query",
    Protocol "protocol",
    Route "route",
    Status "status",
    Grpc "grpc",
    Class "class",
    Level "level",
    Slow "slow",
    Millis "duration_ms",
    Micros "duration_us",
    Seconds "duration_s",
    Bytes "bytes",
    RequestBytes "request_bytes",
    RequestId "request_id",
    TraceId "trace_id",
    SpanId "span_id",
    UserAgent "user_agent",
}

/// What is wrong with a [`Template`], and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TemplateFault {
    at: usize,
    what: What,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum What {
    Unknown(Box<str>, Option<&'static str>),
    Header(Box<str>),
    Open,
    Close,
    Control,
}

impl TemplateFault {
    const fn new(at: usize, what: What) -> Self {
        Self { at, what }
    }

    /// The byte of the template where it begins.
    #[must_use]
    pub const fn at(&self) -> usize {
        self.at
    }
}

impl fmt::Display for TemplateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}: ", self.at)?;
        match &self.what {
            What::Unknown(name, Some(near)) => write!(
                f,
                "there is no `{}`; did you mean `{near}`?",
                name.escape_debug()
            ),
            What::Unknown(name, None) => write!(f, "there is no `{}`", name.escape_debug()),
            What::Header(name) => write!(f, "`{}` is no name of a header", name.escape_debug()),
            What::Open => f.write_str("`{` is not closed; a brace of its own is `{{`"),
            What::Close => f.write_str("`}` closes nothing; a brace of its own is `}}`"),
            What::Control => f.write_str("a line has no control characters"),
        }
    }
}

impl Error for TemplateFault {}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// The first thing in it that is not understood.
    pub fn parse(template: &str) -> Result<Self, TemplateFault> {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut chars = template.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            match c {
                '{' | '}' if chars.next_if(|&(_, next)| next == c).is_some() => text.push(c),
                '}' => return Err(TemplateFault::new(at, What::Close)),
                '{' => {
                    let inside = template.get(at + 1..).unwrap_or_default();
                    let Some((name, _)) = inside.split_once('}') else {
                        return Err(TemplateFault::new(at, What::Open));
                    };
                    if !text.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut text).into()));
                    }
                    parts.push(part(at, name)?);
                    // The name and its brace.
                    while chars.next().is_some_and(|(_, c)| c != '}') {}
                }
                c if c.is_control() => return Err(TemplateFault::new(at, What::Control)),
                c => text.push(c),
            }
        }
        if !text.is_empty() {
            parts.push(Part::Text(text.into()));
        }
        Ok(Self {
            source: template.into(),
            parts: parts.into(),
        })
    }

    /// The template as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// The headers that it names.
    pub(super) fn headers(&self) -> impl Iterator<Item = &HeaderName> {
        self.parts.iter().filter_map(|part| match part {
            Part::Header(name) => Some(name),
            _ => None,
        })
    }

    pub(super) fn write(&self, line: &Line<'_>, out: &mut String) {
        for part in &*self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Value(value) => value.write(line, out),
                Part::Header(name) => {
                    let mut headers = line.headers.iter();
                    match headers.find(|(header, _)| header == name) {
                        Some((_, value)) => {
                            let value = line.redact.value(name, value);
                            escape::common(out, &value, false);
                        }
                        None => out.push('-'),
                    }
                }
            }
        }
    }
}

fn part(at: usize, name: &str) -> Result<Part, TemplateFault> {
    if let Some(header) = name.strip_prefix("header:") {
        return match HeaderName::try_from(header) {
            Ok(name) => Ok(Part::Header(name)),
            Err(_) => Err(TemplateFault::new(at, What::Header(header.into()))),
        };
    }
    let known = NAMES.iter().find(|(known, _)| *known == name);
    known.map(|(_, value)| Part::Value(*value)).ok_or_else(|| {
        let near = NAMES
            .iter()
            .map(|(known, _)| (slips(name, known), *known))
            .filter(|(slips, known)| *slips <= (known.len() / 3).max(1))
            .min_by_key(|(slips, _)| *slips);
        let near = near.map(|(_, known)| known);
        TemplateFault::new(at, What::Unknown(name.into(), near))
    })
}

/// How many letters must be added, dropped or changed to make the one the other (Levenshtein). What is much too long is
/// compared by its beginning.
fn slips(a: &str, b: &str) -> usize {
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().take(64).enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.bytes().enumerate() {
            let changed = last[j] + usize::from(x != y);
            row.push(changed.min(last[j + 1] + 1).min(row[j] + 1));
        }
        last = row;
    }
    last.last().copied().unwrap_or_default()
}

impl Value {
    fn write(self, line: &Line<'_>, out: &mut String) {
        let text = |out: &mut String, value: Option<&[u8]>| match value {
            Some(value) => escape::common(out, value, false),
            None => out.push('-'),
        };
        let number = |out: &mut String, value: Option<u16>| match value {
            Some(value) => padded(out, value.into(), 1),
            None => out.push('-'),
        };
        let micros = line.duration.as_micros() as u64;
        match self {
            Self::Time => write_rfc3339(out, line.time),
            Self::TimeCommon => write_common(out, line.time),
            Self::Client => address(out, line.client),
            Self::User => text(out, line.user.map(str::as_bytes)),
            Self::Method => text(out, Some(line.method.as_bytes())),
            Self::Target => text(out, line.target().as_deref().map(str::as_bytes)),
            Self::Path => text(out, line.shown_path().map(str::as_bytes)),
            Self::Query => text(out, line.shown_query().as_deref().map(str::as_bytes)),
            Self::Protocol => out.push_str(line.protocol()),
            Self::Route => text(out, line.route.map(str::as_bytes)),
            Self::Status => number(out, line.verdict.http_status()),
            Self::Grpc => number(out, line.verdict.grpc_code()),
            Self::Class => out.push_str(class_name(line.verdict.class())),
            Self::Level => out.push_str(line.level.name()),
            Self::Slow => out.push_str(if line.slow { "true" } else { "false" }),
            Self::Millis => decimal(out, micros, 3),
            Self::Micros => padded(out, micros, 1),
            Self::Seconds => decimal(out, micros, 6),
            Self::Bytes => padded(out, line.bytes, 1),
            Self::RequestBytes => padded(out, line.request_bytes, 1),
            Self::RequestId => text(out, line.request_id.map(str::as_bytes)),
            Self::TraceId => match line.trace {
                Some(trace) => hex(out, &trace.trace_id().to_bytes()),
                None => out.push('-'),
            },
            Self::SpanId => match line.trace {
                Some(trace) => hex(out, &trace.span_id().to_bytes()),
                None => out.push('-'),
            },
            Self::UserAgent => text(out, line.user_agent),
        }
    }
}

/// The line of [`Format::Common`](super::Format::Common), and how long it took.
impl Default for Template {
    fn default() -> Self {
        let line = "{client} - {user} [{time_common}] \"{method} {target} {protocol}\" {status} {bytes} {duration_ms}";
        // A test reads it.
        Self::parse(line).unwrap_or_else(|_| Self {
            source: "".into(),
            parts: Arc::new([]),
        })
    }
}

/// A template that could be read may go live.
impl Validate for Template {
    fn validate(&self) -> Result<(), Invalid> {
        Ok(())
    }
}

impl TryFrom<String> for Template {
    type Error = TemplateFault;
    fn try_from(template: String) -> Result<Self, TemplateFault> {
        Self::parse(&template)
    }
}

impl std::str::FromStr for Template {
    type Err = TemplateFault;
    fn from_str(template: &str) -> Result<Self, TemplateFault> {
        Self::parse(template)
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Template {}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").field(&self.source).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn faults() {
        for (template, fault) in [
            (
                "{staus}",
                "at 0: there is no `staus`; did you mean `status`?",
            ),
            (
                "a {duration}",
                "at 2: there is no `duration`; did you mean `duration_s`?",
            ),
            ("a {latency}", "at 2: there is no `latency`"),
            (
                "{duration_m}",
                "at 0: there is no `duration_m`; did you mean `duration_ms`?",
            ),
            ("{x\n}", "at 0: there is no `x\\n`"),
            ("{}", "at 0: there is no ``"),
            (
                "ä {client",
                "at 3: `{` is not closed; a brace of its own is `{{`",
            ),
            (
                "{client}}",
                "at 8: `}` closes nothing; a brace of its own is `}}`",
            ),
            ("{header:}", "at 0: `` is no name of a header"),
            ("{header:a b}", "at 0: `a b` is no name of a header"),
            ("a\nb", "at 1: a line has no control characters"),
        ] {
            let found = Template::parse(template).unwrap_err();
            assert_eq!(found.to_string(), fault, "{template:?}");
        }
    }

    #[test]
    fn templates() {
        for template in ["", "{{{client}}}", "ä {header:X-Y}", "{time}{time}"] {
            let read = Template::parse(template).unwrap();
            assert_eq!(read.as_str(), template);
        }
        assert_ne!(Template::default().as_str(), "");
        let read = Template::parse("{{{status}}} {header:X-Y}").unwrap();
        assert_eq!(
            format!("{:?}", read.parts),
            r#"[Text("{"), Value(Status), Text("} "), Header("x-y")]"#
        );
        for (name, _) in NAMES {
            assert!(Template::parse(&format!("{{{name}}}")).is_ok(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_template_or_a_fault(text in "[{}a-z:äö\n ]{0,40}") {
            match Template::parse(&text) {
                Ok(template) => prop_assert_eq!(template.as_str(), text),
                Err(fault) => prop_assert!(fault.at() < text.len() && !fault.to_string().contains('\n')),
            }
        }
    }
}
