//! What a span tells of its call.

use std::{borrow::Cow, fmt, net::IpAddr};

use http::{HeaderValue, Method, Request, Version, header, uri::Scheme};
use tower_chassis_core::{
    Carrier, Class, Invocation, Verdict, invocation::MatchedRoute, verdict::is_grpc,
};

use super::sink::{Attribute, SpanKind};
use crate::{
    access_log::redact::Redact,
    fault::{Fault, Outcome, grpc_name, proves_method},
    method::KnownMethod,
    metrics::server_of,
    route::Route,
};

/// What the attributes are made of.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(super) kind: SpanKind,
    method: KnownMethod,
    grpc: bool,
    version: Option<&'static str>,
    scheme: Option<&'static str>,
    client: Option<IpAddr>,
    port: Option<u16>,
    resent: u32,
    words: Words,
    // Known at the end.
    route: Option<Route>,
    outcome: Outcome,
    /// The status of gRPC.
    code: Option<u16>,
    /// The call was not turned away before anybody looked at it.
    heard: bool,
}

const PATH: usize = 0;
const HOST: usize = 1;
const AGENT: usize = 2;
const METHOD: usize = 3;
/// So much of each is kept.
const LIMITS: [usize; 4] = [2048, 261, 512, 32];

impl About {
    /// Of no call yet.
    pub(super) fn nothing() -> Self {
        Self {
            kind: SpanKind::Server,
            method: KnownMethod::from(&Method::GET),
            grpc: false,
            version: None,
            scheme: None,
            client: None,
            port: None,
            resent: 0,
            words: Words::NONE,
            route: None,
            outcome: Outcome {
                status: None,
                fault: Fault::None,
            },
            code: None,
            heard: false,
        }
    }

    /// Of a call that is served; `scheme` is that of requests that do not say it.
    pub(super) fn served<B>(&mut self, request: &Request<B>, scheme: &'static str) {
        let text = |name| request.headers().get(name).and_then(text_of);
        let host = match request.uri().authority() {
            Some(authority) => authority.as_str(),
            None => text(header::HOST).unwrap_or_default(),
        };
        let agent = text(header::USER_AGENT).unwrap_or_default();
        let (host, port) = split(host);
        self.of(request, SpanKind::Server, host, agent);
        let scheme = self.scheme.unwrap_or(scheme);
        let client = request.invocation().and_then(Invocation::client);
        self.scheme = Some(scheme);
        self.client = client.map(|client| client.ip());
        self.port = port.or(default_port(scheme));
        self.resent = 0;
    }

    /// Of a call that is made.
    pub(super) fn made<B>(&mut self, request: &Request<B>) {
        let invocation = request.invocation();
        let (host, port) = match request.uri().authority() {
            Some(_) => server_of(request),
            None => {
                let service = invocation.and_then(Invocation::service);
                (service.unwrap_or_default(), None)
            }
        };
        self.of(request, SpanKind::Client, host, "");
        // What every request says from the beginning, also one that is sent as HTTP/2.
        if request.version() == Version::HTTP_11 {
            self.version = None;
        }
        let attempt = invocation.map_or(1, Invocation::attempt);
        self.resent = attempt.saturating_sub(1);
        self.client = None;
        self.port = port;
    }

    fn of<B>(&mut self, request: &Request<B>, kind: SpanKind, host: &str, agent: &str) {
        self.kind = kind;
        self.method = KnownMethod::from(request.method());
        let original = match self.method.label() {
            "_OTHER" => request.method().as_str(),
            _ => "",
        };
        self.grpc = is_grpc(request.headers());
        self.version = version(request.version());
        self.scheme = known(request.uri().scheme());
        let path = without_secrets(request.uri().path());
        self.words.fill([&path, host, agent, original]);
    }

    /// All of it, for another place; here is nothing then that holds memory.
    pub(super) fn take(&mut self) -> Self {
        Self {
            words: self.words.take(),
            route: self.route.take(),
            ..*self
        }
    }

