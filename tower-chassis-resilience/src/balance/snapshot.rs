use std::{
    any::Any,
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::Instant;
use tower_chassis_core::{
    Endpoint, Gate, Invocation, Kind, Rejection,
    invocation::{OnEmpty, Subset},
};

use super::{
    Load,
    alias::Alias,
    handle::EndpointStatus,
    outlier::{Outlier, Record, Standing},
    pick::{Members, Pick},
};

/// What the service of an endpoint is made of.
#[derive(Clone, Copy, Debug)]
pub struct MakeEndpoint<'a> {
    endpoint: &'a Endpoint,
    gate: &'a Gate,
}

impl MakeEndpoint<'_> {
    /// The endpoint.
    #[must_use]
    pub const fn endpoint(&self) -> &Endpoint {
        self.endpoint
    }

    /// The gate that the balancer reads before it picks the endpoint. A breaker shuts it.
    #[must_use]
    pub const fn gate(&self) -> &Gate {
        self.gate
    }
}

/// What outlives a change of the set: kept by the endpoint's id.
#[derive(Debug)]
pub(super) struct State {
    pub(super) load: Load,
    pub(super) standing: Standing,
    pub(super) key: u64,
    pub(super) id: Arc<str>,
    /// The set, for calls that must wait. Weak, and upgraded by those only: nothing that all calls share is
    /// counted per call.
    pub(super) set: Weak<dyn Any + Send + Sync>,
    /// Held by the endpoint for its calls, which count none of their own.
    pub(super) outlier: Arc<Outlier>,
    pub(super) record: Record,
}

/// An endpoint as the picker sees it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) state: Arc<State>,
    /// Made with the service, so that a breaker of the old address cannot shut the new one.
    pub(super) gate: Gate,
    pub(super) weight: u32,
    pub(super) share: f32,
    /// The number of the service: another one is another service.
    pub(super) build: u64,
}

/// All of a set but the services.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) entries: Box<[Entry]>,
    pub(super) endpoints: Box<[Endpoint]>,
    index: HashMap<Arc<str>, usize>,
    /// Where weights differ.
    pub(super) alias: Option<Alias>,
    heaviest: u32,
    pub(super) has_weightless: bool,
    pub(super) typical: f32,
    pub(super) outlier: Arc<Outlier>,
}

/// A set of endpoints at one time.
#[derive(Debug)]
pub(super) struct Snapshot<S, T> {
    pub(super) version: u64,
    pub(super) plan: Plan,
    /// What the picker made of the plan.
    pub(super) table: T,
    pub(super) services: Box<[S]>,
}

impl Plan {
    fn new(
        entries: Vec<Entry>,
        endpoints: Vec<Endpoint>,
        index: HashMap<Arc<str>, usize>,
        typical: f32,
        outlier: Arc<Outlier>,
    ) -> Self {
        let mut plan = Self {
            entries: entries.into_boxed_slice(),
            endpoints: endpoints.into_boxed_slice(),
            index,
            typical,
            outlier,
            ..Self::default()
        };
        // Without any weight all are equal.
        if plan.entries.iter().all(|entry| entry.weight == 0) {
            plan.entries.iter_mut().for_each(|entry| entry.weight = 1);
        }
        let weights: Vec<u32> = plan.entries.iter().map(|entry| entry.weight).collect();
        plan.heaviest = weights.iter().copied().max().unwrap_or(1);
        plan.has_weightless = weights.contains(&0);
        if weights.iter().any(|weight| *weight != plan.heaviest) {
            let total: f64 = weights.iter().copied().map(f64::from).sum();
            for entry in &mut plan.entries {
                entry.share =
                    (f64::from(entry.weight.max(1)) * weights.len() as f64 / total) as f32;
            }
            plan.alias = Some(Alias::new(&weights));
        }
        plan
    }

