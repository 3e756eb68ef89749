use tower_chassis_core::Carrier;
use twox_hash::XxHash64;

use super::{
    Rendezvous,
    hash_on::{HashOn, Source, xxh},
};
use crate::balance::{Candidates, Members, Pick, Rng};

/// A table of the whole range of hashes (Maglev, Eisenbud et al.; with weights as Envoy fills it): one look finds the
/// endpoint, and shares are nearly exact. When the set changes, few requests move beside those that must.
///
/// A request that has nothing to hash goes to any endpoint, by weight. Where the endpoint may not be called, up to
/// eight other places are looked at, then all endpoints ([`Rendezvous`]).
#[derive(Clone, Debug)]
pub struct Maglev {
    size: u32,
    source: Source,
}

/// The index of the endpoint of each place.
#[derive(Debug, Default)]
pub struct MaglevTable(Box<[u32]>);

const SIZE: u32 = 65_537;
pub(in crate::balance) const LARGEST: u32 = 5_000_011;
const ATTEMPTS: u64 = 8;
const FREE: u32 = u32::MAX;

impl Default for Maglev {
    fn default() -> Self {
        Self::new()
    }
}

impl Maglev {
    /// A table of 65,537 places, by the address of the client.
    #[must_use]
    pub fn new() -> Self {
        Self {
            size: SIZE,
            source: Source::default(),
        }
    }

    /// The size of the table: the next prime number, up to 5,000,011. A hundred times the number of endpoints is
    /// fine; an endpoint beyond its size gets nothing while others can serve.
    #[must_use]
    pub fn size(mut self, size: u32) -> Self {
        self.size = (size.clamp(2, LARGEST)..=LARGEST)
            .find(|size| is_prime(*size))
            .unwrap_or(LARGEST);
        self
    }

    /// By these parts of a request.
    #[must_use]
    pub fn hash_on(mut self, parts: impl IntoIterator<Item = HashOn>) -> Self {
        self.source = Source::on(parts);
        self
    }

    /// By a hash of one's own.
    #[must_use]
    pub fn by(
        mut self,
        hash: impl Fn(&dyn Carrier) -> Option<u64> + Send + Sync + 'static,
    ) -> Self {
        self.source = Source::By(std::sync::Arc::new(hash));
        self
    }

    pub(super) fn request_hash(&self, call: &dyn Carrier) -> Option<u64> {
        self.source.hash(call, xxh)
    }

    pub(super) fn make(&self, members: &Members<'_>) -> MaglevTable {
        MaglevTable::new(members, self.size)
    }

    pub(super) fn pick_in<T>(
        candidates: &Candidates<'_, T>,
        MaglevTable(table): &MaglevTable,
        rng: &mut Rng,
    ) -> Option<usize> {
        let Some(hash) = candidates.hash() else {
            return candidates.draw(rng);
        };
        let size = table.len() as u64;
        if size > 0 {
            for attempt in 0..=ATTEMPTS {
                let hash = match attempt {
                    0 => hash,
                    attempt => hash ^ (u64::MAX - attempt + 1),
                };
                if let Some(index) = table.get((hash % size) as usize)
                    && candidates.is_candidate(*index as usize)
                {
                    return Some(*index as usize);
                }
            }
        }
        Rendezvous::best(candidates, hash, |_| true)
    }
}

pub(in crate::balance) fn is_prime(number: u32) -> bool {
    number >= 2
        && (2..)
            .take_while(|factor| factor * factor <= number)
            .all(|factor| !number.is_multiple_of(factor))
}

struct Host {
    index: u32,
    share: f64,
    target: f64,
    offset: u64,
    skip: u64,
    next: u64,
}

impl MaglevTable {
    fn new(members: &Members<'_>, size: u32) -> Self {
        let total: f64 = (0..members.len())
            .map(|index| f64::from(members.weight(index)))
            .sum();
        let modulus = u64::from(size);
        let mut hosts: Vec<Host> = (0..members.len())
            .filter(|index| members.weight(*index) > 0)
            .filter_map(|index| {
                let text = members.endpoint(index)?.hash_key().as_bytes();
                Some(Host {
                    index: u32::try_from(index).ok()?,
                    share: f64::from(members.weight(index)) / total,
                    target: 0.0,
                    offset: XxHash64::oneshot(0, text) % modulus,
                    skip: XxHash64::oneshot(1, text) % (modulus - 1) + 1,
                    next: 0,
                })
            })
            .collect();
        if hosts.is_empty() {
            return Self::default();
        }
        let most = hosts.iter().map(|host| host.share).fold(0.0, f64::max);
        let mut table = vec![FREE; size as usize].into_boxed_slice();
        let mut left = table.len();
        let mut round = 1.0;
        while left > 0 {
            for host in &mut hosts {
                if left == 0 {
                    break;
                }
                // A lighter one waits until its share is due.
                if round * host.share < host.target {
                    continue;
                }
                host.target += most;
                loop {
                    let at = (host.offset + host.skip * host.next) % modulus;
                    host.next += 1;
                    if let Some(place) = table.get_mut(at as usize)
                        && *place == FREE
                    {
                        *place = host.index;
                        left -= 1;
                        break;
                    }
                }
            }
            round += 1.0;
        }
        Self(table)
    }

    #[cfg(test)]
    pub(in crate::balance) fn places(&self) -> &[u32] {
        &self.0
    }
}

impl Pick for Maglev {
    type Table = MaglevTable;

    fn table(&self, members: &Members<'_>) -> MaglevTable {
        self.make(members)
    }

    fn pick(&self, candidates: &Candidates<'_, MaglevTable>, rng: &mut Rng) -> Option<usize> {
        Self::pick_in(candidates, candidates.table(), rng)
    }

    fn hash(&self, call: &dyn Carrier) -> Option<u64> {
        self.request_hash(call)
    }
}
