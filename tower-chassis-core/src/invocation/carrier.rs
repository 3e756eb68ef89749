use std::borrow::Cow;

use http::{Extensions, HeaderMap, HeaderName, Method, Request, header};
use tokio::time::Instant;

use super::Invocation;
use crate::verdict;

/// A request that carries an [`Invocation`]. `http::Request` does; a protocol of your own holds an
/// `http::Extensions` and returns it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot carry an `Invocation`",
    label = "the requests of this service carry nothing",
    note = "hold an `http::Extensions` and `impl Carrier for {Self}`: two methods return it, the rest is optional"
)]
pub trait Carrier {
    /// Where the invocation is kept.
    fn extensions(&self) -> &Extensions;
    /// Where the invocation is kept.
    fn extensions_mut(&mut self) -> &mut Extensions;

    /// Metadata that came over the wire: the first value under a name, if it is UTF-8.
    fn meta(&self, name: &str) -> Option<&str> {
        let _ = name;
        None
    }
    /// Sets metadata that goes over the wire. False if the protocol cannot carry it.
    fn set_meta(&mut self, name: &'static str, value: Cow<'_, str>) -> bool {
        let _ = (name, value);
        false
    }
    /// Whether the call is one of gRPC, whose metadata has words of its own (`grpc-timeout`). By default, what the
    /// metadatum `content-type` says.
    fn is_grpc(&self) -> bool {
        self.meta("content-type")
            .is_some_and(|kind| kind.starts_with("application/grpc"))
    }
    /// What is asked for, in the terms of the protocol (`GET`, `/package.Service/Method`).
    fn operation(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    /// The path that is asked for, where the protocol has one.
    fn path(&self) -> Option<&str> {
        None
    }

    /// The query that is asked for, without `?`, where the protocol has one.
    fn query(&self) -> Option<&str> {
        None
    }

    /// Whether the call may be made twice although it may have been served. A retry asks; false unless the
    /// protocol says otherwise.
    fn is_idempotent(&self) -> bool {
        false
    }

    /// Makes a clone of a request fit for another service, as a mirror does with copies: takes away what was said to this hop
    /// alone, and what is in its extensions for this call alone, but the invocation. False if no copy of it may be sent.
    ///
    /// By default it is fit. For HTTP, `connection` goes with what it names, and what else is said hop by hop; what
    /// asks for another protocol, by `upgrade` or CONNECT, may not be sent.
    fn detach(&mut self) -> bool {
        true
    }

    /// The invocation, if a layer made one.
    fn invocation(&self) -> Option<&Invocation> {
        self.extensions().get()
    }
    /// The invocation, made now if there is none.
    fn invocation_mut(&mut self) -> &mut Invocation {
        self.extensions_mut()
            .get_or_insert_with(|| Invocation::new(Instant::now()))
    }
}

impl<B> Carrier for Request<B> {
    fn extensions(&self) -> &Extensions {
        self.extensions()
    }
    fn extensions_mut(&mut self) -> &mut Extensions {
        self.extensions_mut()
    }
    fn meta(&self, name: &str) -> Option<&str> {
        self.headers().get(name)?.to_str().ok()
    }
    fn set_meta(&mut self, name: &'static str, value: Cow<'_, str>) -> bool {
        let Ok(value) = http::HeaderValue::from_str(&value) else {
            return false;
        };
        self.headers_mut().insert(name, value);
        true
    }
    fn is_grpc(&self) -> bool {
        verdict::is_grpc(self.headers())
    }
    fn operation(&self) -> Cow<'_, str> {
        Cow::Borrowed(self.method().as_str())
    }
    fn path(&self) -> Option<&str> {
        Some(self.uri().path())
    }
    fn query(&self) -> Option<&str> {
        self.uri().query()
    }
    fn is_idempotent(&self) -> bool {
        self.method().is_idempotent()
            || self.headers().contains_key(&IDEMPOTENCY_KEY)
            || self.extensions().get::<Idempotent>().is_some()
    }
    fn detach(&mut self) -> bool {
        if *self.method() == Method::CONNECT || self.headers().contains_key(header::UPGRADE) {
            return false;
        }
        off_the_hop(self.headers_mut());
        let extensions = self.extensions_mut();
        let invocation = extensions.remove::<Invocation>();
        // They may hold what must not outlive the call: the connection, a body that is on its way.
        extensions.clear();
        if let Some(invocation) = invocation {
            extensions.insert(invocation);
        }
        true
    }
}

/// Takes away what was said to this hop alone. Not `te`, which gRPC sends to who answers.
fn off_the_hop(headers: &mut HeaderMap) {
    let mut named = Vec::new();
    for value in headers.get_all(header::CONNECTION) {
        let names = value.as_bytes().split(|byte| *byte == b',');
        let names = names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok());
        named.extend(names.filter(|name| *name != header::TE));
    }
    let always = [
        header::CONNECTION,
        // Whose body is there already, or would be waited for.
        header::EXPECT,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        header::PROXY_AUTHORIZATION,
        header::TRANSFER_ENCODING,
    ];
    for name in named.into_iter().chain(always) {
        headers.remove(name);
    }
}

static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Put into a request's extensions, it says that the request may be repeated although its method does not say
/// so: for a route, or a gRPC method, that you know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Idempotent;