    /// How the call ended.
    pub(super) fn ended(&mut self, verdict: Verdict, route: Option<Route>) {
        self.route = route;
        self.outcome = match self.kind {
            SpanKind::Server => Outcome::server(verdict),
            SpanKind::Client => Outcome::client(verdict),
        };
        self.code = verdict
            .grpc_code()
            .filter(|_| self.outcome.status.is_some());
        self.heard = !matches!(
            verdict.class(),
            Class::Refused | Class::RateLimited | Class::Cancelled
        );
    }

    pub(super) const fn is_error(&self) -> bool {
        self.outcome.is_error()
    }

    pub(super) fn http_method(&self) -> Option<&'static str> {
        (!self.grpc).then(|| self.method.label())
    }

    pub(super) fn rpc_system(&self) -> Option<&'static str> {
        self.grpc.then_some("grpc")
    }

    pub(super) fn method_original(&self) -> Option<&str> {
        self.words.get(METHOD)
    }

    pub(super) fn path(&self) -> Option<&str> {
        self.words.get(PATH)
    }

    pub(super) fn agent(&self) -> Option<&str> {
        self.words.get(AGENT)
    }

    pub(super) const fn version(&self) -> Option<&'static str> {
        self.version
    }

    pub(super) const fn scheme(&self) -> Option<&'static str> {
        self.scheme
    }

    pub(super) const fn client(&self) -> Option<IpAddr> {
        self.client
    }

    pub(super) fn resent(&self) -> Option<u32> {
        (self.resent > 0).then_some(self.resent)
    }

    /// The host and the port that were asked for.
    pub(super) fn server(&self) -> (Option<&str>, Option<u16>) {
        let host = self.words.get(HOST);
        (host, self.port.filter(|_| host.is_some()))
    }

    fn template(&self) -> Option<&str> {
        let route = self.route.as_ref()?;
        let ours = route.slot().get().map(MatchedRoute::template);
        ours.or_else(|| route.foreign())
            .filter(|template| !template.is_empty())
    }

    /// `package.Service/Method`.
    fn operation(&self) -> Option<&str> {
        let operation = self.path()?.strip_prefix('/')?;
        let (service, method) = operation.split_once('/')?;
        (!service.is_empty() && !method.is_empty() && !method.contains('/')).then_some(operation)
    }

    /// The same, if there is such a method: anybody can call any path, and that must not name spans.
    fn rpc_method(&self) -> Option<&str> {
        let known = match (self.kind, self.template()) {
            (SpanKind::Client, _) => true,
            (_, Some(template)) if !template.contains('{') => true,
            // Somebody who knows the method has answered.
            _ => self.heard && self.code.is_some_and(proves_method),
        };
        self.operation().filter(|_| known)
    }

    /// What a tracing system calls the span.
    pub(super) fn name(&self) -> Name<'_> {
        Name(self)
    }

    /// What is known at the end.
    pub(super) fn attributes_at_end(&self, each: &mut dyn FnMut(&'static str, Attribute<'_>)) {
        if self.grpc {
            each(
                "rpc.method",
                Attribute::Str(self.rpc_method().unwrap_or("_OTHER")),
            );
            if let Some(code) = self.code {
                each("rpc.response.status_code", Attribute::Str(grpc_name(code)));
            }
        } else if let Some(status) = self.outcome.status {
            each("http.response.status_code", Attribute::Int(status.into()));
        }
        if let Some(route) = self.template() {
            each("http.route", Attribute::Str(route));
        }
        if let Some(error) = self.outcome.error_type() {
            each("error.type", Attribute::Str(&error));
        }
    }

    pub(super) fn attributes(&self, each: &mut dyn FnMut(&'static str, Attribute<'_>)) {
        let mut told = |name, value: Option<&str>| {
            if let Some(value) = value {
                each(name, Attribute::Str(value));
            }
        };
        if self.grpc {
            told("rpc.system.name", self.rpc_system());
            let unknown = self.rpc_method().is_none();
            told("rpc.method_original", self.path().filter(|_| unknown));
        } else {
            told("http.request.method", self.http_method());
            told("http.request.method_original", self.method_original());
        }
        let (address, port) = self.server();
        if !self.grpc {
            told("url.scheme", self.scheme);
            told("url.path", self.path());
            if let (SpanKind::Client, Some(scheme), Some(host)) = (self.kind, self.scheme, address)
            {
                let path = self.path().unwrap_or_default();
                let full = match port.filter(|_| port != default_port(scheme)) {
                    Some(port) => format!("{scheme}://{host}:{port}{path}"),
                    None => format!("{scheme}://{host}{path}"),
                };
                told("url.full", Some(&full));
            }
        }
        told("server.address", address);
        told("network.protocol.version", self.version);
        told("user_agent.original", self.agent());
        match self.client {
            Some(IpAddr::V4(client)) => {
                let mut room = [0; 15];
                told("client.address", Some(dotted(client.octets(), &mut room)));
            }
            Some(client) => told("client.address", Some(&client.to_string())),
            None => {}
        }
        if let Some(port) = port {
            each("server.port", Attribute::Int(port.into()));
        }
        if let Some(resent) = self.resent() {
            each("http.request.resend_count", Attribute::Int(resent.into()));
        }
        self.attributes_at_end(each);
    }
}

