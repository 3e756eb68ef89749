//! Calls of gRPC, by method.

use std::sync::{Arc, OnceLock};

use metrics::{Histogram, Label};
use tower_chassis_core::{Class, Verdict};

use super::{
    OTHER,
    known::{Known, LONGEST},
    series::{FAULTS, Lazy, fault_page},
};
use crate::fault::{GRPC_CODES, Outcome, proves_method};

/// Of a call that ended without a code.
const NO_CODE: usize = GRPC_CODES.len();

/// The methods that were called.
#[derive(Debug)]
pub(super) struct Rpcs(Known<Rpc>);

/// A method, and its histograms by fault and by code.
#[derive(Debug)]
pub(super) struct Rpc {
    /// `package.Service/Method`.
    name: Box<str>,
    /// Nobody knows yet that there is such a method.
    unproved: bool,
    durations: Lazy<Lazy<OnceLock<Histogram>, { NO_CODE + 1 }>, FAULTS>,
}

impl Default for Rpcs {
    fn default() -> Self {
        Self(Known::new(Rpc::new(OTHER, false)))
    }
}

impl Rpcs {
    /// The method that a path calls.
    pub(super) fn of(&self, bound: usize, path: &str) -> Arc<Rpc> {
        let name = path.strip_prefix('/').unwrap_or(path);
        if name.len() > LONGEST {
            return self.0.others();
        }
        // A name is kept when the call is over: whoever sends the requests makes up names.
        let found = self.0.find(bound, |rpc| (*rpc.name).cmp(name));
        found.unwrap_or_else(|| Arc::new(Rpc::new(name, true)))
    }

    /// Records a call that is over.
    pub(super) fn record(
        &self,
        bound: usize,
        rpc: Arc<Rpc>,
        verdict: Verdict,
        outcome: Outcome,
        seconds: f64,
        make: impl Fn(&Rpc) -> Histogram,
    ) {
        let rpc = match rpc.unproved {
            false => rpc,
            true if proves(verdict) => self.0.get(
                bound,
                |there| there.name.cmp(&rpc.name),
                || Rpc::new(&rpc.name, false),
            ),
            true => self.0.others(),
        };
        let code = verdict.grpc_code().map_or(NO_CODE, usize::from);
        let page = rpc.durations.get(fault_page(outcome.fault));
        if let Some(slot) = page.and_then(|codes| codes.get(code)) {
            slot.get_or_init(|| make(&rpc)).record(seconds);
        }
    }
}

impl Rpc {
    fn new(name: &str, unproved: bool) -> Self {
        Self {
            name: name.into(),
            unproved,
            durations: Lazy::default(),
        }
    }

    /// The labels of a call of this method that ended so.
    pub(super) fn labels(&self, verdict: Verdict, outcome: Outcome) -> Vec<Label> {
        let mut labels = vec![
            Label::from_static_parts("rpc_system_name", "grpc"),
            Label::new("rpc_method", self.name.to_string()),
        ];
        let code = verdict.grpc_code();
        if let Some(code) = code.and_then(|code| GRPC_CODES.get(usize::from(code))) {
            labels.push(Label::from_static_parts("rpc_response_status_code", code));
        }
        if let Some(error) = outcome.error_type() {
            labels.push(Label::new("error_type", error));
        }
        labels
    }
}

/// Whether the method exists: it was served. A call that was not, or not allowed, or that said nothing, does not tell.
fn proves(verdict: Verdict) -> bool {
    let served = matches!(
        verdict.class(),
        Class::Success | Class::ClientFault | Class::Failure
    );
    served && verdict.grpc_code().is_some_and(proves_method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_known_once_it_was_served() {
        let rpcs = Rpcs::default();
        let call = |path: &str, verdict: Verdict| {
            let rpc = rpcs.of(2, path);
            let mut named = String::new();
            let seen = std::sync::Mutex::new(&mut named);
            rpcs.record(2, rpc, verdict, Outcome::server(verdict), 1.0, |rpc| {
                **seen.lock().unwrap() = rpc.name.to_string();
                Histogram::noop()
            });
            named
        };
        for code in [7, 12, 16] {
            assert_eq!(call("/a.S/M", Verdict::grpc(code)), "_OTHER");
        }
        assert_eq!(call("/a.S/M", Verdict::CANCELLED), "_OTHER");
        assert_eq!(call("/a.S/M", Verdict::grpc(0)), "a.S/M");
        assert!(!rpcs.of(2, "/a.S/M").unproved);
        assert_eq!(call("/a.S/M", Verdict::grpc(12)), "a.S/M", "it stays");
        assert_eq!(call("/a.S/N", Verdict::grpc(13)), "a.S/N");
        // There are two.
        assert_eq!(call("/a.S/O", Verdict::grpc(5)), "_OTHER");
        let long = "x".repeat(LONGEST + 1);
        assert_eq!(&*rpcs.of(9, &long).name, OTHER);
    }
}
