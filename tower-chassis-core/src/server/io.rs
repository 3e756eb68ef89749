//! The bytes of a connection.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use super::{connection::Shared, drain::Phase, slots::Place};

/// What a client may still send after it was answered and cut off, and for how long.
const LINGER_BYTES: usize = 4 * 1024 * 1024;
const LINGER: Duration = Duration::from_secs(1);

pin_project! {
    /// The bytes of a connection, watched. Its place and the tickets of a switch end with them: after an upgrade
    /// they are in the hands of a handler, and no task of the server's is left.
    pub(super) struct Io<T> {
        #[pin]
        inner: T,
        shared: Shared,
        write_timeout: Duration,
        shut: bool,
        linger: Option<(Pin<Box<Sleep>>, usize)>,
        // Made when somebody waits for bytes that may no longer be HTTP.
        waits: Option<Box<Waits>>,
        // Last: the socket is closed before its place is free.
        place: Place,
    }

    impl<T> PinnedDrop for Io<T> {
        fn drop(this: Pin<&mut Self>) {
            this.project().shared.switch().end();
        }
    }
}

impl<T> Io<T> {
    pub(super) fn new(inner: T, shared: Shared, write_timeout: Duration, place: Place) -> Self {
        Self {
            inner,
            shared,
            write_timeout,
            shut: false,
            linger: None,
            waits: None,
            place,
        }
    }
}

/// Who waits for an upgraded connection, and what ends the wait when its peer does not: the connection's task has
/// ended. One of each for reads and writes, which may be two tasks.
struct Waits {
    read: Forced,
    write: Forced,
    reader: Option<Waker>,
    /// For a peer that does not take what is written. Unarmed while it does.
    stall: Pin<Box<Sleep>>,
    armed: bool,
}

type Forced = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Waits {
    fn of<'a>(waits: &'a mut Option<Box<Self>>, place: &Place) -> &'a mut Self {
        waits.get_or_insert_with(|| {
            let forced = || -> Forced {
                let drain = place.drain().clone();
                Box::pin(async move { drain.reached(Phase::Forced).await })
            };
            Box::new(Self {
                read: forced(),
                write: forced(),
                reader: None,
                stall: Box::pin(tokio::time::sleep(Duration::ZERO)),
                armed: false,
            })
        })
    }
}

fn cut_off() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the server closed the connection",
    )
}

/// What ends a read or a write before it is tried.
fn check(shared: &Shared, place: &Place) -> io::Result<()> {
    let switch = shared.switch();
    if !switch.is_offered() {
        return Ok(());
    }
    if !switch.is_cut() {
        if !place.drain().is_forced() {
            return Ok(());
        }
        switch.cut();
    }
    Err(cut_off())
}

impl<T> Io<T> {
    /// A read waits for its peer.
    fn wait_to_read(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        if !this.shared.switch().is_offered() {
            return Poll::Pending;
        }
        let waits = Waits::of(this.waits, this.place);
        if waits.read.as_mut().poll(cx).is_ready() {
            this.shared.switch().cut();
            return Poll::Ready(Err(cut_off()));
        }
        match &mut waits.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// A write, a flush or a shutdown waits for its peer.
    fn wait_to_write<R>(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        let this = self.project();
        if !this.shared.switch().is_offered() {
            return Poll::Pending;
        }
        let waits = Waits::of(this.waits, this.place);
        ready!(waits.write.as_mut().poll(cx));
        this.shared.switch().cut();
        Poll::Ready(Err(cut_off()))
    }

    /// A write was tried: for the write timeout it may be in vain.
    fn wrote(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        tried: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        self.shared.written(tried.is_ready());
        if tried.is_ready() {
            if let Some(waits) = self.project().waits {
                waits.armed = false;
            }
            return tried;
        }
        if let Poll::Ready(over) = self.as_mut().wait_to_write(cx) {
            return Poll::Ready(over);
        }
        let this = self.project();
        let Some(waits) = this.waits else {
            return Poll::Pending;
        };
        if !std::mem::replace(&mut waits.armed, true) {
            let at = Instant::now() + *this.write_timeout;
            waits.stall.as_mut().reset(at);
        }
        ready!(waits.stall.as_mut().poll(cx));
        this.shared.switch().cut();
        if let Some(reader) = waits.reader.take() {
            reader.wake();
        }
        let error = io::Error::new(io::ErrorKind::TimedOut, "the client does not read");
        Poll::Ready(Err(error))
    }
}

impl<T: AsyncRead> AsyncRead for Io<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.as_mut().project();
        check(this.shared, this.place)?;
        let before = buf.filled().len();
        match this.inner.poll_read(cx, buf) {
            Poll::Ready(result) => result?,
            Poll::Pending => return self.wait_to_read(cx),
        }
        let new = &buf.filled()[before..];
        if !new.is_empty() {
            this.shared.read(new);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite> AsyncWrite for Io<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.as_mut().project();
        check(this.shared, this.place)?;
        let tried = this.inner.poll_write(cx, buf);
        self.wrote(cx, tried)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.as_mut().project();
        check(this.shared, this.place)?;
        let tried = this.inner.poll_write_vectored(cx, bufs);
        self.wrote(cx, tried)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.as_mut().project();
        check(this.shared, this.place)?;
        match this.inner.poll_flush(cx) {
            Poll::Pending => self.wait_to_write(cx),
            flushed => flushed,
        }
    }

    /// Half closes; a client that was cut off in its body is read from for a moment, because closing with
    /// bytes unread resets the connection and takes the answer away from it.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.as_mut().project();
        if !*this.shut {
            match this.inner.as_mut().poll_shutdown(cx) {
                Poll::Ready(result) => result?,
                Poll::Pending => return self.wait_to_write(cx),
            }
            *this.shut = true;
        }
        if !this.shared.lingers() {
            return Poll::Ready(Ok(()));
        }
        let (sleep, left) = this
            .linger
            .get_or_insert_with(|| (Box::pin(tokio::time::sleep(LINGER)), LINGER_BYTES));
        let mut scratch = [0u8; 4096];
        while *left > 0 {
            let mut buf = ReadBuf::new(&mut scratch);
            match this.inner.as_mut().poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if buf.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => *left = left.saturating_sub(buf.filled().len()),
                Poll::Ready(Err(_)) => return Poll::Ready(Ok(())),
                Poll::Pending => return sleep.as_mut().poll(cx).map(Ok),
            }
        }
        Poll::Ready(Ok(()))
    }
}
