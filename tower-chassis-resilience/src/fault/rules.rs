//! What a policy comes to: which rule a call falls under, and what that does with it. Takes the time; knows nothing of
//! tower.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use http::HeaderValue;
use tokio::time::Instant;

use super::{
    config::{FaultConfig, FaultMatch, FaultRule, HeaderControl},
    guard::{Arming, Guarded, Why, guard},
    kinds::{Abort, BodyPlan, Delay, Dose, Plan},
};
use crate::dice::{Die, MILLION};

/// The name of the rule that trusted peers make with their headers.
pub(crate) const BY_HEADER: &str = "header";

/// A policy at work.
#[derive(Debug, Default)]
pub(crate) struct Compiled {
    pub(crate) rules: Vec<Rule>,
    /// By the headers of trusted peers.
    pub(crate) by_header: Option<(Rule, HeaderControl)>,
    exclude: Vec<String>,
    max_ppm: u32,
}

/// A rule at work.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) id: Arc<str>,
    pub(crate) mark: HeaderValue,
    pub(crate) guarded: Guarded,
    /// Its expiry, on the clock that nobody sets.
    ends: Option<Instant>,
    matches: FaultMatch,
    doses: Doses,
    dice: Dice,
    per_attempt: bool,
    /// How many calls it did something with; kept as long as its name.
    pub(crate) injected: Arc<AtomicU64>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Doses {
    pub(crate) delay: Option<Dose<Delay>>,
    pub(crate) abort: Option<Dose<Abort>>,
    pub(crate) throttle: Option<Dose<u64>>,
    pub(crate) truncate: Option<Dose<u64>>,
}

#[derive(Clone, Copy, Debug)]
struct Dice {
    delay: Die,
    abort: Die,
    throttle: Die,
    truncate: Die,
}

impl Dice {
    /// One for each kind of fault, so that one kind says nothing of another.
    fn new(seed: u64, rule: &str) -> Self {
        let die = |salt| Die::new(seed, rule, salt);
        Self {
            delay: die("delay"),
            abort: die("abort"),
            throttle: die("throttle"),
            truncate: die("truncate"),
        }
    }
}

/// What a call shows of itself to the rules.
pub(crate) struct Facts<'a> {
    pub(crate) operation: &'a str,
    pub(crate) service: Option<&'a str>,
    pub(crate) path: Option<&'a str>,
    pub(crate) meta: &'a dyn Fn(&str) -> Option<&'a str>,
    /// What else a rule of this name was told to ask.
    pub(crate) also: &'a dyn Fn(&str) -> bool,
}

/// When a rule is looked at: by both clocks.
#[derive(Clone, Copy)]
pub(crate) struct Now {
    pub(crate) wall: SystemTime,
    pub(crate) clock: Instant,
}

impl Compiled {
    /// The rules of `config`; those of `old` that keep their name keep their count.
    pub(crate) fn new(config: &FaultConfig, arming: &Arming, now: Now, old: &Self) -> Self {
        let known = |id: &str| {
            let by_header = old.by_header.iter().map(|(rule, _)| rule);
            let mut rules = old.rules.iter().chain(by_header);
            let rule = rules.find(|rule| &*rule.id == id)?;
            Some(Arc::clone(&rule.injected))
        };
        let rule = |rule: &FaultRule| {
            Rule::new(
                rule,
                config.seed,
                arming,
                now,
                known(&rule.id).unwrap_or_default(),
            )
        };
        let by_header = config.headers.as_ref().map(|control| {
            let mut made = FaultRule::new(BY_HEADER);
            made.expires_at = control.expires_at;
            (rule(&made), control.clone())
        });
        Self {
            rules: config.rules.iter().map(rule).collect(),
            by_header,
            exclude: config.exclude.clone(),
            max_ppm: config.max_ppm,
        }
    }

    /// Whether anything may happen at all.
    pub(crate) fn is_armed(&self, now: Instant) -> bool {
        let by_header = self.by_header.iter().map(|(rule, _)| rule);
        self.rules
            .iter()
            .chain(by_header)
            .any(|rule| rule.state(now).is_armed())
    }

    pub(crate) fn is_excluded(&self, path: &str) -> bool {
        self.exclude.iter().any(|prefix| is_below(path, prefix))
    }

    /// The rule that decides on a call.
    pub(crate) fn find(&self, facts: &Facts<'_>, now: Instant) -> Option<&Rule> {
        self.rules
            .iter()
            .find(|rule| rule.state(now).is_armed() && rule.matches(facts))
    }

    /// What the rule does with the call of this id.
    pub(crate) fn plan(&self, rule: &Rule, id: &[u8], attempt: u32) -> Plan {
        rule.plan(&rule.doses, self.max_ppm, id, attempt)
    }

    /// What the headers of a trusted peer ask for, as far as they may. `None` where they ask for nothing, or where
    /// nobody may ask.
    pub(crate) fn asked<'a>(
        &self,
        meta: &dyn Fn(&str) -> Option<&'a str>,
        now: Instant,
    ) -> Option<(&Rule, Doses)> {
        let (rule, control) = self.by_header.as_ref()?;
        if !rule.state(now).is_armed() {
            return None;
        }
        Some((rule, control.doses(meta)?))
    }

    /// What comes of what was asked.
    pub(crate) fn plan_asked(&self, rule: &Rule, doses: &Doses, id: &[u8], attempt: u32) -> Plan {
        rule.plan(doses, self.max_ppm, id, attempt)
    }
}

