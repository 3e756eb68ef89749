use std::{
    pin::Pin,
    task::{Context, Poll},
    vec,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::Frame;

use super::{Control, Marked};
use crate::BoxError;

/// The body of the default response: it may stop, break and end with trailers, as its [`Control`] says.
#[derive(Debug)]
pub(super) struct ControlledBody {
    control: Control,
    frames: vec::IntoIter<Bytes>,
    trailers: bool,
    breaks: Option<usize>,
    index: usize,
    over: bool,
}

impl ControlledBody {
    pub(super) fn new(control: Control) -> Self {
        let (frames, trailers, breaks) = {
            let mut state = control.lock();
            state.counts.bodies += 1;
            let frames = state.frames.clone().into_iter();
            (frames, state.trailers, state.body_breaks)
        };
        Self {
            control,
            frames,
            trailers,
            breaks,
            index: 0,
            over: false,
        }
    }

    fn end(&mut self) {
        if !std::mem::replace(&mut self.over, true) {
            self.control.lock().counts.bodies -= 1;
        }
    }
}

impl Drop for ControlledBody {
    fn drop(&mut self) {
        self.end();
    }
}

impl http_body::Body for ControlledBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if self.control.holds_body(self.index, cx) {
            return Poll::Pending;
        }
        if self.breaks == Some(self.index) {
            self.end();
            return Poll::Ready(Some(Err(Marked { call: 0 }.into())));
        }
        self.index += 1;
        Poll::Ready(match self.frames.next() {
            Some(data) => Some(Ok(Frame::data(data))),
            None => {
                self.end();
                std::mem::take(&mut self.trailers).then(|| {
                    let last = HeaderValue::from_static("last");
                    Ok(Frame::trailers(HeaderMap::from_iter([(
                        http::HeaderName::from_static("x-trailer"),
                        last,
                    )])))
                })
            }
        })
    }
}
