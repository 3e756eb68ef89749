//! What a connection is doing, seen from its bytes and its requests, and the watchdog that ends it.
//!
//! hyper's own timer covers the head of HTTP/1 alone, and not the time before the protocol is known, so the
//! one mechanism is here: bytes and requests move a small state, the connection's task checks it when the
//! soonest limit could have passed. No timer is touched per request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{ServerConfig, switch::Switch};
use crate::{invocation::Upload, upgrade::Switched};

#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<State>);

#[derive(Debug)]
struct State {
    epoch: Instant,
    /// Requests whose response has not ended.
    in_flight: AtomicU32,
    /// Since when a head is being read, ms after `epoch` plus one; 0: none is.
    head: AtomicU64,
    /// Since when there has been no request.
    idle: AtomicU64,
    /// Since when the peer has not taken what is written; 0: it takes it.
    blocked: AtomicU64,
    /// Responses that gave a frame and were not asked for the next.
    held: AtomicU32,
    /// When a response was last asked, on HTTP/2: a peer that opens no window takes nothing, and no write blocks.
    asked: AtomicU64,
    http2: AtomicBool,
    linger: AtomicBool,
    switch: Switch,
}

/// What the watchdog says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// Nothing can be over before then.
    At(Instant),
    /// A limit has passed.
    Over(&'static str),
}

impl Shared {
    pub(super) fn new(now: Instant) -> Self {
        Self(Arc::new(State {
            epoch: now,
            in_flight: AtomicU32::new(0),
            // The first head is waited for from the start.
            head: AtomicU64::new(1),
            idle: AtomicU64::new(1),
            blocked: AtomicU64::new(0),
            held: AtomicU32::new(0),
            asked: AtomicU64::new(1),
            http2: AtomicBool::new(false),
            linger: AtomicBool::new(false),
            switch: Switch::default(),
        }))
    }

    fn stamp(&self) -> u64 {
        self.0.epoch.elapsed().as_millis() as u64 + 1
    }

    /// A request was read: its head is complete.
    pub(super) fn request(&self) -> InFlight {
        self.0.head.store(0, Relaxed);
        self.0.in_flight.fetch_add(1, Relaxed);
        InFlight {
            shared: self.clone(),
            gave: false,
            upload: None,
        }
    }

    pub(super) fn linger(&self) {
        self.0.linger.store(true, Relaxed);
    }

    pub(super) fn lingers(&self) -> bool {
        self.0.linger.load(Relaxed)
    }

    pub(super) fn switch(&self) -> &Switch {
        &self.0.switch
    }

    /// The request that was read may switch protocols. A stream of HTTP/2 may too, but not its connection.
    pub(super) fn offer_switch(&self) {
        if !self.0.http2.load(Relaxed) {
            self.0.switch.offer();
        }
    }

    pub(super) fn read(&self, bytes: &[u8]) {
        let state = &*self.0;
        if state.in_flight.load(Relaxed) > 0 || state.http2.load(Relaxed) {
            return;
        }
        if bytes.starts_with(b"PRI * HTTP/2.0") {
            // Frames are no heads: from here on only idleness is watched.
            state.http2.store(true, Relaxed);
            state.head.store(0, Relaxed);
        } else if state.head.load(Relaxed) == 0 {
            state.head.store(self.stamp(), Relaxed);
        }
    }

    pub(super) fn written(&self, progress: bool) {
        let blocked = &self.0.blocked;
        if progress {
            if blocked.load(Relaxed) != 0 {
                blocked.store(0, Relaxed);
            }
        } else if blocked.load(Relaxed) == 0 {
            blocked.store(self.stamp(), Relaxed);
        }
    }

