use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::Response;
use pin_project_lite::pin_project;

use super::{Flaw, LimitBody, permits::Permit};
use crate::{Body, BoxError};

pin_project! {
    /// The future of [`Limit`](super::Limit).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct LimitFuture<F> {
        #[pin]
        inner: F,
        permit: Option<Permit>,
        more: Vec<Permit>,
        polls: usize,
        waker: Option<Waker>,
        flaw: Option<Flaw>,
    }

    impl<F> PinnedDrop for LimitFuture<F> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            let leaks = match this.flaw {
                Some(Flaw::LeaksUnpolled) => *this.polls == 0,
                Some(Flaw::LeaksWhenDropped) => *this.polls >= 2 && !std::thread::panicking(),
                _ => false,
            };
            if leaks && let Some(permit) = this.permit {
                permit.leak();
            }
        }
    }
}

impl<F> LimitFuture<F> {
    pub(super) const fn new(
        inner: F,
        permit: Option<Permit>,
        more: Vec<Permit>,
        flaw: Option<Flaw>,
    ) -> Self {
        Self {
            inner,
            permit,
            more,
            polls: 0,
            waker: None,
            flaw,
        }
    }
}

fn wake_after(time: Duration, cx: &Context<'_>) {
    let waker = cx.waker().clone();
    tokio::spawn(async move {
        tokio::time::sleep(time).await;
        waker.wake();
    });
}

impl<F> Future for LimitFuture<F>
where
    F: Future<Output = Result<Response<Body>, BoxError>>,
{
    type Output = Result<Response<LimitBody>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        *this.polls += 1;
        let polled = if *this.flaw == Some(Flaw::FirstWaker) {
            let first = this.waker.get_or_insert_with(|| cx.waker().clone());
            this.inner.as_mut().poll(&mut Context::from_waker(first))
        } else {
            this.inner.as_mut().poll(cx)
        };
        let result = match polled {
            Poll::Ready(result) => result,
            Poll::Pending => {
                match this.flaw {
                    Some(Flaw::SpinsInCall) => cx.waker().wake_by_ref(),
                    Some(Flaw::SpinsByTask) => wake_after(Duration::ZERO, cx),
                    Some(Flaw::Ticks) => wake_after(Duration::from_millis(1), cx),
                    _ => {}
                }
                return Poll::Pending;
            }
        };
        if *this.flaw == Some(Flaw::PollsAgain) {
            let _ = this.inner.poll(cx);
        }
        let mut permit = this.permit.take();
        this.more.clear();
        Poll::Ready(match result {
            Ok(response) => {
                let (head, body) = response.into_parts();
                Ok(Response::from_parts(
                    head,
                    LimitBody::new(body, permit, *this.flaw),
                ))
            }
            Err(error) => {
                if *this.flaw == Some(Flaw::LeaksOnError)
                    && let Some(permit) = &mut permit
                {
                    permit.leak();
                }
                if *this.flaw == Some(Flaw::ForgetsSource) {
                    Err(error.to_string().into())
                } else {
                    Err(error)
                }
            }
        })
    }
}