/// The name of a span.
pub(super) struct Name<'a>(&'a About);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let about = self.0;
        if about.grpc {
            return f.write_str(about.rpc_method().unwrap_or("grpc"));
        }
        f.write_str(about.method.span_name())?;
        match about.template() {
            Some(template) => write!(f, " {template}"),
            None => Ok(()),
        }
    }
}

/// A path without parameters that are secret: `;jsessionid=x`.
fn without_secrets(path: &str) -> Cow<'_, str> {
    // Most have no parameters.
    match path.contains(';') {
        true => Cow::Owned(Redact::new().path(path).into_owned()),
        false => Cow::Borrowed(path),
    }
}

fn text_of(value: &HeaderValue) -> Option<&str> {
    value.to_str().ok()
}

/// The host and the port of an authority; neither user nor password.
fn split(authority: &str) -> (&str, Option<u16>) {
    // From behind, byte by byte: it is short.
    let (mut from, mut colon, mut colons) = (0, None, 0);
    for (at, byte) in authority.bytes().enumerate().rev() {
        if byte == b'@' {
            from = at + 1;
            break;
        }
        if byte == b':' {
            colon = colon.or(Some(at));
            colons += 1;
        }
    }
    let host = authority.get(from..).unwrap_or_default();
    // The last colon, if it is not one of an address of IPv6.
    match colon.and_then(|colon| host.split_at_checked(colon - from)) {
        Some((name, port)) if name.ends_with(']') || colons == 1 => {
            (name, port.get(1..).and_then(|port| port.parse().ok()))
        }
        _ => (host, None),
    }
}

/// An address of IPv4 in its usual form, written into `room`.
fn dotted(octets: [u8; 4], room: &mut [u8; 15]) -> &str {
    let mut bytes = octets.iter().enumerate().flat_map(|(at, octet)| {
        let digits = [octet / 100, octet / 10 % 10, octet % 10];
        let first = digits.iter().position(|digit| *digit > 0).unwrap_or(2);
        let dot = (at > 0).then_some(b'.');
        let digits = digits.into_iter().skip(first).map(|digit| b'0' + digit);
        dot.into_iter().chain(digits)
    });
    let mut end = 0;
    for (place, byte) in room.iter_mut().zip(&mut bytes) {
        *place = byte;
        end += 1;
    }
    room.get(..end)
        .and_then(|text| str::from_utf8(text).ok())
        .unwrap_or_default()
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

fn known(scheme: Option<&Scheme>) -> Option<&'static str> {
    match scheme?.as_str() {
        "http" => Some("http"),
        "https" => Some("https"),
        _ => None,
    }
}

fn version(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        Version::HTTP_3 => Some("3"),
        _ => None,
    }
}

/// So much fits without an allocation.
const INLINE: usize = 200;

/// Texts of a request, copied: a slice of it would hold the whole buffer that it was read into, for as long as the span
/// waits to be sent.
#[derive(Clone)]
struct Words {
    inline: [u8; INLINE],
    /// All of it, where it is longer.
    long: Option<Box<str>>,
    ends: [u16; LIMITS.len()],
}

impl Words {
    const NONE: Self = Self {
        inline: [0; INLINE],
        long: None,
        ends: [0; LIMITS.len()],
    };

