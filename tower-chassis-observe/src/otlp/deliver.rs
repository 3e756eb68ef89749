//! One batch after the other, each tried until it is taken, refused or too late.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, Status};

use super::config::Target;

/// The wait before the second attempt; it doubles.
const FIRST: Duration = Duration::from_millis(100);
/// The longest wait between two attempts.
const LONGEST: Duration = Duration::from_secs(5);
/// How often it is logged that something was lost.
const MINUTE: Duration = Duration::from_secs(60);

/// What became of what was given to be sent.
#[derive(Debug, Default)]
pub(super) struct Counts {
    offered: AtomicU64,
    sent: AtomicU64,
    lost: AtomicU64,
    closed: AtomicBool,
}

impl Counts {
    pub(super) fn offered(&self, count: u64) {
        self.offered.fetch_add(count, AcqRel);
    }

    pub(super) fn lose(&self, count: u64) {
        self.lost.fetch_add(count, Relaxed);
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// After the end nothing waits: what was not sent is lost, also what came in between.
    pub(super) fn lost(&self) -> u64 {
        if self.closed.load(Acquire) {
            self.offered.load(Acquire).saturating_sub(self.sent())
        } else {
            self.lost.load(Relaxed)
        }
    }

    /// Nobody sends any more.
    pub(super) fn close(&self) {
        self.closed.store(true, Release);
    }
}

/// What a collector says of a batch that it has taken.
#[derive(Debug, Default)]
pub(super) struct Partial {
    pub(super) rejected: i64,
    pub(super) message: String,
}

/// Spans, or metrics.
pub(super) trait Signal: Send {
    type Batch: ?Sized + Sync;
    const NAME: &'static str;

    fn count(batch: &Self::Batch) -> u64;

    /// Two of one that is too large to be sent, if it can be parted.
    fn halves(batch: &Self::Batch) -> Option<(&Self::Batch, &Self::Batch)>;

    /// The connection is not to be used again: nobody has answered on it.
    fn renew(&mut self);

    fn attempt(
        &mut self,
        batch: &Self::Batch,
    ) -> impl Future<Output = Result<Partial, Status>> + Send;
}

/// Sends the batches of a signal.
pub(super) struct Exporter<S> {
    pub(super) signal: S,
    counts: Arc<Counts>,
    target: Target,
    random: fastrand::Rng,
    /// When it may be logged again, and what was lost since it was.
    quiet: Option<Instant>,
    unsaid: u64,
}

impl<S: Signal> Exporter<S> {
    pub(super) fn new(signal: S, counts: Arc<Counts>, target: Target) -> Self {
        Self {
            signal,
            counts,
            target,
            random: fastrand::Rng::new(),
            quiet: None,
            unsaid: 0,
        }
    }

    /// Sends a batch, in parts if it is too large, and counts it. Dropped, it has not counted what is under way.
    pub(super) async fn deliver(&mut self, batch: &S::Batch) {
        let deadline = Instant::now() + self.target.timeout;
        let mut next = Some(batch);
        let mut later = Vec::new();
        while let Some(batch) = next.take() {
            match self.attempts(batch, deadline).await {
                Err(status) if is_too_large(&status) => match S::halves(batch) {
                    Some((first, second)) => {
                        next = Some(first);
                        later.push(second);
                    }
                    None => self.ended(batch, Err(status)),
                },
                other => self.ended(batch, other),
            }
            next = next.or_else(|| later.pop());
        }
    }

    fn ended(&mut self, batch: &S::Batch, outcome: Result<Partial, Status>) {
        let count = S::count(batch);
        let (lost, why) = match outcome {
            Ok(partial) => {
                // A collector cannot refuse more than it got.
                let rejected = u64::try_from(partial.rejected).unwrap_or(0).min(count);
                (rejected, self.target.shown(&partial.message))
            }
            Err(status) => (count, said(&status, &self.target)),
        };
        self.counts.sent.fetch_add(count - lost, Relaxed);
        self.counts.lost.fetch_add(lost, Relaxed);
        self.unsaid += lost;
        if !why.is_empty() {
            self.say(&why);
        }
    }

    async fn attempts(&mut self, batch: &S::Batch, deadline: Instant) -> Result<Partial, Status> {
        let mut wait = FIRST;
        loop {
            let status = match timeout_at(deadline, self.signal.attempt(batch)).await {
                Ok(Ok(partial)) => return Ok(partial),
                Ok(Err(status)) => status,
                Err(_) => {
                    // It may lead nowhere without having been closed, and would take all that follows.
                    self.signal.renew();
                    return Err(Status::deadline_exceeded("no answer in time"));
                }
            };
            if is_too_large(&status) {
                return Err(status);
            }
            let Some(hint) = again(&status) else {
                return Err(status);
            };
            let jittered = wait.mul_f64(0.5 + self.random.f64() / 2.0);
            let pause = hint.unwrap_or(jittered);
            // Not as a sum: what a collector says may be as long as it likes.
            if pause >= deadline.saturating_duration_since(Instant::now()) {
                return Err(status);
            }
            sleep(pause).await;
            wait = (wait * 2).min(LONGEST);
        }
    }