    /// Whether an endpoint takes its turn in a round: the heaviest takes all, others every so many.
    pub(super) fn has_turn(&self, index: usize, round: u32) -> bool {
        let Some(entry) = self.entries.get(index) else {
            return false;
        };
        let (weight, heaviest) = (u64::from(entry.weight), u64::from(self.heaviest));
        // Shifted by half per index, so that equal weights do not take the same rounds.
        let phase = weight * u64::from(round) + index as u64 * (heaviest / 2);
        entry.weight == 0 || phase % heaviest >= heaviest - weight
    }

    /// The index of a state's endpoint, if its service is still that of `build`.
    pub(super) fn find(&self, state: &Arc<State>, build: u64) -> Option<usize> {
        let index = *self.index.get(&state.id)?;
        self.entries
            .get(index)
            .filter(|entry| Arc::ptr_eq(&entry.state, state) && entry.build == build)
            .map(|_| index)
    }

    /// How long until a gate opens that is shut now.
    pub(super) fn opens_in(&self, subset: Option<&Subset>, now: Instant) -> Option<Duration> {
        let of_subset =
            |index| subset.is_none_or(|s| self.endpoints.get(index).is_some_and(|e| s.contains(e)));
        let shut = self
            .entries
            .iter()
            .enumerate()
            .filter(|(index, _)| of_subset(*index));
        shut.filter_map(|(_, entry)| entry.gate.opens_in(now)).min()
    }

    /// Why no endpoint can be chosen.
    pub(super) fn refusal(&self, invocation: Option<&Invocation>, now: Instant) -> Rejection {
        let refusing = |subset: &&Subset| subset.on_empty() != OnEmpty::Any;
        let subset = invocation.and_then(Invocation::subset).filter(refusing);
        let kind = if self.entries.is_empty() || subset.is_some() {
            Kind::NoEndpoint
        } else {
            Kind::CircuitOpen
        };
        let rejection = Rejection::new(kind, "balance");
        match self.opens_in(subset, now) {
            Some(wait) => rejection.after(wait),
            None => rejection,
        }
    }

    /// The state of the endpoint with an id.
    pub(super) fn state(&self, id: &str) -> Option<&State> {
        let entry = self.entries.get(*self.index.get(id)?)?;
        Some(&entry.state)
    }

    /// The states of all.
    pub(super) fn states(&self) -> impl Iterator<Item = &State> + Clone {
        self.entries.iter().map(|entry| &*entry.state)
    }

    /// How many have an open gate.
    pub(super) fn open(&self, now: Instant) -> usize {
        let open = |entry: &&Entry| entry.gate.is_open(now);
        self.entries.iter().filter(open).count()
    }

    pub(super) fn status(&self, now: Instant) -> Vec<EndpointStatus> {
        let both = self.endpoints.iter().zip(&self.entries);
        both.map(|(endpoint, entry)| {
            let outlier = self.outlier.status(entry.state.key, now);
            EndpointStatus::new(endpoint, &entry.gate, &entry.state.load, outlier, now)
        })
        .collect()
    }
}

/// Makes one set out of the last and what discovery says.
pub(super) struct Builder<M> {
    make: M,
    set: Weak<dyn Any + Send + Sync>,
    /// Endpoints that went away while calls are in flight: should they come back, those still count.
    removed: HashMap<Arc<str>, Weak<State>>,
    version: u64,
    builds: u64,
    outlier: Arc<Outlier>,
}

impl<M> Builder<M> {
    pub(super) fn new(make: M, set: Weak<dyn Any + Send + Sync>) -> Self {
        Self {
            make,
            set,
            removed: HashMap::new(),
            version: 0,
            builds: 0,
            outlier: Arc::default(),
        }
    }

