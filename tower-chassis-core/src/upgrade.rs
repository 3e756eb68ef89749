//! What a call holds while its connection speaks another protocol.
//!
//! A `101 Switching Protocols` has no body, so "to the end of the body" would be at once. A layer that lasts
//! until the end leaves its ticket in the response instead ([`Switched`]); our
//! `Server` (feature `server`) takes it and keeps it until the upgraded connection closes. Under another server
//! the extensions of the response are dropped when its head was written, and the ticket with them; so too for a
//! stream of HTTP/2, where extended CONNECT answers 200 and has no 101.
//!
//! The verdict is that of the head, or cancelled where our server cut the connection (drain, write timeout).

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use http::{Extensions, Response, StatusCode};

use crate::{Verdict, cause, clock, settle::Observe};

/// Tickets of a call that switched protocols. All of them end when the last clone is dropped.
#[derive(Clone, Default)]
pub struct Switched(Arc<Mutex<Vec<Box<dyn Send>>>>);

impl Switched {
    /// Takes the tickets out of a response, for a server that holds them.
    pub fn take(extensions: &mut Extensions) -> Option<Self> {
        extensions.remove()
    }
}

impl fmt::Debug for Switched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tickets = self.0.lock().unwrap_or_else(PoisonError::into_inner).len();
        f.debug_struct("Switched")
            .field("tickets", &tickets)
            .finish()
    }
}

pub(crate) fn is_switch<B>(response: &Response<B>) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS
}

/// Leaves `guard` in the response.
pub(crate) fn park<B>(response: &mut Response<B>, guard: impl Observe, verdict: Verdict) {
    let guard = Some(guard);
    let tickets: &mut Switched = response.extensions_mut().get_or_insert_default();
    tickets
        .0
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(Box::new(Parked { guard, verdict }));
}

struct Parked<G: Observe> {
    guard: Option<G>,
    verdict: Verdict,
}

impl<G: Observe> Drop for Parked<G> {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take() {
            let verdict = match cause::current() {
                Some(cause) => self.verdict.with_class(cause.class()),
                None => self.verdict,
            };
            guard.done(verdict, clock::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicU32, Ordering},
    };

    use tokio::time::Instant;

    use super::*;
    use crate::{
        Body,
        settle::{ResponseFuture, UntilEnd, UntilHead},
        verdict::Auto,
    };

    #[derive(Clone, Default)]
    struct Ended(Arc<AtomicU32>);
    impl Observe for Ended {
        fn done(self, verdict: Verdict, _: Instant) {
            assert!(verdict.is_success());
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    impl Ended {
        fn count(&self) -> u32 {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn switch() -> Result<Response<Body>, Infallible> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        Ok(response)
    }

    #[tokio::test]
    async fn tickets_last_until_the_server_lets_go_of_the_connection() {
        let (a, b) = (Ended::default(), Ended::default());
        let inner = std::future::ready(switch());
        let inner = ResponseFuture::new(inner, a.clone(), UntilEnd::<Auto>::default());
        let response = ResponseFuture::new(inner, b.clone(), UntilEnd::<Auto>::default()).await;
        let (mut head, body) = response.unwrap().into_parts();
        drop(body);
        let held = Switched::take(&mut head.extensions).unwrap();
        drop(head);
        assert_eq!((a.count(), b.count()), (0, 0));
        drop(held);
        assert_eq!((a.count(), b.count()), (1, 1));
    }

    #[tokio::test]
    async fn under_another_server_and_until_the_head_they_end_at_the_switch() {
        let ended = Ended::default();
        let inner = std::future::ready(switch());
        drop(
            ResponseFuture::new(inner, ended.clone(), UntilEnd::<Auto>::default())
                .await
                .unwrap(),
        );
        assert_eq!(ended.count(), 1);
        let inner = std::future::ready(switch());
        let response =
            ResponseFuture::new(inner, ended.clone(), UntilHead::<Auto>::default()).await;
        assert_eq!(ended.count(), 2);
        drop(response);
    }
}