    /// At most once a minute.
    fn say(&mut self, why: &str) {
        let now = Instant::now();
        if self.quiet.is_some_and(|until| now < until) {
            return;
        }
        self.quiet = Some(now + MINUTE);
        tracing::warn!(
            target: "tower_chassis::otlp",
            signal = S::NAME,
            endpoint = self.target.authority(),
            lost = self.unsaid,
            why,
            "telemetry is lost",
        );
        self.unsaid = 0;
    }
}

/// What a collector says of why it did not take something.
pub(super) fn said(status: &Status, target: &Target) -> String {
    match status.message() {
        "" => format!("{:?}", status.code()),
        message => format!("{:?}: {}", status.code(), target.shown(message)),
    }
}

/// The mark of a message that is larger than what is taken.
const TOO_LARGE: &str = "chassis-too-large";

pub(super) fn too_large(mut status: Status) -> Status {
    let mark = tonic::metadata::MetadataValue::from_static("1");
    status.metadata_mut().insert(TOO_LARGE, mark);
    status
}

fn is_too_large(status: &Status) -> bool {
    status.metadata().contains_key(TOO_LARGE)
}

/// Whether a batch may be sent again, and after how long if that was said: OTLP's table of codes.
fn again(status: &Status) -> Option<Option<Duration>> {
    let hint = retry_info(status.details()).or_else(|| {
        let after = status.metadata().get("retry-after")?.to_str().ok()?;
        after.parse().ok().map(Duration::from_secs)
    });
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Some(hint),
        // It may be tried again only if it says when.
        Code::ResourceExhausted => hint.map(Some),
        _ => None,
    }
}

/// The wait of a `google.rpc.RetryInfo` among the details of a status.
fn retry_info(details: &[u8]) -> Option<Duration> {
    const TYPE: &[u8] = b"type.googleapis.com/google.rpc.RetryInfo";
    // Status.details = 3, of Any: type_url = 1, value = 2. RetryInfo.retry_delay = 1, of Duration: seconds = 1, nanos = 2.
    let any = fields(details)
        .filter(|field| field.0 == 3)
        .find(|any| fields(any.2).any(|field| field.0 == 1 && field.2 == TYPE))?;
    let value = fields(any.2).find(|field| field.0 == 2)?.2;
    let delay = fields(value).find(|field| field.0 == 1)?.2;
    let part = |number| {
        let field = fields(delay).find(|field| field.0 == number);
        field.map_or(0, |field| field.1)
    };
    let nanos = u32::try_from(part(2)).ok().filter(|&n| n < 1_000_000_000)?;
    Some(Duration::new(part(1), nanos))
}

/// The fields of a message of protobuf: number, value of a varint, bytes. It ends where it is broken.
fn fields(mut bytes: &[u8]) -> impl Iterator<Item = (u64, u64, &[u8])> {
    std::iter::from_fn(move || {
        let tag = varint(&mut bytes)?;
        match tag & 7 {
            0 => Some((tag >> 3, varint(&mut bytes)?, &[][..])),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (value, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Some((tag >> 3, 0, value))
            }
            _ => None,
        }
    })
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_read_from_the_details_of_a_status() {
        let field = |number: u8, bytes: &[u8]| {
            let mut out = vec![number << 3 | 2, u8::try_from(bytes.len()).unwrap()];
            out.extend(bytes);
            out
        };
        let url = field(1, b"type.googleapis.com/google.rpc.RetryInfo");
        let delay = field(1, &[0x08, 0x03, 0x10, 0x80, 0xca, 0xb5, 0xee, 0x01]);
        let info = field(3, &[url, field(2, &delay)].concat());
        let other = field(3, &field(1, b"type.googleapis.com/google.rpc.Help"));
        let details = [vec![0x08, 0x08], field(2, b"full"), other, info].concat();
        assert_eq!(retry_info(&details), Some(Duration::from_millis(3_500)));
        for end in 0..details.len() {
            assert_eq!(retry_info(&details[..end]), None, "{end}");
        }

        let full = |details: &[u8]| {
            let details = bytes::Bytes::copy_from_slice(details);
            Status::with_details(Code::ResourceExhausted, "full", details)
        };
        assert_eq!(again(&full(b"")), None);
        assert_eq!(
            again(&full(&details)),
            Some(Some(Duration::from_millis(3_500)))
        );
        assert_eq!(again(&Status::unavailable("")), Some(None));
        assert_eq!(again(&Status::invalid_argument("")), None);
    }
}
