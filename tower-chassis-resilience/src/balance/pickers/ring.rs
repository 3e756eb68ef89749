use std::sync::Arc;

use tower_chassis_core::Carrier;
use twox_hash::XxHash64;

use super::{
    Rendezvous,
    hash_on::{HashOn, Source, xxh},
};
use crate::balance::{Candidates, Members, Pick, Rng};

/// A ring of points, some for each endpoint; a request goes to the next point after its hash (consistent hashing,
/// Karger et al.). When an endpoint goes, only its requests move; when one comes, it takes its share of the others'.
///
/// A request that has nothing to hash goes to any endpoint, by weight. Where the endpoint may not be called, the next
/// on the ring takes its requests.
#[derive(Clone, Debug)]
pub struct Ring {
    points: u32,
    ketama: bool,
    bound: Option<f64>,
    source: Source,
}

/// The points, in order.
#[derive(Debug, Default)]
pub struct RingTable {
    hashes: Box<[u64]>,
    owners: Box<[u32]>,
}

const POINTS: u32 = 160;
pub(in crate::balance) const MOST_POINTS: u32 = 65_536;
/// The largest ring.
const LARGEST: u64 = 262_144;
/// How many points are walked before all endpoints are looked at.
const WALKED: usize = 256;
/// Up to so many endpoints all calls in flight are counted; of more, those of some.
const COUNTED: usize = 128;
const SAMPLED: usize = 32;

impl Default for Ring {
    fn default() -> Self {
        Self::new()
    }
}

impl Ring {
    /// 160 points for an endpoint of average weight, at XXH64 of `{hash_key}_{number}`, by the address of the client.
    #[must_use]
    pub fn new() -> Self {
        Self {
            points: POINTS,
            ketama: false,
            bound: None,
            source: Source::default(),
        }
    }

    /// The ring of nginx's `hash … consistent`: 160 points per weight, CRC-32. It sends a request where nginx does, if
    /// the [hash keys](tower_chassis_core::Endpoint::hash_key) are `host:port` as nginx has them and the weights the same.
    #[must_use]
    pub fn ketama() -> Self {
        Self {
            ketama: true,
            ..Self::new()
        }
    }

    /// Points for an endpoint of average weight: 1 to 65,536. More are evener. The ring has at most 262,144 of them.
    /// Not for [`ketama`](Self::ketama), where it is fixed.
    #[must_use]
    pub fn points(mut self, points: u32) -> Self {
        self.points = points.clamp(1, MOST_POINTS);
        self
    }

    /// An endpoint takes at most so many times its share of the calls in flight; what is beyond goes to the next on
    /// the ring (Mirrokni, Thorup, Zadimoghaddam). 1.25 is usual; at least 1. The share is that of the endpoints that
    /// may take the call; above 128 endpoints it is estimated from 32 of them.
    #[must_use]
    pub fn bounded(mut self, factor: f64) -> Self {
        self.bound = Some(factor.max(1.0));
        self
    }

    /// By these parts of a request.
    #[must_use]
    pub fn hash_on(mut self, parts: impl IntoIterator<Item = HashOn>) -> Self {
        self.source = Source::on(parts);
        self
    }

    /// By a hash of one's own. [`ketama`](Self::ketama) takes its lower 32 bits.
    #[must_use]
    pub fn by(
        mut self,
        hash: impl Fn(&dyn Carrier) -> Option<u64> + Send + Sync + 'static,
    ) -> Self {
        self.source = Source::By(Arc::new(hash));
        self
    }

    pub(super) fn request_hash(&self, call: &dyn Carrier) -> Option<u64> {
        let crc = |text: &[u8]| u64::from(crc32fast::hash(text));
        self.source.hash(call, if self.ketama { crc } else { xxh })
    }

