//! What callers give a call on its way (W3C `baggage`).

use std::{borrow::Cow, fmt, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};

static BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// So many members are kept.
const MEMBERS: usize = 64;
/// So many bytes are kept.
const LENGTH: usize = 8192;

/// What a request came with: the members that obey the rules. Of too many, the first.
pub(super) fn read(headers: &HeaderMap) -> Option<Arc<str>> {
    let mut lines = headers.get_all(&BAGGAGE).iter();
    let first = lines.next()?;
    let mut lines = std::iter::once(first).chain(lines).peekable();
    let mut kept = String::new();
    let mut count = 0;
    for member in lines
        .by_ref()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
    {
        let member = member.trim();
        if !is_member(member) {
            continue;
        }
        let comma = usize::from(count > 0);
        if count == MEMBERS || kept.len() + comma + member.len() > LENGTH {
            break;
        }
        if count == 0 {
            kept.reserve(first.len().clamp(member.len(), LENGTH));
        } else {
            kept.push(',');
        }
        kept.push_str(member);
        count += 1;
    }
    (count > 0).then(|| kept.into())
}

/// Writes it into the headers of a request, instead of what they say.
pub(super) fn write(headers: &mut HeaderMap, baggage: &str) {
    if let Ok(value) = HeaderValue::from_str(baggage) {
        headers.insert(&BAGGAGE, value);
    }
}

fn is_member(member: &str) -> bool {
    split(member).is_some_and(|(key, value, _)| is_key(key) && value.bytes().all(is_plain))
}

/// Key, value and the properties behind them.
fn split(member: &str) -> Option<(&str, &str, &str)> {
    let (pair, properties) = member.split_once(';').unwrap_or((member, ""));
    let (key, value) = pair.split_once('=')?;
    Some((key.trim(), value.trim(), properties.trim()))
}

fn is_key(key: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !key.is_empty() && key.bytes().all(is_token)
}

/// What a value may hold as it is.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e)
}

/// Names and values that go with a call from service to service, read and written.
///
/// Any caller may have written them, and every service on the way reads them: they are neither proof nor secret. They
/// are in no log and no span unless you put them there. At most 64 members and 8,192 bytes, as the W3C has it.
///
/// ```
/// use http::Request;
/// use tower_chassis_core::Carrier;
/// use tower_chassis_observe::trace::Baggage;
///
/// let mut baggage = Baggage::parse("tenant=blue%20whale, beta=1;source=edge");
/// assert_eq!(baggage.get("tenant"), Some("blue whale"));
/// assert!(baggage.set("user", "Zoë"));
///
/// let mut request = Request::new(());
/// request.invocation_mut().set_baggage(baggage.header());
/// # assert_eq!(&**request.invocation_mut().baggage().unwrap(), "tenant=blue%20whale,beta=1;source=edge,user=Zo%C3%AB");
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Baggage(Vec<Member>);

#[derive(Clone, PartialEq, Eq)]
struct Member {
    key: Box<str>,
    value: Box<str>,
    properties: Box<str>,
}

impl Baggage {
    /// Without a member.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Reads the text of a `baggage` header, as [`Invocation::baggage`](tower_chassis_core::Invocation::baggage) has
    /// it. What breaks the rules is left out.
    #[must_use]
    pub fn parse(header: &str) -> Self {
        let members = header
            .split(',')
            .map(str::trim)
            .filter(|member| is_member(member));
        let members = members.filter_map(split).take(MEMBERS);
        Self(
            members
                .map(|(key, value, properties)| Member {
                    key: key.into(),
                    value: decode(value).into(),
                    properties: properties.into(),
                })
                .collect(),
        )
    }

    /// The value of a member; of several of one name, the last.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let member = self.0.iter().rfind(|member| &*member.key == key)?;
        Some(&member.value)
    }

    /// All members, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|member| (&*member.key, &*member.value))
    }

    /// Sets the value of a member. False, and nothing changes, if the name is not a token of HTTP or there is no
    /// more room.
    pub fn set(&mut self, key: &str, value: &str) -> bool {
        if !is_key(key) {
            return false;
        }
        let before = self.clone();
        self.remove(key);
        self.0.push(Member {
            key: key.into(),
            value: value.into(),
            properties: "".into(),
        });
        let fits = self.0.len() <= MEMBERS && self.text().len() <= LENGTH;
        if !fits {
            *self = before;
        }
        fits
    }

    /// Takes a member out.
    pub fn remove(&mut self, key: &str) {
        self.0.retain(|member| &*member.key != key);
    }

    /// The text of the header, for [`Invocation::set_baggage`](tower_chassis_core::Invocation::set_baggage); none
    /// where there is no member.
    #[must_use]
    pub fn header(&self) -> Option<Arc<str>> {
        (!self.0.is_empty()).then(|| self.text().into())
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for member in &self.0 {
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(&member.key);
            text.push('=');
            encode(&member.value, &mut text);
            if !member.properties.is_empty() {
                text.push(';');
                text.push_str(&member.properties);
            }
        }
        text
    }
}

