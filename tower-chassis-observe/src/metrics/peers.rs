//! The servers that a client calls, by address.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use metrics::{Gauge, Label};

use super::{
    RecorderHandle, names,
    series::{Lazy, Series},
    server::push_outcome,
};
use crate::{fault::Outcome, method::KnownMethod};

/// As many servers have series of their own.
const KEPT: usize = 256;

/// The servers that were called, in order of address and port.
#[derive(Debug)]
pub(crate) struct Peers {
    recorder: RecorderHandle,
    known: ArcSwap<Vec<Arc<Peer>>>,
    others: Arc<Peer>,
}

/// The series of one server.
#[derive(Debug)]
pub(crate) struct Peer {
    recorder: RecorderHandle,
    address: Box<str>,
    port: Option<u16>,
    active: [OnceLock<Gauge>; KnownMethod::COUNT],
    series: Lazy<Series, { KnownMethod::COUNT }>,
}

impl Peers {
    pub(crate) fn new(recorder: RecorderHandle) -> Self {
        let others = Arc::new(Peer::new(&recorder, "_OTHER", None));
        Self {
            recorder,
            known: ArcSwap::default(),
            others,
        }
    }

    pub(crate) const fn recorder(&self) -> &RecorderHandle {
        &self.recorder
    }

    /// The server at an address; one for all others when there are too many.
    pub(crate) fn get(&self, address: &str, port: Option<u16>) -> Arc<Peer> {
        let known = self.known.load();
        if let Ok(at) = find(&known, address, port) {
            return Arc::clone(&known[at]);
        }
        if known.len() >= KEPT {
            return Arc::clone(&self.others);
        }
        drop(known);
        self.add(address, port)
    }

    fn add(&self, address: &str, port: Option<u16>) -> Arc<Peer> {
        let new = Arc::new(Peer::new(&self.recorder, address, port));
        let mut mine = Arc::clone(&new);
        self.known.rcu(|old| match find(old, address, port) {
            Ok(at) => {
                // Another call was faster.
                mine = Arc::clone(&old[at]);
                Arc::clone(old)
            }
            Err(_) if old.len() >= KEPT => {
                mine = Arc::clone(&self.others);
                Arc::clone(old)
            }
            Err(at) => {
                mine = Arc::clone(&new);
                let mut peers = Vec::clone(old);
                peers.insert(at, Arc::clone(&new));
                Arc::new(peers)
            }
        });
        mine
    }
}

fn find(peers: &[Arc<Peer>], address: &str, port: Option<u16>) -> Result<usize, usize> {
    peers.binary_search_by(|peer| (&*peer.address, peer.port).cmp(&(address, port)))
}

impl Peer {
    fn new(recorder: &RecorderHandle, address: &str, port: Option<u16>) -> Self {
        Self {
            recorder: recorder.clone(),
            address: address.into(),
            port,
            active: std::array::from_fn(|_| OnceLock::new()),
            series: Lazy::default(),
        }
    }

    pub(crate) fn active(&self, method: KnownMethod, change: impl FnOnce(&Gauge)) {
        if let Some(slot) = self.active.get(method.index()) {
            change(slot.get_or_init(|| {
                self.recorder
                    .gauge(names::CLIENT_ACTIVE, self.labels(method))
            }));
        }
    }

    pub(crate) fn record(&self, method: KnownMethod, outcome: Outcome, seconds: f64) {
        if let Some(series) = self.series.get(method.index()) {
            series.record(outcome, seconds, || {
                let mut labels = self.labels(method);
                push_outcome(&mut labels, outcome);
                self.recorder.histogram(names::CLIENT_DURATION, labels)
            });
        }
    }

    fn labels(&self, method: KnownMethod) -> Vec<Label> {
        let mut labels = vec![
            Label::from_static_parts("http_request_method", method.label()),
            Label::new("server_address", self.address.to_string()),
        ];
        if let Some(port) = self.port {
            labels.push(Label::new("server_port", port.to_string()));
        }
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_found_again_and_bounded() {
        let peers = Peers::new(RecorderHandle::global());
        let a = peers.get("a", Some(80));
        assert!(Arc::ptr_eq(&a, &peers.get("a", Some(80))));
        assert!(!Arc::ptr_eq(&a, &peers.get("a", Some(81))));
        assert!(!Arc::ptr_eq(&a, &peers.get("a", None)));
        for n in 0..1000 {
            peers.get(&format!("host-{n}"), None);
        }
        assert_eq!(peers.known.load().len(), KEPT);
        assert_eq!(&*peers.get("host-999", None).address, "_OTHER");
        assert!(Arc::ptr_eq(&a, &peers.get("a", Some(80))));
    }
}
