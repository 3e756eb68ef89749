//! Which endpoints are outliers. Plain: it is told what was counted and what time it is.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;

use super::{config::OutlierPolicy, record::Interval};

/// What happens to an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Turn {
    pub(super) key: u64,
    pub(super) to: To,
    pub(super) reason: &'static str,
    pub(super) lasts: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum To {
    Ejected,
    Readmitted,
    WouldEject,
}

impl To {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Ejected => "ejected",
            Self::Readmitted => "readmitted",
            Self::WouldEject => "would-eject",
        }
    }
}

/// What is remembered of an endpoint that was or may be an outlier.
#[derive(Clone, Copy, Debug, Default)]
struct Host {
    /// Until when it is out.
    until: Option<Instant>,
    /// Somebody said so, no rule.
    forced: bool,
    /// How many times the base the last ejection lasted.
    backoff: u32,
    /// Readmitted since the last interval.
    fresh: bool,
    ejections: u32,
    /// Intervals in a row in which it was slow.
    slow: u32,
}

/// A rule's word on an endpoint.
#[derive(Clone, Copy)]
struct Finding {
    key: u64,
    reason: &'static str,
    enforce: u32,
}

#[derive(Debug)]
pub(super) struct Detector {
    /// Those with a history only.
    hosts: HashMap<u64, Host>,
    /// When an interval ended last.
    ticked: Option<Instant>,
    rng: fastrand::Rng,
}