/// The names alone: what the values are is nobody's business.
impl fmt::Debug for Baggage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.0.iter().map(|member| &member.key))
            .finish()
    }
}

fn encode(value: &str, text: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value.bytes() {
        if is_plain(byte) && byte != b'%' {
            text.push(char::from(byte));
        } else {
            text.push('%');
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}

/// What is not a byte in hexadecimal after a `%` stays; what is no UTF-8 is replaced.
fn decode(value: &str) -> Cow<'_, str> {
    if !value.contains('%') {
        return Cow::Borrowed(value);
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let digit = |place: usize| char::from(*behind.get(place)?).to_digit(16);
        rest = match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high << 4 | low) as u8);
                &behind[2..]
            }
            _ => {
                bytes.push(byte);
                behind
            }
        };
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(lines: &[&str]) -> Option<Arc<str>> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("Baggage", HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        read(&headers)
    }

    #[test]
    fn what_obeys_the_rules_is_kept() {
        for (lines, text) in [
            (&["a=1"][..], Some("a=1")),
            (&["a=1, b=2 ;p;q=3", "c=%20"], Some("a=1,b=2 ;p;q=3,c=%20")),
            (&["a="], Some("a=")),
            (&["a=b=c"], Some("a=b=c")),
            (&["a=1,,b,=2, (x)=1,d=\"e\",f=1"], Some("a=1,f=1")),
            (&["a=x y", "b=1"], Some("b=1")),
            (&["ä=1,a=1", "b=1"], Some("b=1")),
            (&[""], None),
            (&[",,,"], None),
            (&[], None),
        ] {
            assert_eq!(kept(lines).as_deref(), text, "{lines:?}");
        }
    }

    #[test]
    fn of_too_many_the_first_are_kept() {
        let many: Vec<_> = (0..100).map(|n| format!("k{n}=v")).collect();
        let first = many[..64].join(",");
        assert_eq!(*kept(&[&many.join(",")]).unwrap(), *first);
        let lines: Vec<_> = many.iter().map(String::as_str).collect();
        assert_eq!(*kept(&lines).unwrap(), *first);

        let long = format!("a={}", "x".repeat(5000));
        assert_eq!(kept(&[&long, &long, "b=1"]).as_deref(), Some(&*long));
        let exact = format!("a={}", "x".repeat(LENGTH - 2));
        assert_eq!(kept(&[&exact]).as_deref(), Some(&*exact));
        assert_eq!(kept(&[&format!("{exact}x")]), None);
        assert_eq!(kept(&[&",".repeat(100_000)]), None);
    }

    #[test]
    fn read_and_changed() {
        let mut baggage = Baggage::parse("a=1;p=2, a=2,b=%41%zz%,c=%FF, bad member=1");
        let all: Vec<_> = baggage.iter().collect();
        assert_eq!(
            all,
            [("a", "1"), ("a", "2"), ("b", "A%zz%"), ("c", "\u{fffd}")]
        );
        assert_eq!((baggage.get("a"), baggage.get("x")), (Some("2"), None));
        assert!(baggage.set("a", "3") && baggage.iter().count() == 3);
        assert!(!baggage.set("not a key", "1") && !baggage.set("", "1"));
        assert!(!baggage.set("a", &"x".repeat(LENGTH)) && baggage.get("a") == Some("3"));
        assert!(
            baggage.set("a", "3%41,;") && baggage.header().unwrap().ends_with("a=3%2541%2C%3B")
        );
        assert!(baggage.set("a", "3"));
        baggage.remove("b");
        baggage.remove("c");
        assert_eq!(baggage.header().as_deref(), Some("a=3"));
        assert_eq!(format!("{baggage:?}"), "{\"a\"}", "no value");
        for n in 0..63 {
            assert!(baggage.set(&n.to_string(), ""));
        }
        assert!(!baggage.set("one-more", "") && baggage.set("a", ""));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(
            if std::env::var_os("CHASSIS_LONG").is_some() { 100_000 } else { 256 }
        ))]

        #[test]
        fn what_is_written_is_read(
            members in proptest::collection::btree_map("[a-zA-Z0-9!#$%&'*+.^_`|~-]{1,8}", "(.|%[0-9a-fA-F]{2}){0,10}", 0..20),
        ) {
            let mut baggage = Baggage::new();
            for (key, value) in &members {
                prop_assert!(baggage.set(key, value));
            }
            let mut headers = HeaderMap::new();
            if let Some(text) = baggage.header() {
                write(&mut headers, &text);
            }
            let read = read(&headers);
            prop_assert_eq!(&read, &baggage.header());
            prop_assert_eq!(Baggage::parse(read.as_deref().unwrap_or_default()), baggage);
        }

        #[test]
        fn no_header_does_harm(lines in proptest::collection::vec("[a=;,% é\"\\\\]{0,60}", 0..5)) {
            let lines: Vec<_> = lines.iter().map(String::as_str).collect();
            if let Some(text) = kept(&lines) {
                prop_assert!(text.len() <= LENGTH);
                let baggage = Baggage::parse(&text);
                prop_assert!(baggage.iter().count() > 0);
            }
        }
    }
}
