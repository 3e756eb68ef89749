use http::{HeaderName, HeaderValue, Response};
use tower_chassis_core::Verdict;

/// Says in an answer that it is not the service's own.
pub trait Mark<Res>: Copy {
    /// Marks `response`. The call that it stands for was judged `failed`; `None` if it is to count as a success.
    fn mark(self, response: &mut Res, failed: Option<Verdict>);
}

/// Leaves answers as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unmarked;

impl<Res> Mark<Res> for Unmarked {
    fn mark(self, _: &mut Res, _: Option<Verdict>) {}
}

/// Sets `x-chassis-fallback: 1` in HTTP answers, and leaves the [`Verdict`] on the failed call in them, which every
/// layer outside reads.
#[derive(Clone, Copy, Debug, Default)]
pub struct Marked;

static FALLBACK: HeaderName = HeaderName::from_static("x-chassis-fallback");

impl<B> Mark<Response<B>> for Marked {
    fn mark(self, response: &mut Response<B>, failed: Option<Verdict>) {
        let one = HeaderValue::from_static("1");
        response.headers_mut().insert(&FALLBACK, one);
        if let Some(failed) = failed {
            // The status is the one that the caller sees, the class what the service did.
            let verdict = Verdict::http(response.status()).with_class(failed.class());
            response.extensions_mut().insert(verdict);
        }
    }
}
