//! Whether what was set up fits together: what does not is silent otherwise.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    sync::{PoisonError, atomic::Ordering::Relaxed},
    task::Poll,
    time::Duration,
};

use opentelemetry::{
    global,
    trace::{Span as _, Tracer},
};
use tokio::time::timeout;
use tower_chassis_core::trace::TraceContext;

use super::{
    config::{Protocol, Target},
    deliver::{Signal, said},
    handle::Otlp,
    processor::{PROBE, within},
};

/// How long a collector has for an empty message.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something by which telemetry would be lost without a word.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Misfit {
    /// The collector has not taken an empty message within 5 s.
    Unreachable {
        /// `span` or `metric`.
        signal: &'static str,
        /// Host and port.
        endpoint: String,
        /// How it was sent.
        protocol: Protocol,
        /// What it said, or why there was no answer.
        why: String,
    },
    /// The global provider of `opentelemetry` 0.33 is not the one that was [installed](Otlp::install).
    Provider,
    /// The global propagator of `opentelemetry` 0.33 writes no header.
    Propagator,
    /// A layer was [made](Otlp::layer), but spans of the subscriber that is in force here do not come to it.
    Subscriber,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions = "see which there are with `cargo tree -i opentelemetry` (this is 0.33) and `cargo tree -i \
                        tracing-opentelemetry` (0.34)";
        match self {
            Self::Unreachable {
                signal,
                endpoint,
                protocol,
                why,
            } => {
                let how = protocol.as_str();
                write!(f, "no {signal} arrives at {endpoint} by {how}: {why}")?;
                let port = endpoint.rsplit(':').next();
                match (port, protocol) {
                    (Some("4318"), Protocol::Grpc) => {
                        f.write_str("; 4318 is the port for http/protobuf by custom, gRPC has 4317")
                    }
                    (Some("4317"), Protocol::HttpProtobuf) => {
                        f.write_str("; 4317 is the port for gRPC by custom, http/protobuf has 4318")
                    }
                    _ => Ok(()),
                }
            }
            Self::Provider => write!(
                f,
                "another provider has taken the place of the global one of opentelemetry 0.33: spans that libraries make \
                 with it are not sent; {versions}"
            ),
            Self::Propagator => write!(
                f,
                "the global propagator of opentelemetry 0.33 writes no header: calls that libraries make with it begin a \
                 trace of their own; {versions}"
            ),
            Self::Subscriber => write!(
                f,
                "spans of the application are not sent: the layer is not in the subscriber that is in force, its filter \
                 leaves them out, or it is of another version of tracing-opentelemetry; {versions}"
            ),
        }
    }
}

impl Otlp {
    /// Looks whether what is sent arrives: an empty message for each signal to the collector, and a span that is not sent
    /// through the subscriber and the global provider, where these are to be ours. What does not fit is logged as a warning
    /// too, target `tower_chassis::otlp`.
    ///
    /// To be called once, when everything is set up. It takes at most 5 s.
    pub async fn check(&self) -> Vec<Misfit> {
        let senders = self
            .0
            .senders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut misfits = self.here();
        // Both at once, so that it takes no longer than the slower one.
        let spans = asked(senders.spans);
        let points = asked(senders.points);
        let (mut spans, mut points) = (pin!(spans), pin!(points));
        let (mut of_spans, mut of_points) = (None, None);
        poll_fn(|cx| {
            if of_spans.is_none() {
                of_spans = ready_or_none(spans.as_mut().poll(cx));
            }
            if of_points.is_none() {
                of_points = ready_or_none(points.as_mut().poll(cx));
            }
            match (&of_spans, &of_points) {
                (Some(_), Some(_)) => Poll::Ready(()),
                _ => Poll::Pending,
            }
        })
        .await;
        misfits.extend(of_spans.flatten());
        misfits.extend(of_points.flatten());
        for misfit in &misfits {
            tracing::warn!(target: "tower_chassis::otlp", "{misfit}");
        }
        misfits
    }

    /// What can be seen within the process.
    fn here(&self) -> Vec<Misfit> {
        let mut misfits = Vec::new();
        if self.0.provider.get().is_none() {
            return misfits;
        }
        let probe = &self.0.probe;
        let comes = |make: &mut dyn FnMut()| {
            let seen = probe.seen.load(Relaxed);
            // Not sampled: what else listens does not send it either.
            if let Some(call) = TraceContext::new([1; 16], [1; 8], false) {
                within(&call, None, make);
            }
            probe.seen.load(Relaxed) > seen
        };
        if probe.layered.load(Relaxed) {
            // It is made when it ends at the latest.
            let span = &mut || drop(tracing::error_span!(target: PROBE, PROBE));
            if !comes(span) {
                misfits.push(Misfit::Subscriber);
            }
        }
        if probe.installed.load(Relaxed) {
            if !comes(&mut || global::tracer(PROBE).start(PROBE).end()) {
                misfits.push(Misfit::Provider);
            }
            if global::get_text_map_propagator(|propagator| propagator.fields().next().is_none()) {
                misfits.push(Misfit::Propagator);
            }
        }
        misfits
    }
}

fn ready_or_none<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Whether a collector takes an empty message; if there is one.
async fn asked<S: Signal>(sender: Option<(S, Target)>) -> Option<Misfit>
where
    S::Batch: 'static,
    for<'a> &'a S::Batch: Default,
{
    let (mut signal, target) = sender?;
    let why = match timeout(PATIENCE, signal.attempt(Default::default())).await {
        Ok(Ok(_)) => return None,
        Ok(Err(status)) => said(&status, &target),
        Err(_) => "no answer in 5 s".to_owned(),
    };
    Some(Misfit::Unreachable {
        signal: S::NAME,
        endpoint: target.authority().to_owned(),
        protocol: target.protocol,
        why,
    })
}
