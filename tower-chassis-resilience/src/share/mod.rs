//! One answer for many: which calls are the same, and how an answer is given again. What [`cache`](crate::cache)
//! and [`coalesce`](crate::coalesce) have in common.
//!
//! * **Which calls are the same** is said by a [`KeyBy`]: [`HttpKeys`] for HTTP, or a closure
//!   `Fn(&Req) -> Option<K>` of yours. There is no default: two calls with one key get one answer, so everything that the
//!   answer depends on, the user above all, belongs into the key. `None` passes a call by.
//! * **How an answer is given again** is said by a [`Share`]: [`Whole`] clones it; [`Http`] keeps the head and up to so
//!   many bytes of the body.
//!
//! # HTTP
//! By [`HttpKeys`], GET and HEAD are the same if method, scheme, host, path, query and the
//! [headers that you name](HttpKeys::vary) are. A request passes by if it has credentials
//! (`authorization`, `proxy-authorization`, `cookie`, a user in the URI, and the usual headers without a standard:
//! `x-api-key`, `x-auth-token`, `x-forwarded-user`, `x-forwarded-client-cert`, `x-tenant-id` and the like), unless you
//! [say](HttpKeys::credentials_in_key) that they are to be part of the key, or name such a header yourself; if it has a body,
//! a range, a condition, an `upgrade`, or a `cache-control` of `no-cache` or `no-store`. What your
//! service reads of a request besides, a client certificate or an `x-forwarded-host`, belongs into the key by your word. So
//! does the prefix that a nested router took from the path: the routers of two prefixes need a layer each
//! ([`fresh`](crate::cache::CacheLayer::fresh)).
//!
//! By [`Http`], an answer is for the caller alone if it has `set-cookie`, a `cache-control` of `private`, `no-store`
//! or `no-cache`, a `vary` with a header that is not in the key, if it is partial, switches protocols, or is a stream of
//! events, of lines or gRPC. So is, of the statuses, what may be about one request or its sender: 304, 4xx other than 404,
//! 405, 410 and 414; and unless the answer says itself for how long it may be kept, 302, 303, 307 and what RFC 9110 does not
//! call cacheable.

mod body;
mod collect;
mod http_key;
mod rule;
#[cfg(test)]
mod tests;

pub use self::{
    body::{Sink, StoredBody, StoredResponse},
    collect::Collect,
    http_key::{HttpKey, HttpKeys, KeyBy},
    rule::{Collected, Http, Share, Weighed, Whole},
};