    pub(super) fn make(&self, members: &Members<'_>) -> RingTable {
        let weights = || (0..members.len()).map(|index| u64::from(members.weight(index)));
        let (total, count) = (weights().sum::<u64>().max(1), members.len() as u64);
        let points = |weight: u64| -> u64 {
            let all = match self.ketama {
                true => u64::from(POINTS).saturating_mul(total),
                false => u64::from(self.points) * count,
            };
            let exact = u128::from(all.min(LARGEST)) * u128::from(weight);
            let rounded = (exact + u128::from(total / 2)) / u128::from(total);
            (rounded as u64).max(u64::from(weight > 0))
        };
        let mut ring: Vec<(u64, u32)> = Vec::new();
        let mut text = Vec::new();
        for (index, weight) in (0..).zip(weights()) {
            let Some(endpoint) = members.endpoint(index as usize) else {
                continue;
            };
            let key = endpoint.hash_key();
            if self.ketama {
                ketama(key, points(weight), |hash| ring.push((hash, index)));
                continue;
            }
            for number in 0..points(weight) {
                text.clear();
                text.extend_from_slice(key.as_bytes());
                text.push(b'_');
                text.extend_from_slice(number.to_string().as_bytes());
                ring.push((XxHash64::oneshot(0, &text), index));
            }
        }
        ring.sort_unstable();
        let (hashes, owners): (Vec<_>, Vec<_>) = ring.into_iter().unzip();
        RingTable {
            hashes: hashes.into_boxed_slice(),
            owners: owners.into_boxed_slice(),
        }
    }

    pub(super) fn pick_in<T>(
        &self,
        candidates: &Candidates<'_, T>,
        table: &RingTable,
        rng: &mut Rng,
    ) -> Option<usize> {
        let Some(hash) = candidates.hash() else {
            return candidates.draw(rng);
        };
        let per_weight = self.bound.map(|bound| allowed(candidates, bound, rng));
        let fits = |index: usize| {
            per_weight.is_none_or(|per_weight| {
                let pending = candidates.load(index).map_or(0, |load| load.pending());
                f64::from(pending) < (per_weight * f64::from(candidates.weight(index))).ceil()
            })
        };
        let at = if self.ketama {
            hash & 0xffff_ffff
        } else {
            hash
        };
        let found = table
            .from(at)
            .take(WALKED)
            .find(|index| candidates.is_candidate(*index) && fits(*index));
        found
            .or_else(|| Rendezvous::best(candidates, hash, fits))
            .or_else(|| Rendezvous::best(candidates, hash, |_| true))
    }
}

/// The calls that a weight of 1 may have in flight, this one counted.
fn allowed<T>(candidates: &Candidates<'_, T>, bound: f64, rng: &mut Rng) -> f64 {
    let count = candidates.len();
    let looked_at = if count > COUNTED { SAMPLED } else { count };
    let (mut pending, mut weight) = (0.0, 0.0);
    for index in 0..looked_at {
        let index = if count > COUNTED {
            rng.below(count)
        } else {
            index
        };
        if candidates.is_candidate(index) {
            pending += candidates
                .load(index)
                .map_or(0.0, |load| f64::from(load.pending()));
            weight += f64::from(candidates.weight(index));
        }
    }
    if weight == 0.0 {
        return f64::INFINITY;
    }
    bound * (pending + looked_at as f64 / count as f64) / weight
}

/// Each point is made of the one before, from `host`, a zero byte, `port`.
fn ketama(key: &str, points: u64, mut add: impl FnMut(u64)) {
    let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let (host, port) = key
        .rsplit_once(':')
        .filter(|(_, port)| digits(port))
        .unwrap_or((key, ""));
    let mut base = crc32fast::Hasher::new();
    for part in [host.as_bytes(), b"\0", port.as_bytes()] {
        base.update(part);
    }
    let mut last = 0_u32;
    for _ in 0..points {
        let mut point = base.clone();
        point.update(&last.to_le_bytes());
        last = point.finalize();
        add(u64::from(last));
    }
}

impl RingTable {
    /// The owners of the points from a hash on, once around.
    fn from(&self, hash: u64) -> impl Iterator<Item = usize> {
        let start = self.hashes.partition_point(|point| *point < hash);
        let (before, after) = self
            .owners
            .split_at_checked(start)
            .unwrap_or((&self.owners, &[]));
        after.iter().chain(before).map(|index| *index as usize)
    }

    #[cfg(test)]
    pub(in crate::balance) fn points(&self) -> Vec<(u64, u32)> {
        let hashes = self.hashes.iter().copied();
        hashes.zip(self.owners.iter().copied()).collect()
    }
}

impl Pick for Ring {
    type Table = RingTable;

    fn table(&self, members: &Members<'_>) -> RingTable {
        self.make(members)
    }

    fn pick(&self, candidates: &Candidates<'_, RingTable>, rng: &mut Rng) -> Option<usize> {
        self.pick_in(candidates, candidates.table(), rng)
    }

    fn hash(&self, call: &dyn Carrier) -> Option<u64> {
        self.request_hash(call)
    }
}