    fn fill(&mut self, mut texts: [&str; LIMITS.len()]) {
        let mut end = 0;
        for ((text, limit), place) in texts.iter_mut().zip(LIMITS).zip(&mut self.ends) {
            *text = cut(text, limit);
            end += text.len();
            *place = end as u16;
        }
        if end > INLINE {
            self.long = Some(texts.concat().into());
            return;
        }
        self.long = None;
        let mut rest = &mut self.inline[..];
        for text in texts {
            let (place, behind) = rest.split_at_mut(text.len());
            place.copy_from_slice(text.as_bytes());
            rest = behind;
        }
    }

    fn take(&mut self) -> Self {
        Self {
            long: self.long.take(),
            ..*self
        }
    }

    /// One of them, if it is not empty.
    fn get(&self, n: usize) -> Option<&str> {
        let from = n.checked_sub(1).map_or(0, |before| self.ends[before]);
        let range = usize::from(from)..usize::from(self.ends[n]);
        let text = match &self.long {
            Some(long) => long.get(range)?,
            None => str::from_utf8(self.inline.get(range)?).ok()?,
        };
        (!text.is_empty()).then_some(text)
    }
}

impl fmt::Debug for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries((0..LIMITS.len()).map(|n| self.get(n)))
            .finish()
    }
}

