//! A body of given frames.
#![allow(dead_code, reason = "every test file uses a part of it")]

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use tower_chassis_core::BoxError;

/// Gives its frames one after the other, then ends, breaks or waits for ever.
#[derive(Default)]
pub(crate) struct Frames {
    pub(crate) frames: VecDeque<Frame<Bytes>>,
    pub(crate) breaks: bool,
    pub(crate) waits: bool,
}

impl Frames {
    /// The text in pieces of `size` bytes.
    pub(crate) fn split(text: &[u8], size: usize) -> Self {
        let frames = text.chunks(size.max(1)).map(Bytes::copy_from_slice);
        Self {
            frames: frames.map(Frame::data).collect(),
            ..Self::default()
        }
    }

    pub(crate) fn trailers(mut self, name: &'static str, value: &'static str) -> Self {
        let mut trailers = HeaderMap::new();
        trailers.insert(name, value.parse().unwrap());
        self.frames.push_back(Frame::trailers(trailers));
        self
    }
}

impl Body for Frames {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.frames.pop_front() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None if self.waits => Poll::Pending,
            None if std::mem::take(&mut self.breaks) => Poll::Ready(Some(Err("planted".into()))),
            None => Poll::Ready(None),
        }
    }
}