    pub(super) fn next<S, P>(
        &mut self,
        old: Option<&Snapshot<S, P::Table>>,
        found: &[Endpoint],
        picker: &P,
    ) -> Snapshot<S, P::Table>
    where
        S: Clone,
        P: Pick,
        M: FnMut(&MakeEndpoint<'_>) -> S,
    {
        let now = Instant::now();
        let (endpoints, index) = merge(found);
        let (mut entries, mut services) = (
            Vec::with_capacity(endpoints.len()),
            Vec::with_capacity(endpoints.len()),
        );
        for endpoint in &endpoints {
            let kept = old.and_then(|old| old.get(endpoint.id()));
            let state = match kept {
                Some((_, entry, _)) => Arc::clone(&entry.state),
                None => self.state(endpoint, now),
            };
            let (gate, build, service) = match kept {
                Some((before, entry, service)) if before.address() == endpoint.address() => {
                    (entry.gate.clone(), entry.build, service.clone())
                }
                _ => {
                    self.builds += 1;
                    let gate = Gate::new();
                    let service = (self.make)(&MakeEndpoint {
                        endpoint,
                        gate: &gate,
                    });
                    (gate, self.builds, service)
                }
            };
            entries.push(Entry {
                state,
                gate,
                weight: endpoint.weight(),
                share: 1.0,
                build,
            });
            services.push(service);
        }
        if let Some(old) = old {
            let gone = old
                .plan
                .entries
                .iter()
                .filter(|entry| !index.contains_key(&entry.state.id));
            self.removed.extend(
                gone.map(|entry| (Arc::clone(&entry.state.id), Arc::downgrade(&entry.state))),
            );
        }
        self.removed
            .retain(|id, state| state.strong_count() > 0 && !index.contains_key(id));
        self.version += 1;
        let typical = typical(&entries, now);
        let plan = Plan::new(
            entries,
            endpoints,
            index,
            typical,
            Arc::clone(&self.outlier),
        );
        Snapshot {
            version: self.version,
            table: picker.table(&Members::new(&plan)),
            plan,
            services: services.into_boxed_slice(),
        }
    }

    fn state(&mut self, endpoint: &Endpoint, now: Instant) -> Arc<State> {
        self.removed
            .get(endpoint.id())
            .and_then(Weak::upgrade)
            .unwrap_or_else(|| {
                let (id, set) = (Arc::clone(endpoint.id()), Weak::clone(&self.set));
                Arc::new(State {
                    load: Load::new(now),
                    key: endpoint.key(),
                    id,
                    set,
                    standing: Standing::default(),
                    outlier: Arc::clone(&self.outlier),
                    record: Record::default(),
                })
            })
    }
}

impl<S, T> Snapshot<S, T> {
    fn get(&self, id: &Arc<str>) -> Option<(&Endpoint, &Entry, &S)> {
        let index = *self.plan.index.get(id)?;
        Some((
            self.plan.endpoints.get(index)?,
            self.plan.entries.get(index)?,
            self.services.get(index)?,
        ))
    }
}

/// Each id once; the first of several speaks for them, with the sum of their weights.
fn merge(found: &[Endpoint]) -> (Vec<Endpoint>, HashMap<Arc<str>, usize>) {
    let mut endpoints: Vec<Endpoint> = Vec::with_capacity(found.len());
    let mut index = HashMap::with_capacity(found.len());
    for endpoint in found {
        let at = *index
            .entry(Arc::clone(endpoint.id()))
            .or_insert(endpoints.len());
        match endpoints.get_mut(at) {
            Some(first) => {
                *first = first
                    .clone()
                    .with_weight(first.weight().saturating_add(endpoint.weight()))
            }
            None => endpoints.push(endpoint.clone()),
        }
    }
    (endpoints, index)
}

/// The median latency of those that have one.
fn typical(entries: &[Entry], now: Instant) -> f32 {
    let mut known: Vec<f32> = entries
        .iter()
        .filter_map(|entry| entry.state.load.micros(now))
        .collect();
    if known.is_empty() {
        return 0.0;
    }
    let middle = known.len() / 2;
    *known.select_nth_unstable_by(middle, f32::total_cmp).1
}

#[cfg(test)]
pub(super) fn plan_of(endpoints: impl IntoIterator<Item = Endpoint>) -> Plan {
    let found: Vec<Endpoint> = endpoints.into_iter().collect();
    Builder::new(|_: &MakeEndpoint<'_>| (), Weak::<()>::new())
        .next(None, &found, &super::PeakEwma::new())
        .plan
}
