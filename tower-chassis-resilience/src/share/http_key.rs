use std::fmt;

use http::{HeaderMap, HeaderName, Method, Request, Uri, header};
use http_body::Body;

/// Which calls are the same.
pub trait KeyBy<Req> {
    /// The key.
    type Key;
    /// The key of a request; `None` passes it by.
    fn key(&self, request: &Req) -> Option<Self::Key>;
    /// How many bytes a key takes, about.
    fn weight(key: &Self::Key) -> usize {
        size_of_val(key)
    }
}

impl<F, Req, K> KeyBy<Req> for F
where
    F: Fn(&Req) -> Option<K>,
{
    type Key = K;
    fn key(&self, request: &Req) -> Option<K> {
        self(request)
    }
}

/// The key of an HTTP request, by [`HttpKeys`].
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HttpKey(Box<[u8]>);

impl fmt::Debug for HttpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It may hold credentials.
        f.debug_struct("HttpKey")
            .field("len", &self.0.len())
            .finish()
    }
}

/// Which HTTP requests are the same. See the [module](super).
///
/// ```
/// use http::Request;
/// use tower_chassis_core::Body;
/// use tower_chassis_resilience::share::{HttpKeys, KeyBy};
///
/// let keys = HttpKeys::new().vary(["accept-language"])?;
/// let key = |language| {
///     let request = Request::get("/stock?item=7").header("accept-language", language);
///     keys.key(&request.body(Body::empty()).unwrap())
/// };
/// assert_eq!(key("en"), key("en"));
/// assert_ne!(key("en"), key("de"));
/// let private = Request::get("/me").header("cookie", "session=1").body(Body::empty())?;
/// assert_eq!(keys.key(&private), None);
/// # Ok::<(), tower_chassis_core::BoxError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct HttpKeys {
    vary: Vec<HeaderName>,
    credentials: bool,
}

static CREDENTIALS: [HeaderName; 3] = [
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::COOKIE,
];

/// Headers without a standard in which credentials are sent, or in which a proxy says who asks.
static CALLER: [HeaderName; 17] = [
    HeaderName::from_static("api-key"),
    HeaderName::from_static("x-access-token"),
    HeaderName::from_static("x-amz-security-token"),
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-apikey"),
    HeaderName::from_static("x-auth-request-email"),
    HeaderName::from_static("x-auth-request-user"),
    HeaderName::from_static("x-auth-token"),
    HeaderName::from_static("x-authorization"),
    HeaderName::from_static("x-forwarded-access-token"),
    HeaderName::from_static("x-forwarded-client-cert"),
    HeaderName::from_static("x-forwarded-email"),
    HeaderName::from_static("x-forwarded-user"),
    HeaderName::from_static("x-goog-api-key"),
    HeaderName::from_static("x-remote-user"),
    HeaderName::from_static("x-tenant-id"),
    HeaderName::from_static("x-user-id"),
];

fn names_a_caller(name: &HeaderName) -> bool {
    // Few names begin so: most are not looked for.
    name.as_str().starts_with(['a', 'x']) && CALLER.contains(name)
}

fn credentials<'a>() -> impl Iterator<Item = &'a HeaderName> + Clone {
    CREDENTIALS.iter().chain(&CALLER)
}

/// What asks for a part of an answer, for one that is fresh, or for none.
static APART: [HeaderName; 8] = [
    header::RANGE,
    header::IF_RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::UPGRADE,
    header::EXPECT,
];

impl HttpKeys {
    /// Method, scheme, host, path and query; requests with credentials pass by.
    pub const fn new() -> Self {
        Self {
            vary: Vec::new(),
            credentials: false,
        }
    }

    /// Adds headers on which answers depend. An answer whose `vary` names another is the caller's alone.
    ///
    /// # Errors
    /// One of them is no name of a header.
    pub fn vary<'a>(
        mut self,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, header::InvalidHeaderName> {
        for name in names {
            let name = HeaderName::try_from(name)?;
            if !self.vary.contains(&name) {
                self.vary.push(name);
            }
        }
        Ok(self)
    }

