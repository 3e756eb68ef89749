//! The servers that a client calls, by address.

use std::sync::{Arc, OnceLock};

use metrics::{Gauge, Label};
use tower_chassis_core::Verdict;

use super::{
    OTHER, RecorderHandle,
    known::{Known, LONGEST},
    names,
    recorder::told,
    rpc::{Rpc, Rpcs},
    series::{Lazy, Series, Values},
    server::push_outcome,
};
use crate::{fault::Outcome, method::KnownMethod};

const METRICS: [&str; 3] = [
    names::CLIENT_DURATION,
    names::CLIENT_REQUEST_SIZE,
    names::CLIENT_RESPONSE_SIZE,
];

/// The servers that were called, by address and port.
#[derive(Debug)]
pub(crate) struct Peers {
    recorder: RecorderHandle,
    known: Known<Peer>,
}

/// The series of one server.
#[derive(Debug)]
pub(crate) struct Peer {
    recorder: RecorderHandle,
    address: Box<str>,
    port: Option<u16>,
    active: [OnceLock<Gauge>; KnownMethod::COUNT],
    series: Lazy<Series, { KnownMethod::COUNT }>,
    rpcs: Rpcs,
}

impl Peers {
    pub(crate) fn new(recorder: RecorderHandle) -> Self {
        let known = Known::new(Peer::new(&recorder, OTHER, None));
        Self { recorder, known }
    }

    pub(crate) const fn recorder(&self) -> &RecorderHandle {
        &self.recorder
    }

    /// The server at an address; one for all others where `bound` are known already, and for what is no address.
    pub(crate) fn get(&self, bound: usize, address: &str, port: Option<u16>) -> Arc<Peer> {
        if address.len() > LONGEST {
            return self.known.others();
        }
        self.known.get(
            bound,
            |peer| (&*peer.address, peer.port).cmp(&(address, port)),
            || Peer::new(&self.recorder, address, port),
        )
    }
}

impl Peer {
    fn new(recorder: &RecorderHandle, address: &str, port: Option<u16>) -> Self {
        Self {
            recorder: recorder.clone(),
            address: address.into(),
            port,
            active: std::array::from_fn(|_| OnceLock::new()),
            series: Lazy::default(),
            rpcs: Rpcs::default(),
        }
    }

    pub(crate) fn active(&self, method: KnownMethod, change: impl FnOnce(&Gauge)) {
        if let Some(slot) = self.active.get(method.index()) {
            let labels = || self.labels(method);
            let gauge = || self.recorder.gauge(names::CLIENT_ACTIVE, labels());
            told(|| change(slot.get_or_init(gauge)));
        }
    }

    pub(crate) const fn rpcs(&self) -> &Rpcs {
        &self.rpcs
    }

    pub(crate) fn record(&self, method: KnownMethod, outcome: Outcome, values: Values) {
        if let Some(series) = self.series.get(method.index()) {
            series.record(outcome, values, |metric| {
                let mut labels = self.labels(method);
                push_outcome(&mut labels, outcome);
                self.recorder.histogram(METRICS[metric], labels)
            });
        }
    }

    pub(crate) fn record_rpc(
        &self,
        bound: usize,
        rpc: Arc<Rpc>,
        verdict: Verdict,
        outcome: Outcome,
        seconds: f64,
    ) {
        let rpcs = &self.rpcs;
        rpcs.record(bound, rpc, verdict, outcome, seconds, |rpc| {
            let mut labels = rpc.labels(verdict, outcome);
            self.push_address(&mut labels);
            self.recorder.histogram(names::RPC_CLIENT_DURATION, labels)
        });
    }

    fn labels(&self, method: KnownMethod) -> Vec<Label> {
        let method = Label::from_static_parts("http_request_method", method.label());
        let mut labels = vec![method];
        self.push_address(&mut labels);
        labels
    }

    fn push_address(&self, labels: &mut Vec<Label>) {
        labels.push(Label::new("server_address", self.address.to_string()));
        if let Some(port) = self.port {
            labels.push(Label::new("server_port", port.to_string()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_a_port_are_a_peer() {
        let peers = Peers::new(RecorderHandle::global());
        let a = peers.get(2, "a", Some(80));
        assert!(Arc::ptr_eq(&a, &peers.get(2, "a", Some(80))));
        assert!(!Arc::ptr_eq(&a, &peers.get(2, "a", None)));
        assert_eq!(&*peers.get(2, "a", Some(81)).address, "_OTHER");
        // No host is as long, and every series would have it as a label.
        let long = "x".repeat(257);
        assert_eq!(&*peers.get(9, &long, None).address, "_OTHER");
        assert_eq!(&*peers.get(9, &long[1..], None).address, &long[1..]);
    }
}
