//! Which calls are refused at a pressure: those of the lowest levels, as many as it takes.

/// Levels of a class.
pub(super) const PER_CLASS: usize = 100;
/// Levels of all classes.
pub(super) const LEVELS: usize = 5 * PER_CLASS;
/// A level, in the fixed point that calls and thresholds are compared in.
pub(super) const ONE: u32 = 1 << 16;
/// Where the highest class begins.
const HIGHEST: usize = LEVELS - PER_CLASS;
/// So many times as long ago counts 63 % less. In nanoseconds.
const MEMORY: f64 = 1e9;
/// How severe it can become. Above 1 the highest class is refused: nine tenths of it at the most, so that something
/// always shows whether it is over.
const MOST: f64 = 1.9;

/// Before so much of everything else is refused, nothing of the highest class is, whatever the pressure: it is for the
/// others to make room, and what goes too far on its way up is lost.
const NEARLY_ALL: f64 = 0.95;

/// How refusals follow the pressure.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Curve {
    /// Up to this, nothing is refused.
    pub(super) start: f64,
    /// From this, all classes but the highest are.
    pub(super) full: f64,
    /// From this, some of the highest are as well.
    pub(super) highest: f64,
    /// In nanoseconds.
    pub(super) reaction: f64,
}

impl Curve {
    /// The share of all calls that is to be refused; above 1, that of the highest class is what is above.
    fn severity(&self, pressure: f64) -> f64 {
        let width = self.full - self.start;
        let of_all = ((pressure - self.start) / width).clamp(0.0, 1.0);
        let of_the_highest = ((pressure - self.highest) / width).max(0.0);
        (of_all + of_the_highest).min(MOST)
    }
}

/// A level below which calls are refused.
#[derive(Debug)]
pub(super) struct Threshold {
    /// How many calls of each level were seen, the old ones for less.
    seen: [f64; LEVELS],
    severity: f64,
    pressure: f64,
    /// Of the last calibration.
    at: Option<u64>,
}

impl Threshold {
    pub(super) const fn new() -> Self {
        Self {
            seen: [0.0; LEVELS],
            severity: 0.0,
            pressure: 0.0,
            at: None,
        }
    }

    /// The pressure that was read last.
    pub(super) const fn pressure(&self) -> f64 {
        self.pressure
    }

    /// The threshold from `now` on, in nanoseconds, after calls of these levels: refused or not, all that came.
    pub(super) fn calibrate(
        &mut self,
        now: u64,
        pressure: f64,
        came: &[u32; LEVELS],
        curve: &Curve,
    ) -> u32 {
        let elapsed = self.at.map(|at| now.saturating_sub(at) as f64);
        self.at = Some(now.max(self.at.unwrap_or(0)));
        let kept = elapsed.map_or(0.0, |elapsed| (-elapsed / MEMORY).exp());
        for (seen, &came) in self.seen.iter_mut().zip(came) {
            *seen = *seen * kept + f64::from(came);
        }
        // What is no number is no pressure.
        self.pressure = pressure.max(0.0);
        let mut wanted = curve.severity(self.pressure);
        if self.severity < NEARLY_ALL {
            wanted = wanted.min(1.0);
        }
        let way = elapsed.map_or(1.0, |elapsed| 1.0 - (-elapsed / curve.reaction).exp());
        self.severity += way * (wanted - self.severity);
        if wanted == 0.0 && self.severity < 1e-3 {
            self.severity = 0.0;
        }
        self.threshold(curve)
    }

    fn threshold(&self, curve: &Curve) -> u32 {
        let severity = self.severity;
        if severity <= 0.0 {
            return 0;
        }
        // Whatever was before, the highest class is safe below.
        if severity <= 1.0 || self.pressure < curve.highest {
            return quantile(&self.seen, severity.min(1.0)).min(HIGHEST as u32 * ONE);
        }
        HIGHEST as u32 * ONE + quantile(&self.seen[HIGHEST..], severity - 1.0)
    }
}

/// Below which level the lowest `share` of what was seen lies; within a level, as if it were spread evenly there.
fn quantile(seen: &[f64], share: f64) -> u32 {
    let all: f64 = seen.iter().sum();
    let rank = all * share;
    let mut below = 0.0;
    for (level, &count) in seen.iter().enumerate() {
        if count > 0.0 && below + count >= rank {
            let part = ((rank - below) / count).clamp(0.0, 1.0);
            return ((level as f64 + part) * f64::from(ONE)) as u32;
        }
        below += count;
    }
    0
}