impl Detector {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            hosts: HashMap::new(),
            ticked: None,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.hosts.is_empty()
    }

    pub(super) fn is_ejected(&self, key: u64) -> bool {
        self.hosts
            .get(&key)
            .is_some_and(|host| host.until.is_some())
    }

    /// For how long an endpoint is still out, and how often it was.
    pub(super) fn status(&self, key: u64, now: Instant) -> (Option<Duration>, u32) {
        let left = |host: &Host| host.until.map(|until| until.saturating_duration_since(now));
        self.hosts
            .get(&key)
            .map_or((None, 0), |host| (left(host), host.ejections))
    }

    /// Forgets endpoints that are not there any more.
    pub(super) fn retain(&mut self, is_there: impl Fn(u64) -> bool) {
        self.hosts.retain(|key, _| is_there(*key));
    }

    /// When it is to be asked next.
    pub(super) fn next(&self, policy: Option<&OutlierPolicy>) -> Option<Instant> {
        let due = self.hosts.values().filter_map(|host| host.until).min();
        let tick = policy.and_then(|policy| Some(self.ticked? + policy.config().interval));
        match (due, tick) {
            (Some(due), Some(tick)) => Some(due.min(tick)),
            (due, tick) => due.or(tick),
        }
    }

    /// Readmits those whose time is over.
    pub(super) fn readmit_due(&mut self, now: Instant, turns: &mut Vec<Turn>) {
        for (key, host) in &mut self.hosts {
            if host.until.is_some_and(|until| until <= now) {
                turns.push(host.readmit(*key, "time"));
            }
        }
    }

    /// Readmits what rules ejected, and forgets how often they did.
    pub(super) fn switch_off(&mut self, turns: &mut Vec<Turn>) {
        self.ticked = None;
        for (key, host) in &mut self.hosts {
            if host.until.is_some() && !host.forced {
                turns.push(host.readmit(*key, "disabled"));
            }
            (host.backoff, host.slow) = (0, 0);
        }
    }

    /// Somebody ejects it, whatever the rules say, for `lasts` or the time of a rule's next ejection.
    pub(super) fn force(&mut self, key: u64, lasts: Duration, now: Instant) -> Turn {
        let host = self.hosts.entry(key).or_default();
        host.until = Some(now + lasts);
        (host.forced, host.slow) = (true, 0);
        host.ejections = host.ejections.saturating_add(1);
        Turn {
            key,
            to: To::Ejected,
            reason: "forced",
            lasts: Some(lasts),
        }
    }

    /// Somebody readmits it.
    pub(super) fn pardon(&mut self, key: u64) -> Option<Turn> {
        let host = self.hosts.get_mut(&key)?;
        host.until?;
        Some(host.readmit(key, "forced"))
    }

    /// Rows of an endpoint that are long enough, in the order of `Record`.
    pub(super) fn rows(
        &mut self,
        (key, rows): (u64, [bool; 3]),
        hosts: usize,
        policy: &OutlierPolicy,
        now: Instant,
        turns: &mut Vec<Turn>,
    ) {
        let config = policy.config();
        let rules = [
            ("consecutive-failures", config.consecutive_failures_enforce),
            ("consecutive-gateway", config.consecutive_gateway_enforce),
            ("consecutive-local", config.consecutive_local_enforce),
        ];
        for ((reason, enforce), _) in rules.into_iter().zip(rows).filter(|(_, long)| *long) {
            let finding = Finding {
                key,
                reason,
                enforce,
            };
            self.found(finding, hosts, policy, now, turns);
        }
    }

    /// Whether an interval is over, or the first begins now.
    pub(super) fn ticks(&mut self, policy: &OutlierPolicy, now: Instant) -> bool {
        let ticked = *self.ticked.get_or_insert(now);
        let over = now.saturating_duration_since(ticked) >= policy.config().interval;
        if over {
            self.ticked = Some(now);
        }
        over
    }

    /// Judges an interval. `all` are the endpoints there are, with what was counted.
    pub(super) fn interval(
        &mut self,
        all: &[(u64, Interval)],
        policy: &OutlierPolicy,
        now: Instant,
        turns: &mut Vec<Turn>,
    ) {
        let mut findings = Vec::new();
        self.success_rate(all, policy, &mut findings);
        self.failure_percentage(all, policy, &mut findings);
        self.latency(all, policy, &mut findings);
        self.small_cluster(all, policy, &mut findings);
        for finding in findings {
            self.found(finding, all.len(), policy, now, turns);
        }
        for host in self.hosts.values_mut() {
            // It was back for a whole interval.
            if host.until.is_none() && !std::mem::take(&mut host.fresh) {
                host.backoff = host.backoff.saturating_sub(1);
            }
        }
    }

    /// The counts of those that are not out, with and without the calls that were not answered.
    fn counted<'a>(
        &'a self,
        all: &'a [(u64, Interval)],
        policy: &OutlierPolicy,
        volume: u32,
    ) -> impl Iterator<Item = (u64, [Option<f64>; 2])> + 'a {
        let split = policy.config().split_local;
        let rate = move |good: u32, total: u32| {
            (total >= volume).then(|| f64::from(good) * 100.0 / f64::from(total))
        };
        all.iter()
            .filter(|(key, _)| !self.is_ejected(*key))
            .map(move |(key, seen)| {
                let answered = rate(seen.good, seen.total);
                let reached = seen.total.saturating_add(seen.local_failed);
                let local = split.then(|| rate(seen.total, reached)).flatten();
                (*key, [answered, local])
            })
    }

    fn success_rate(
        &self,
        all: &[(u64, Interval)],
        policy: &OutlierPolicy,
        findings: &mut Vec<Finding>,
    ) {
        let config = policy.config();
        let counted: Vec<_> = self
            .counted(all, policy, config.success_rate_volume)
            .collect();
        for (kind, reason) in ["success-rate", "local-success-rate"]
            .into_iter()
            .enumerate()
        {
            let rates = || {
                counted
                    .iter()
                    .filter_map(|(key, of)| Some((*key, of[kind]?)))
            };
            let count = rates().count();
            if count < config.success_rate_hosts as usize {
                continue;
            }
            let mean = rates().map(|(_, rate)| rate).sum::<f64>() / count as f64;
            let variance = rates().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>();
            let deviation = (variance / count as f64).sqrt();
            let least = mean - config.success_rate_factor * deviation;
            findings.extend(
                rates()
                    .filter(|(_, rate)| *rate < least)
                    .map(|(key, _)| Finding {
                        key,
                        reason,
                        enforce: config.success_rate_enforce,
                    }),
            );
        }
    }

    fn failure_percentage(
        &self,
        all: &[(u64, Interval)],
        policy: &OutlierPolicy,
        findings: &mut Vec<Finding>,
    ) {
        let config = policy.config();
        let counted: Vec<_> = self
            .counted(all, policy, config.failure_percentage_volume)
            .collect();
        let reasons = ["failure-percentage", "local-failure-percentage"];
        for (kind, reason) in reasons.into_iter().enumerate() {
            let rates = || {
                counted
                    .iter()
                    .filter_map(|(key, of)| Some((*key, of[kind]?)))
            };
            if rates().count() < config.failure_percentage_hosts as usize {
                continue;
            }
            // A50 says both "at least" and "more than".
            let bad = |rate: f64| 100.0 - rate >= f64::from(config.failure_percentage);
            findings.extend(
                rates()
                    .filter(|(_, rate)| bad(*rate))
                    .map(|(key, _)| Finding {
                        key,
                        reason,
                        enforce: config.failure_percentage_enforce,
                    }),
            );
        }
    }

    fn latency(
        &mut self,
        all: &[(u64, Interval)],
        policy: &OutlierPolicy,
        findings: &mut Vec<Finding>,
    ) {
        let config = policy.config();
        let known: Vec<(u64, u32)> = all
            .iter()
            .filter(|(key, seen)| seen.answers >= config.latency_volume && !self.is_ejected(*key))
            .map(|(key, seen)| (*key, seen.median))
            .collect();
        let mut sorted: Vec<u32> = known.iter().map(|(_, median)| *median).collect();
        sorted.sort_unstable();
        let gap = config.latency_gap.as_micros() as f64;
        let is_slow = |own: u32| {
            let peers = sorted.len() - 1;
            if peers < config.latency_peers as usize {
                return false;
            }
            // The lower middle of the others: without this one, which stands at `at`.
            let at = sorted.partition_point(|median| *median < own);
            let middle = (peers - 1) / 2;
            let others = f64::from(sorted[if middle < at { middle } else { middle + 1 }]);
            let own = f64::from(own);
            own > config.latency_factor * others && own - others >= gap
        };
        let slow: Vec<u64> = known
            .iter()
            .filter(|(_, median)| is_slow(*median))
            .map(|(key, _)| *key)
            .collect();
        let still: HashSet<u64> = slow.iter().copied().collect();
        for (key, host) in &mut self.hosts {
            if !still.contains(key) {
                host.slow = 0;
            }
        }
        for key in slow {
            let host = self.hosts.entry(key).or_default();
            host.slow += 1;
            if host.slow >= config.latency_intervals {
                host.slow = 0;
                findings.push(Finding {
                    key,
                    reason: "latency",
                    enforce: config.latency_enforce,
                });
            }
        }
    }

    fn small_cluster(
        &self,
        all: &[(u64, Interval)],
        policy: &OutlierPolicy,
        findings: &mut Vec<Finding>,
    ) {
        /// The percentage that the others may fail.
        const WELL: f64 = 10.0;
        let config = policy.config();
        if !(2..=4).contains(&all.len()) {
            return;
        }
        let failing: Vec<(u64, f64)> = all
            .iter()
            .filter(|(key, _)| !self.is_ejected(*key))
            .filter_map(|(key, seen)| {
                // Apart or not, with so few each failure counts.
                let total = seen.total.saturating_add(seen.local_failed);
                let failed = f64::from(total - seen.good);
                (total >= config.small_cluster_volume)
                    .then(|| (*key, failed * 100.0 / f64::from(total)))
            })
            .collect();
        for (key, failed) in &failing {
            let mut others = failing.iter().filter(|(other, _)| other != key).peekable();
            if *failed >= f64::from(config.small_cluster)
                && others.peek().is_some()
                && others.all(|(_, failed)| *failed <= WELL)
            {
                findings.push(Finding {
                    key: *key,
                    reason: "small-cluster",
                    enforce: config.small_cluster_enforce,
                });
            }
        }
    }

    fn found(
        &mut self,
        finding: Finding,
        hosts: usize,
        policy: &OutlierPolicy,
        now: Instant,
        turns: &mut Vec<Turn>,
    ) {
        let Finding {
            key,
            reason,
            enforce,
        } = finding;
        if self.is_ejected(key) {
            return;
        }
        let would = |reason| Turn {
            key,
            to: To::WouldEject,
            reason,
            lasts: None,
        };
        if enforce < 100 && self.rng.u32(..100) >= enforce {
            turns.push(would(reason));
            return;
        }
        if !self.has_room(hosts, policy) {
            turns.push(would("max-ejected"));
            return;
        }
        let config = policy.config();
        let most = config.max_ejection.max(config.base_ejection);
        let host = self.hosts.entry(key).or_default();
        if config.base_ejection.saturating_mul(host.backoff) < most + config.base_ejection {
            host.backoff += 1;
        }
        let time = config.base_ejection.saturating_mul(host.backoff).min(most);
        let lasts = time + time.mul_f64(config.jitter * self.rng.f64());
        host.until = Some(now + lasts);
        (host.forced, host.slow) = (false, 0);
        host.ejections = host.ejections.saturating_add(1);
        turns.push(Turn {
            key,
            to: To::Ejected,
            reason,
            lasts: Some(lasts),
        });
    }

    /// Whether one more may be out.
    fn has_room(&self, hosts: usize, policy: &OutlierPolicy) -> bool {
        let config = policy.config();
        let ejected = self
            .hosts
            .values()
            .filter(|host| host.until.is_some())
            .count();
        let most = config
            .max_ejected
            .unwrap_or(if hosts < 10 { 34 } else { 10 });
        hosts >= 2
            && ((ejected + 1) * 100 <= most as usize * hosts
                || (ejected == 0 && config.at_least_one))
    }
}

impl Host {
    fn readmit(&mut self, key: u64, reason: &'static str) -> Turn {
        (self.until, self.forced, self.fresh) = (None, false, true);
        Turn {
            key,
            to: To::Readmitted,
            reason,
            lasts: None,
        }
    }
}