    /// Makes credentials (`authorization`, `proxy-authorization`, `cookie`, a user in the URI, and headers such as `x-api-key`)
    /// part of the key, in place of passing such requests by: each user gets answers of its own. What is stored is
    /// then private data, and there is one entry per user and path.
    pub const fn credentials_in_key(mut self) -> Self {
        self.credentials = true;
        self
    }

    /// The names that the key covers.
    pub(crate) fn covered(&self) -> Vec<HeaderName> {
        let mut names = self.vary.clone();
        if self.credentials {
            names.extend(credentials().cloned());
        }
        names
    }

    fn passes_by(&self, headers: &HeaderMap) -> bool {
        // Most requests have few headers: one walk, not a dozen searches.
        headers.iter().any(|(name, value)| {
            if !self.credentials
                && (CREDENTIALS.contains(name)
                    || (names_a_caller(name) && !self.vary.contains(name)))
            {
                return true;
            }
            APART.contains(name)
                || (*name == header::CACHE_CONTROL
                    && has(value.as_bytes(), &["no-cache", "no-store"]))
                || (*name == header::PRAGMA && has(value.as_bytes(), &["no-cache"]))
        })
    }
}

/// The user in a URI, and its host.
fn authority(uri: &Uri) -> (&[u8], &[u8]) {
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    (user.as_bytes(), host.as_bytes())
}

/// Whether a list, as of `cache-control`, holds one of `wanted`.
pub(super) fn has(list: &[u8], wanted: &[&str]) -> bool {
    list.split(|byte| *byte == b',').any(|item| {
        let name = item.split(|byte| *byte == b'=').next().unwrap_or(item);
        let name = name.trim_ascii();
        wanted
            .iter()
            .any(|wanted| name.eq_ignore_ascii_case(wanted.as_bytes()))
    })
}

impl<B: Body> KeyBy<Request<B>> for HttpKeys {
    type Key = HttpKey;

    fn key(&self, request: &Request<B>) -> Option<HttpKey> {
        let method = request.method();
        if !matches!(*method, Method::GET | Method::HEAD)
            || !request.body().is_end_stream()
            || self.passes_by(request.headers())
        {
            return None;
        }
        let (uri, headers) = (request.uri(), request.headers());
        let scheme = uri.scheme_str().unwrap_or("");
        let (user, host) = authority(uri);
        if !user.is_empty() && !self.credentials {
            return None;
        }
        // Mostly one says what the other does. Else both are part of the key: who answers may look at either, and
        // whoever writes another host into one of them must not choose what others get.
        let said = headers.get_all(header::HOST);
        let others = || {
            said.iter()
                .filter(|said| !said.as_bytes().eq_ignore_ascii_case(host))
        };
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        let credentials = credentials().filter(|_| self.credentials);
        let names = || self.vary.iter().chain(credentials.clone());
        let values = names().flat_map(|name| headers.get_all(name));
        let varied: usize = values.map(|value| value.len() + 1).sum();
        let hosts: usize = others().map(|said| said.len() + 1).sum();
        let fixed = method.as_str().len() + scheme.len() + user.len() + host.len() + path.len() + 4;
        let mut key = Vec::with_capacity(fixed + hosts + varied + names().count());
        // Neither a URI nor a header holds these bytes, so no two requests make one key.
        for part in [method.as_str().as_bytes(), scheme.as_bytes(), user] {
            key.extend_from_slice(part);
            key.push(0);
        }
        // The name of a host is the same in any case.
        key.extend(host.iter().map(u8::to_ascii_lowercase));
        for said in others() {
            key.push(1);
            key.extend(said.as_bytes().iter().map(u8::to_ascii_lowercase));
        }
        key.push(0);
        key.extend_from_slice(path.as_bytes());
        for name in names() {
            key.push(0);
            for value in headers.get_all(name) {
                key.extend_from_slice(value.as_bytes());
                key.push(1);
            }
        }
        Some(HttpKey(key.into_boxed_slice()))
    }

    fn weight(key: &HttpKey) -> usize {
        size_of::<HttpKey>() + key.0.len()
    }
}
