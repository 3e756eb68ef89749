//! Which recorded call answers which.

use super::Recorded;

/// Says whether a recorded call answers one that is made. Closures are matchers.
pub trait Matcher: Send + Sync + 'static {
    /// Whether `recorded` answers `asked`. Both are redacted.
    fn matches(&self, recorded: &Recorded, asked: &Recorded) -> bool;
}

impl<F> Matcher for F
where
    F: Fn(&Recorded, &Recorded) -> bool + Send + Sync + 'static,
{
    fn matches(&self, recorded: &Recorded, asked: &Recorded) -> bool {
        self(recorded, asked)
    }
}

/// Method, URL and body are the same. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct SameRequest;

impl Matcher for SameRequest {
    fn matches(&self, recorded: &Recorded, asked: &Recorded) -> bool {
        recorded.method() == asked.method()
            && recorded.url() == asked.url()
            && recorded.body() == asked.body()
    }
}
