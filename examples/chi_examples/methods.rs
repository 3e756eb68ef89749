//! Methods that HTTP does not name: none of them needs to be registered.

use http::Method;
use tower_chassis::{
    BoxError,
    router::{Router, get},
};

pub(crate) fn app() -> Result<Router, BoxError> {
    let link = Method::from_bytes(b"LINK")?;
    let unlink = Method::from_bytes(b"UNLINK")?;
    let root = get(|| async { "hello world\n" })
        .on(link, || async { "link\n" })
        .on(unlink, || async { "unlink\n" });
    Ok(Router::new().route("/", root).implicit_options(true))
}