impl Rule {
    fn new(
        rule: &FaultRule,
        seed: u64,
        arming: &Arming,
        now: Now,
        injected: Arc<AtomicU64>,
    ) -> Self {
        let left = |at: SystemTime| at.duration_since(now.wall).unwrap_or_default();
        Self {
            id: rule.id.as_str().into(),
            // A name is made of what a header may hold.
            mark: HeaderValue::from_str(&rule.id).unwrap_or(HeaderValue::from_static("rule")),
            guarded: guard(arming, rule.expires_at, now.wall),
            ends: rule.expires_at.map(|at| {
                let far = Duration::from_secs(60 * 60 * 24 * 365);
                now.clock + left(at).min(far)
            }),
            matches: rule.matches.clone(),
            doses: Doses {
                delay: rule.delay,
                abort: rule.abort,
                throttle: rule.throttle,
                truncate: rule.truncate,
            },
            dice: Dice::new(seed, &rule.id),
            per_attempt: rule.per_attempt,
            injected,
        }
    }

    /// Whether it is armed at this time.
    pub(crate) fn state(&self, now: Instant) -> Guarded {
        match self.ends {
            Some(ends) if self.guarded.is_armed() && now >= ends => Guarded::Disarmed(Why::Expired),
            _ => self.guarded,
        }
    }

    fn matches(&self, facts: &Facts<'_>) -> bool {
        let asked = &self.matches;
        let is_operation = |wanted: &String| wanted.eq_ignore_ascii_case(facts.operation);
        (asked.operations.is_empty() || asked.operations.iter().any(is_operation))
            && (asked.service.is_none() || asked.service.as_deref() == facts.service)
            && asked
                .path_prefix
                .as_ref()
                .is_none_or(|prefix| facts.path.is_some_and(|path| is_below(path, prefix)))
            && asked
                .meta
                .iter()
                .all(|(name, value)| (facts.meta)(name) == Some(value))
            && (facts.also)(&self.id)
    }

    fn plan(&self, doses: &Doses, max_ppm: u32, id: &[u8], attempt: u32) -> Plan {
        let attempt = if self.per_attempt { attempt } else { 1 };
        let roll = |die: Die, ppm: u32| {
            let roll = die.of_attempt(attempt).roll(id);
            roll.hits(ppm.min(max_ppm)).then_some(roll)
        };
        Plan {
            delay: doses.delay.and_then(|dose| {
                let roll = roll(self.dice.delay, dose.ppm)?;
                Some(dose.of.length(roll))
            }),
            abort: doses
                .abort
                .and_then(|dose| roll(self.dice.abort, dose.ppm).map(|_| dose.of)),
            body: BodyPlan {
                throttle: doses
                    .throttle
                    .and_then(|dose| roll(self.dice.throttle, dose.ppm).map(|_| dose.of)),
                truncate: doses
                    .truncate
                    .and_then(|dose| roll(self.dice.truncate, dose.ppm).map(|_| dose.of)),
            },
        }
    }

    pub(crate) fn count(&self) {
        self.injected.fetch_add(1, Ordering::Relaxed);
    }
}

impl HeaderControl {
    /// What headers ask for, cut to what they may. What cannot be read is not asked for.
    fn doses<'a>(&self, meta: &dyn Fn(&str) -> Option<&'a str>) -> Option<Doses> {
        let number = |name| meta(name)?.trim().parse::<u64>().ok();
        let ppm = match meta("x-chassis-fault-ppm") {
            None => MILLION,
            Some(text) => text.trim().parse().ok()?,
        };
        let ppm = ppm.min(self.max_ppm);
        let doses = Doses {
            delay: number("x-chassis-fault-delay-ms").map(|millis| Dose {
                ppm,
                of: Delay::Fixed(Duration::from_millis(millis).min(self.max_delay)),
            }),
            abort: meta("x-chassis-fault-abort")
                .and_then(read_abort)
                .filter(|_| self.abort)
                .map(|of| Dose { ppm, of }),
            throttle: number("x-chassis-fault-throttle")
                .filter(|rate| *rate > 0)
                .map(|of| Dose { ppm, of }),
            truncate: number("x-chassis-fault-truncate").map(|of| Dose { ppm, of }),
        };
        let any = doses.delay.is_some()
            || doses.abort.is_some()
            || doses.throttle.is_some()
            || doses.truncate.is_some();
        any.then_some(doses)
    }
}

/// `503`, `grpc-14`, `reset` or `hang`.
fn read_abort(text: &str) -> Option<Abort> {
    let text = text.trim();
    if let Some(code) = text.strip_prefix("grpc-") {
        let code = code.parse().ok().filter(|code| (1..=16).contains(code))?;
        return Some(Abort::Grpc(code));
    }
    match text {
        "reset" => Some(Abort::Reset),
        "hang" => Some(Abort::Hang),
        _ => {
            let status = text.parse().ok()?;
            (400..=599)
                .contains(&status)
                .then_some(Abort::Status(status))
        }
    }
}

/// Whether a path is `prefix` or below it.
fn is_below(path: &str, prefix: &str) -> bool {
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