    pub(super) fn check(&self, now: Instant, limits: &ServerConfig) -> Check {
        let state = &*self.0;
        let mut next = now
            + limits
                .header_read_timeout
                .min(limits.idle_timeout)
                .min(limits.write_timeout);
        let head = state.head.load(Relaxed);
        let in_flight = state.in_flight.load(Relaxed) > 0;
        let idle = if in_flight || head != 0 {
            0
        } else {
            state.idle.load(Relaxed)
        };
        let starved = state.http2.load(Relaxed) && state.held.load(Relaxed) > 0;
        let starved = if starved {
            state.asked.load(Relaxed)
        } else {
            0
        };
        for (since, limit, what) in [
            (starved, limits.write_timeout, "window"),
            (state.blocked.load(Relaxed), limits.write_timeout, "write"),
            (
                if in_flight { 0 } else { head },
                limits.header_read_timeout,
                "head",
            ),
            (idle, limits.idle_timeout, "idle"),
        ] {
            if since != 0 {
                let at = state.epoch + Duration::from_millis(since - 1) + limit;
                if at <= now {
                    return Check::Over(what);
                }
                next = next.min(at);
            }
        }
        Check::At(next)
    }
}

/// A request in flight, until its response has ended.
#[derive(Debug)]
pub(super) struct InFlight {
    shared: Shared,
    /// The response gave a frame and was not asked for the next.
    gave: bool,
    /// Of a request whose body goes on beside its response.
    upload: Option<Upload>,
}

impl InFlight {
    /// The response switches protocols: its tickets last as long as the connection.
    pub(super) fn switched(&self, tickets: Switched) {
        if !self.shared.0.http2.load(Relaxed) {
            self.shared.0.switch.hold(tickets);
        }
    }

    /// A request with a body, which may stall while the response goes on.
    pub(super) fn beside(&mut self, upload: Upload) {
        self.upload = Some(upload);
    }

    /// The peer has room: the response is asked for its next frame.
    pub(super) fn asked(&mut self) {
        let state = &*self.shared.0;
        if std::mem::take(&mut self.gave) {
            state.held.fetch_sub(1, Relaxed);
        }
        if state.http2.load(Relaxed) {
            state.asked.store(self.shared.stamp(), Relaxed);
        }
    }

    /// The response gave a frame.
    pub(super) fn gave(&mut self) {
        if !std::mem::replace(&mut self.gave, true) {
            self.shared.0.held.fetch_add(1, Relaxed);
        }
        if let Some(upload) = &self.upload {
            upload.answered();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // Before the count: whoever sees the count at 0 sees when that was.
        let state = &*self.shared.0;
        if self.gave {
            state.held.fetch_sub(1, Relaxed);
        }
        state.idle.store(self.shared.stamp(), Relaxed);
        state.in_flight.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_watched_when() {
        let limits = ServerConfig {
            header_read_timeout: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(3),
            ..ServerConfig::default()
        };
        let over = |shared: &Shared| match shared.check(Instant::now(), &limits) {
            Check::Over(what) => what,
            Check::At(_) => "",
        };
        let shared = Shared::new(Instant::now());
        tokio::time::advance(Duration::from_millis(1999)).await;
        assert_eq!(over(&shared), "");
        tokio::time::advance(Duration::from_millis(2)).await;
        assert_eq!(over(&shared), "head", "a silent connection");

        let request = shared.request();
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(over(&shared), "", "a request may take its time");
        drop(request);
        tokio::time::advance(Duration::from_millis(4990)).await;
        assert_eq!(over(&shared), "");
        shared.read(b"GET");
        tokio::time::advance(Duration::from_millis(1000)).await;
        assert_eq!(over(&shared), "", "the next head began in time");
        tokio::time::advance(Duration::from_millis(1001)).await;
        assert_eq!(over(&shared), "head");

        let request = shared.request();
        shared.written(false);
        tokio::time::advance(Duration::from_millis(3001)).await;
        assert_eq!(over(&shared), "write");
        shared.written(true);
        assert_eq!(over(&shared), "");
        drop(request);
        tokio::time::advance(Duration::from_millis(5001)).await;
        assert_eq!(over(&shared), "idle");
    }
}
