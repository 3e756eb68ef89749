use std::{fmt, net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts, uri::Authority};
use tower_chassis_core::{Body, Invocation};

use crate::health::text;

/// Who may have a profile.
#[derive(Clone)]
#[must_use]
pub struct Guard(Rule);

#[derive(Clone)]
enum Rule {
    Loopback,
    Token(Arc<str>),
    By(Arc<dyn Fn(&Parts) -> bool + Send + Sync>),
}

impl Guard {
    /// Who comes from this machine, by the address in the call's [`Invocation`]: our server puts the peer's there, a layer
    /// that trusts a proxy the client's. Without one, over a unix socket for example, nobody. All others get 404, as if
    /// there were nothing.
    ///
    /// A page of somebody else in a browser on this machine is not let in: the request must name this machine, as `localhost`
    /// or by an address, and may not say that it is `cross-site` (`Sec-Fetch-Site`).
    ///
    /// Behind a proxy on the same machine that nobody trusts *everybody* comes from it: take a token there.
    pub const fn loopback() -> Self {
        Self(Rule::Loopback)
    }

    /// Who sends `Authorization: Bearer` with this token, which is compared in constant time. All others get 401. An
    /// empty token is nobody's.
    pub fn token(token: impl Into<String>) -> Self {
        Self(Rule::Token(token.into().into()))
    }

    /// Whom the closure says. All others get 404.
    pub fn by(may: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        Self(Rule::By(Arc::new(may)))
    }

    /// The answer to who may not.
    pub(super) fn refuse(&self, parts: &Parts) -> Option<Response<Body>> {
        let may = match &self.0 {
            Rule::Loopback => {
                let client = parts.extensions.get().and_then(Invocation::client);
                client.is_some_and(|client| client.ip().to_canonical().is_loopback())
                    && !is_of_a_page(parts)
            }
            Rule::Token(token) => {
                if !bearer(&parts.headers).is_some_and(|sent| same(sent, token.as_bytes())) {
                    let mut refused = text(StatusCode::UNAUTHORIZED, "unauthorized\n".to_owned());
                    let bearer = HeaderValue::from_static("Bearer");
                    refused
                        .headers_mut()
                        .insert(header::WWW_AUTHENTICATE, bearer);
                    return Some(refused);
                }
                true
            }
            Rule::By(may) => may(parts),
        };
        (!may).then(|| text(StatusCode::NOT_FOUND, "not found\n".to_owned()))
    }
}

/// Without the token.
impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Rule::Loopback => "Guard(loopback)",
            Rule::Token(_) => "Guard(token)",
            Rule::By(_) => "Guard(by)",
        })
    }
}

/// Whether a browser may have been told to ask by somebody who is not here: it says so, or the name that it was told is one
/// that anybody can let point to this machine.
fn is_of_a_page(parts: &Parts) -> bool {
    let site = parts.headers.get("sec-fetch-site");
    let foreign = site.is_some_and(|site| site != "none" && site != "same-origin");
    let told = parts.headers.get_all(header::HOST).iter();
    foreign
        || parts.uri.host().is_some_and(|host| !is_here(host))
        || told.into_iter().any(|host| {
            let host = Authority::try_from(host.as_bytes());
            !host.is_ok_and(|host| is_here(host.host()))
        })
}

/// Whether a host is an address, or a name that is this machine's everywhere.
fn is_here(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = host.to_ascii_lowercase();
    bare.parse::<IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost")
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    // Of two nobody knows which one was checked.
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

/// Looks at every byte whatever it finds; how long the token is may be seen.
fn same(sent: &[u8], token: &[u8]) -> bool {
    let differ = sent
        .iter()
        .zip(token)
        .fold(0, |differ, (a, b)| std::hint::black_box(differ | (a ^ b)));
    !token.is_empty() && sent.len() == token.len() && differ == 0
}

#[cfg(test)]
mod tests {
    use http::Request;
    use tokio::time::Instant;
    use tower_chassis_core::Carrier;

    use super::*;

    fn status(guard: &Guard, request: Request<()>) -> u16 {
        match guard.refuse(&request.into_parts().0) {
            None => 200,
            Some(refused) => refused.status().as_u16(),
        }
    }

    #[tokio::test]
    async fn only_who_comes_from_here() {
        let from = |address: &str| {
            let mut request = Request::new(());
            let mut invocation = Invocation::new(Instant::now());
            invocation.set_client(address.parse().unwrap());
            request.extensions_mut().insert(invocation);
            status(&Guard::loopback(), request)
        };
        for (address, expected) in [
            ("127.0.0.1:1", 200),
            ("127.8.9.1:1", 200),
            ("[::1]:1", 200),
            ("[::ffff:127.0.0.1]:1", 200),
            ("10.0.0.1:1", 404),
            ("[::ffff:10.0.0.1]:1", 404),
            ("[::2]:1", 404),
            ("0.0.0.0:1", 404),
        ] {
            assert_eq!(from(address), expected, "{address}");
        }
        assert_eq!(status(&Guard::loopback(), Request::new(())), 404);
        let page = |name: &'static str, value: &str| {
            let mut request = Request::new(());
            request.headers_mut().insert(name, value.parse().unwrap());
            let mut invocation = Invocation::new(Instant::now());
            invocation.set_client("127.0.0.1:1".parse().unwrap());
            request.extensions_mut().insert(invocation);
            status(&Guard::loopback(), request)
        };
        for (name, value, expected) in [
            ("host", "127.0.0.1:9090", 200),
            ("host", "[::1]:9090", 200),
            ("host", "localhost", 200),
            ("host", "LOCALHOST:9090", 200),
            ("host", "admin.localhost:9090", 200),
            ("sec-fetch-site", "none", 200),
            ("sec-fetch-site", "same-origin", 200),
            // A page of somebody else, in a browser that runs here.
            ("host", "evil.example:9090", 404),
            ("host", "127.0.0.1.evil.example", 404),
            ("host", "notlocalhost", 404),
            ("sec-fetch-site", "cross-site", 404),
            ("sec-fetch-site", "same-site", 404),
        ] {
            assert_eq!(page(name, value), expected, "{name}: {value}");
        }
        let mut unknown = Request::new(());
        let _ = unknown.invocation_mut();
        assert_eq!(status(&Guard::loopback(), unknown), 404);
    }

    #[test]
    fn only_who_has_the_token() {
        let guard = Guard::token("secret");
        assert!(!format!("{guard:?}").contains("secret"));
        let send = |guard: &Guard, values: &[&str]| {
            let mut request = Request::builder();
            for value in values {
                request = request.header("authorization", *value);
            }
            status(guard, request.body(()).unwrap())
        };
        for good in ["Bearer secret", "bearer secret", "BEARER  secret "] {
            assert_eq!(send(&guard, &[good]), 200, "{good}");
        }
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer secre",
            "Bearer secrets",
            "Bearer Secret",
            "Basic secret",
            "secret",
        ] {
            assert_eq!(send(&guard, &[wrong]), 401, "{wrong}");
        }
        assert_eq!(send(&guard, &[]), 401);
        assert_eq!(send(&guard, &["Bearer secret", "Bearer secret"]), 401);
        assert_eq!(send(&Guard::token(""), &["Bearer "]), 401);
        let by = Guard::by(|parts| parts.headers.contains_key("authorization"));
        assert_eq!((send(&by, &["x"]), send(&by, &[])), (200, 404));
    }
}
