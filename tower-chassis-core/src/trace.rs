//! Where a call stands in a distributed trace, in the words of the W3C (`traceparent`).

use std::fmt;

/// The trace of a call and the span it runs in. Twenty-five bytes, `Copy`.
///
/// # Example
/// ```
/// use tower_chassis_core::trace::TraceContext;
///
/// let header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
/// let context = TraceContext::parse(header).unwrap();
/// assert!(context.is_sampled());
/// assert_eq!(context.to_string(), header);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
}

/// The length of a `traceparent` of version 00.
pub const TRACEPARENT_LEN: usize = 55;

const SAMPLED: u8 = 1;
/// The flags that have a meaning: sampled, and a random trace id. Others must not be passed on.
const KNOWN: u8 = 3;

impl TraceContext {
    /// A context; `None` if an id is all zeros.
    #[must_use]
    pub const fn new(trace_id: [u8; 16], span_id: [u8; 8], sampled: bool) -> Option<Self> {
        if u128::from_be_bytes(trace_id) == 0 || u64::from_be_bytes(span_id) == 0 {
            return None;
        }
        Some(Self {
            trace_id,
            span_id,
            flags: sampled as u8,
        })
    }

    /// Reads a `traceparent`, strictly: lower-case hexadecimal, no id of zeros, version 00 exactly as long as
    /// it must be. A later version is read by its first four fields, of which only the sampled flag is known.
    #[must_use]
    pub fn parse(header: &str) -> Option<Self> {
        let bytes = header.as_bytes();
        if bytes.len() < TRACEPARENT_LEN
            || bytes[2] != b'-'
            || bytes[35] != b'-'
            || bytes[52] != b'-'
        {
            return None;
        }
        let [version] = hex(&bytes[..2])?;
        let known = match version {
            0xff => return None,
            0 if bytes.len() == TRACEPARENT_LEN => KNOWN,
            0 => return None,
            _ if bytes.len() == TRACEPARENT_LEN || bytes[TRACEPARENT_LEN] == b'-' => SAMPLED,
            _ => return None,
        };
        let [flags] = hex(&bytes[53..55])?;
        let mut context = Self::new(hex(&bytes[3..35])?, hex(&bytes[36..52])?, false)?;
        context.flags = flags & known;
        Some(context)
    }

    /// The id of the trace.
    #[must_use]
    pub const fn trace_id(&self) -> TraceId {
        TraceId(self.trace_id)
    }

    /// The id of the span.
    #[must_use]
    pub const fn span_id(&self) -> SpanId {
        SpanId(self.span_id)
    }

    /// Whether who began the trace wants it recorded.
    #[must_use]
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The same trace in another span; `None` if the id is all zeros.
    #[must_use]
    pub const fn child(&self, span_id: [u8; 8]) -> Option<Self> {
        if u64::from_be_bytes(span_id) == 0 {
            return None;
        }
        Some(Self { span_id, ..*self })
    }

    /// The `traceparent` that goes over the wire, without an allocation.
    #[must_use]
    pub fn traceparent(&self) -> [u8; TRACEPARENT_LEN] {
        let mut out = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&self.trace_id, &mut out[3..35]);
        write_hex(&self.span_id, &mut out[36..52]);
        write_hex(&[self.flags], &mut out[53..55]);
        out
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "00-{}-{}-{:02x}",
            self.trace_id(),
            self.span_id(),
            self.flags
        )
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TraceContext({self})")
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Its bytes, the first one first.
            #[must_use]
            pub const fn to_bytes(self) -> [u8; $len] {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut out = [0; 2 * $len];
                write_hex(&self.0, &mut out);
                // Only ASCII was written.
                f.write_str(std::str::from_utf8(&out).unwrap_or_default())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

id! {
    /// The id of a trace; it prints as 32 hexadecimal digits.
    TraceId, 16
}
id! {
    /// The id of a span; it prints as 16 hexadecimal digits.
    SpanId, 8
}

/// Reads exactly `2 * N` lower-case digits.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut out = [0; N];
    if digits.len() != 2 * N {
        return None;
    }
    // Asked once at the end: digits are rarely wrong.
    let mut wrong = 0;
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let (high, low) = (VALUES[usize::from(pair[0])], VALUES[usize::from(pair[1])]);
        wrong |= high | low;
        *byte = high << 4 | low;
    }
    (wrong & NO_DIGIT == 0).then_some(out)
}

const NO_DIGIT: u8 = 0x80;

/// The values of digits.
static VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        values[b"0123456789abcdef"[value] as usize] = value as u8;
        value += 1;
    }
    values
};

fn write_hex(bytes: &[u8], out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, pair) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparents() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for (header, read) in [
            (good, Some(good)),
            (
                &good.replace("-01", "-00"),
                Some(&*good.replace("-01", "-00")),
            ),
            // Unknown flags are not passed on; the random flag is.
            (
                &good.replace("-01", "-ff"),
                Some(&*good.replace("-01", "-03")),
            ),
            // A later version, alone and with more fields.
            (&good.replacen("00", "cc", 1), Some(good)),
            (
                &format!("{}-what-comes", good.replacen("00", "cc", 1)),
                Some(good),
            ),
            (&format!("{}.what", good.replacen("00", "cc", 1)), None),
            (&format!("{good}-more"), None),
            (&good.replacen("00", "ff", 1), None),
            (&good.replacen("00", "0x", 1), None),
            ("", None),
            (&good[..54], None),
            (&good.to_uppercase(), None),
            (
                &good.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
                None,
            ),
            (&good.replace("b7ad6b7169203331", &"0".repeat(16)), None),
            (&good.replace("b7ad", "b7 d"), None),
            (&good.replace("-01", "-0g"), None),
            (&good.replace("-01", "_01"), None),
            (
                "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
                None,
            ),
            ("ääääääääääääääääääääääääääääääääääääääää", None),
        ] {
            let context = TraceContext::parse(header);
            assert_eq!(
                context.map(|c| c.to_string()).as_deref(),
                read,
                "{header:?}"
            );
            if let Some(context) = context {
                assert_eq!(context.traceparent(), *context.to_string().as_bytes());
            }
        }
    }

    #[test]
    fn a_child_keeps_the_trace() {
        assert_eq!(size_of::<TraceContext>(), 25);
        let parent = TraceContext::new([1; 16], [2; 8], true).unwrap();
        let child = parent.child([3; 8]).unwrap();
        assert_eq!(
            (child.trace_id(), child.span_id().to_bytes()),
            (parent.trace_id(), [3; 8])
        );
        assert!(child.is_sampled() && parent.child([0; 8]).is_none());
        assert!(TraceContext::new([0; 16], [2; 8], true).is_none());
    }
}