fn cut(text: &str, limit: usize) -> &str {
    if text.len() <= limit {
        return text;
    }
    let end = (0..=limit).rfind(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use std::collections::BTreeMap;
    use tower_chassis_core::invocation::RouteTable;

    use super::*;

    #[test]
    fn addresses() {
        for octets in [[0, 0, 0, 0], [127, 0, 0, 1], [10, 200, 3, 40], [255; 4]] {
            assert_eq!(
                dotted(octets, &mut [0; 15]),
                IpAddr::from(octets).to_string()
            );
        }
    }

    #[test]
    fn words_are_copied_and_cut() {
        for (texts, kept) in [
            (["", "", "", ""], [0; 4]),
            (["/a", "", "curl", ""], [2, 0, 4, 0]),
            (["/", &"h".repeat(199), "", ""], [1, 199, 0, 0]),
            (["/", &"h".repeat(200), "", "X"], [1, 200, 0, 1]),
            (
                [
                    &"p".repeat(9000),
                    &"h".repeat(9000),
                    &"a".repeat(9000),
                    &"m".repeat(9000),
                ],
                LIMITS,
            ),
            (["", "", "", &"ä".repeat(30)], [0, 0, 0, 32]),
            (["", "", "", &format!("x{}", "ä".repeat(30))], [0, 0, 0, 31]),
        ] {
            let mut words = Words::NONE;
            words.fill(texts);
            for n in 0..4 {
                let told = words.get(n).unwrap_or_default();
                assert!(texts[n].starts_with(told));
                assert_eq!(told.len(), kept[n]);
            }
        }
    }

    fn served<B>(request: &Request<B>, scheme: &'static str) -> About {
        let mut about = About::nothing();
        about.served(request, scheme);
        about
    }

    fn made<B>(request: &Request<B>) -> About {
        let mut about = About::nothing();
        about.made(request);
        about
    }

    /// The name of a span and its attributes.
    fn told(about: &About) -> (String, BTreeMap<&'static str, String>) {
        let mut all = BTreeMap::new();
        about.attributes(&mut |name, value| {
            let value = match value {
                Attribute::Str(text) => text.to_owned(),
                Attribute::Int(number) => number.to_string(),
            };
            assert!(all.insert(name, value).is_none(), "{name} twice");
        });
        (about.name().to_string(), all)
    }

    fn route(template: &str) -> Option<Route> {
        let table = RouteTable::new([template.into()]);
        let mut request = Request::new(());
        let matched = MatchedRoute::new(table.into(), 0);
        request.invocation_mut().set_route(matched);
        Some(Route::of(&mut request))
    }

    fn expect(about: &About, name: &str, attributes: &[(&'static str, &str)]) {
        let (told_name, told) = told(about);
        let expected: BTreeMap<_, _> = attributes
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        assert_eq!((&*told_name, told), (name, expected));
    }

    #[test]
    fn hosts() {
        for (host, parts) in [
            ("a", ("a", None)),
            ("a:1", ("a", Some(1))),
            ("a:", ("a", None)),
            ("a:x", ("a", None)),
            ("u:p@a:1", ("a", Some(1))),
            ("u:p@a", ("a", None)),
            ("u@p@a", ("a", None)),
            ("a:65536", ("a", None)),
            ("[::1]", ("[::1]", None)),
            ("[::1]:8", ("[::1]", Some(8))),
            ("::1", ("::1", None)),
            ("", ("", None)),
        ] {
            assert_eq!(split(host), parts, "{host}");
        }
    }

    #[test]
    fn a_call_that_was_served() {
        let mut request = Request::get("/users/7?token=secret")
            .header("host", "Shop.example:8080")
            .header("user-agent", "curl/8.5")
            .header("authorization", "Bearer secret")
            .body(())
            .unwrap();
        request
            .invocation_mut()
            .set_client("[2001:db8::1]:999".parse().unwrap());
        let mut about = served(&request, "https");
        about.ended(Verdict::http(StatusCode::OK), route("/users/{id}"));
        let common = [
            ("http.request.method", "GET"),
            ("url.scheme", "https"),
            ("url.path", "/users/7"),
            ("server.address", "Shop.example"),
            ("server.port", "8080"),
            ("network.protocol.version", "1.1"),
            ("user_agent.original", "curl/8.5"),
            ("client.address", "2001:db8::1"),
        ];
        let with = |more: &[(&'static str, &'static str)]| [&common[..], more].concat();
        expect(
            &about,
            "GET /users/{id}",
            &with(&[
                ("http.route", "/users/{id}"),
                ("http.response.status_code", "200"),
            ]),
        );
        assert!(!about.is_error());
        about.ended(Verdict::http(StatusCode::NOT_FOUND), None);
        expect(
            &about,
            "GET",
            &with(&[("http.response.status_code", "404")]),
        );
        assert!(!about.is_error());
        about.ended(Verdict::http(StatusCode::BAD_GATEWAY), None);
        expect(
            &about,
            "GET",
            &with(&[("http.response.status_code", "502"), ("error.type", "502")]),
        );
        assert!(about.is_error());
        about.ended(Verdict::CANCELLED, None);
        expect(&about, "GET", &with(&[("error.type", "cancelled")]));
        assert!(!about.is_error());
    }

    #[test]
    fn a_call_that_was_made() {
        let mut request = Request::builder()
            .method("BREW")
            .uri("https://user:pass@[::1]:7/tea?token=secret")
            .version(Version::HTTP_2)
            .body(())
            .unwrap();
        request.invocation_mut().set_attempt(3);
        let mut about = made(&request);
        about.ended(Verdict::http(StatusCode::IM_A_TEAPOT), None);
        expect(
            &about,
            "HTTP",
            &[
                ("http.request.method", "_OTHER"),
                ("http.request.method_original", "BREW"),
                ("http.request.resend_count", "2"),
                ("http.response.status_code", "418"),
                ("error.type", "418"),
                ("url.scheme", "https"),
                ("url.path", "/tea"),
                ("url.full", "https://[::1]:7/tea"),
                ("server.address", "[::1]"),
                ("server.port", "7"),
                ("network.protocol.version", "2"),
            ],
        );
        assert!(about.is_error());

        let mut request = Request::get("/a").body(()).unwrap();
        let (name, attributes) = told(&made(&request));
        assert_eq!(name, "GET");
        assert!(!attributes.contains_key("server.address"));
        request.invocation_mut().set_service("orders".into());
        let (_, attributes) = told(&made(&request));
        assert_eq!(attributes["server.address"], "orders");
    }

    #[test]
    fn a_place_that_is_used_again_says_nothing_of_the_call_before() {
        let long = format!("http://user@host:99/{}", "x".repeat(500));
        let mut first = Request::builder()
            .method("BREW")
            .uri(&*long)
            .version(Version::HTTP_2)
            .header("user-agent", "curl")
            .header("content-type", "application/grpc")
            .body(())
            .unwrap();
        first.invocation_mut().set_attempt(4);
        first
            .invocation_mut()
            .set_client("10.0.0.1:1".parse().unwrap());
        let second = Request::get("/").body(()).unwrap();
        let ways: [fn(&mut About, &Request<()>); 2] = [
            |about, request| about.served(request, "http"),
            |about, request| about.made(request),
        ];
        for before in ways {
            for after in ways {
                let mut used = About::nothing();
                before(&mut used, &first);
                used.ended(Verdict::grpc(13), route("/{a}/{b}"));
                let taken = used.take();
                assert!(used.route.is_none() && used.words.long.is_none());
                let of_first = {
                    let mut about = About::nothing();
                    before(&mut about, &first);
                    about.ended(Verdict::grpc(13), route("/{a}/{b}"));
                    told(&about)
                };
                assert_eq!(told(&taken), of_first);
                let mut fresh = About::nothing();
                for about in [&mut used, &mut fresh] {
                    after(about, &second);
                    about.ended(Verdict::SUCCESS, None);
                }
                assert_eq!(told(&used), told(&fresh));
            }
        }
    }

    #[test]
    fn calls_of_grpc() {
        let request = |path: &str| {
            Request::post(path)
                .version(Version::HTTP_2)
                .header("content-type", "application/grpc+proto")
                .body(())
                .unwrap()
        };
        let ended = |path: &str, verdict, route| {
            let mut about = served(&request(path), "http");
            about.ended(verdict, route);
            let (name, told) = told(&about);
            (name, told, about.is_error())
        };
        let path = "/shop.v1.Orders/Place";
        for (verdict, route, name, code, error) in [
            (
                Verdict::grpc(0),
                None,
                "shop.v1.Orders/Place",
                Some("OK"),
                None,
            ),
            (
                Verdict::grpc(5),
                None,
                "shop.v1.Orders/Place",
                Some("NOT_FOUND"),
                None,
            ),
            (
                Verdict::grpc(14),
                None,
                "shop.v1.Orders/Place",
                Some("UNAVAILABLE"),
                Some("UNAVAILABLE"),
            ),
            // Nobody may make names.
            (Verdict::grpc(12), None, "grpc", Some("UNIMPLEMENTED"), None),
            (
                Verdict::grpc(12),
                route("/{*rest}"),
                "grpc",
                Some("UNIMPLEMENTED"),
                None,
            ),
            (
                Verdict::grpc(12),
                route(path),
                "shop.v1.Orders/Place",
                Some("UNIMPLEMENTED"),
                None,
            ),
            (
                Verdict::grpc(7),
                None,
                "grpc",
                Some("PERMISSION_DENIED"),
                None,
            ),
            (
                Verdict::grpc(16),
                None,
                "grpc",
                Some("UNAUTHENTICATED"),
                None,
            ),
            (
                Verdict::grpc(16),
                route(path),
                "shop.v1.Orders/Place",
                Some("UNAUTHENTICATED"),
                None,
            ),
            (Verdict::CANCELLED, None, "grpc", None, Some("cancelled")),
            (
                Verdict::CANCELLED,
                route(path),
                "shop.v1.Orders/Place",
                None,
                Some("cancelled"),
            ),
        ] {
            let (told_name, told, failed) = ended(path, verdict, route);
            let field = |name| told.get(name).map(String::as_str);
            assert_eq!(
                (
                    &*told_name,
                    field("rpc.response.status_code"),
                    field("error.type")
                ),
                (name, code, error)
            );
            assert_eq!(
                failed,
                error.is_some_and(|error| error != "cancelled"),
                "{verdict:?}"
            );
            assert_eq!(field("rpc.system.name"), Some("grpc"));
            let other = name == "grpc";
            assert_eq!(
                field("rpc.method"),
                Some(if other { "_OTHER" } else { name })
            );
            assert_eq!(field("rpc.method_original"), other.then_some(path));
            for http in [
                "http.request.method",
                "http.response.status_code",
                "url.path",
            ] {
                assert_eq!(field(http), None);
            }
        }
        for path in ["/", "/a", "/a/", "//b", "/a/b/c"] {
            assert_eq!(ended(path, Verdict::grpc(0), None).0, "grpc");
        }
        let mut about = made(&request(path));
        about.ended(Verdict::CANCELLED, None);
        assert_eq!(told(&about).0, "shop.v1.Orders/Place");
    }
}
