use std::sync::atomic::Ordering::Relaxed;

use tokio::time::Instant;

use super::{
    super::{pick::Rng, snapshot::State},
    EJECTED, KIND, Outlier, PROBED, WELL,
};

/// The least share of an endpoint that came back.
const LEAST_SHARE: f64 = 0.1;

impl Outlier {
    /// What a call goes by that passes over who does not stand well; nothing where all do.
    pub(in super::super) fn look(&self, now: Instant, rng: &mut Rng) -> Option<Look<'_>> {
        (self.turned.load(Relaxed) > 0).then(|| Look {
            outlier: self,
            now: self.tick(now),
            dice: rng.word(),
            whole: false,
        })
    }
}

/// How a call looks at endpoints that do not stand well.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Look<'a> {
    outlier: &'a Outlier,
    now: u64,
    dice: u32,
    /// Who came back takes all that there is.
    whole: bool,
}

impl Look<'_> {
    /// Passes over nobody but those that are out.
    pub(in super::super) const fn wholly(mut self) -> Self {
        self.whole = true;
        self
    }

    /// Whether an endpoint may have the call. The same answer each time that a call asks.
    pub(in super::super) fn takes(&self, state: &State) -> bool {
        let word = state.standing.0.load(Relaxed);
        match word & KIND {
            WELL => true,
            EJECTED => false,
            _ if self.whole => true,
            // One call at a time finds out.
            PROBED => state.load.pending() == 0,
            _ => {
                let since = self.now.saturating_sub(word >> 2).max(1) as f64;
                let window = f64::from(self.outlier.slow_start.load(Relaxed));
                // Odd, so that the numbers of endpoints differ as their keys do.
                let dice = (state.key ^ u64::from(self.dice)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                ((dice >> 32) as f64) < (since / window).max(LEAST_SHARE) * f64::from(u32::MAX)
            }
        }
    }
}
