//! Chance that comes out the same wherever it is asked: for a rule, a salt and an id, on every hop, attempt, run and
//! machine.
//!
//! `xxh64(id, xxh64(rule ‖ 0 ‖ salt, seed))`, with the second argument as the seed of the hash. XXH64 is fixed and
//! reads little-endian everywhere, so replays and bug reports show the same calls.

use tower_chassis_core::{Carrier, Invocation};
use twox_hash::XxHash64;

/// What all is: parts per million.
pub(crate) const MILLION: u32 = 1_000_000;

/// A die for one rule and one purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Die(u64);

/// What it shows for an id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Roll(u64);

impl Die {
    pub(crate) fn new(seed: u64, rule: &str, salt: &str) -> Self {
        let mut text = Vec::with_capacity(rule.len() + 1 + salt.len());
        text.extend_from_slice(rule.as_bytes());
        text.push(0);
        text.extend_from_slice(salt.as_bytes());
        Self(XxHash64::oneshot(seed, &text))
    }

    pub(crate) const fn to_bits(self) -> u64 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The die of an attempt, from 1; that of the first is the one of the call.
    pub(crate) fn of_attempt(self, attempt: u32) -> Self {
        match attempt {
            0 | 1 => self,
            _ => Self(XxHash64::oneshot(self.0, &attempt.to_le_bytes())),
        }
    }

    pub(crate) fn roll(self, id: &[u8]) -> Roll {
        Roll(XxHash64::oneshot(self.0, id))
    }
}

impl Roll {
    /// Whether it is among so many of a million.
    pub(crate) const fn hits(self, ppm: u32) -> bool {
        self.0 % (MILLION as u64) < ppm as u64
    }

    /// A number above 0 and up to 1, which has nothing to do with whether it hits.
    pub(crate) fn unit(self) -> f64 {
        let other = XxHash64::oneshot(self.0, b"unit");
        // 53 bits, as many as a double holds.
        ((other >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    #[cfg(test)]
    pub(crate) const fn get(self) -> u64 {
        self.0
    }
}

/// The id by which a call is known on all hops: that of its invocation, else what it says in `x-request-id`.
pub(crate) fn id_of<Req: Carrier + ?Sized>(request: &Req) -> Option<&str> {
    let known = request.invocation().and_then(Invocation::request_id);
    known
        .map(|id| &**id)
        .or_else(|| request.meta("x-request-id"))
        .filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of XXH64 itself, as its specification has them: whatever computes the hash must give these.
    #[test]
    fn the_hash_is_xxh64() {
        assert_eq!(XxHash64::oneshot(0, b""), 0xef46_db37_51d8_e999);
        assert_eq!(XxHash64::oneshot(0, b"a"), 0xd24e_c4f1_a98c_6e5b);
        assert_eq!(XxHash64::oneshot(0, b"abc"), 0x44bc_2cf5_ad77_0999);
        let long = b"Nobody inspects the spammish repetition";
        assert_eq!(XxHash64::oneshot(0, long), 0xfbce_a83c_8a37_8bf1);
    }

    /// Computed once, by another implementation. Were one of these to change, the same request would have another
    /// fault on two hops of different versions.
    #[test]
    fn golden() {
        for (seed, rule, salt, id, roll) in GOLDEN {
            let die = Die::new(seed, rule, salt);
            assert_eq!(die.roll(id.as_bytes()).get(), roll, "{rule} {salt} {id}");
        }
        let die = Die::new(7, "slow-stock", "delay");
        assert_eq!(die.of_attempt(1), die);
        assert_eq!(die.of_attempt(2).roll(b"r-1").get(), SECOND_ATTEMPT);
    }

    const GOLDEN: [(u64, &str, &str, &str, u64); 5] = [
        (0, "slow-stock", "delay", "r-1", 0x1072_736f_0cf2_9913),
        (7, "slow-stock", "delay", "r-1", 0x9add_db4d_9a35_2ba9),
        (7, "slow-stock", "abort", "r-1", 0xe08a_c667_5fab_adb5),
        (
            7,
            "slow-stock",
            "delay",
            "0af7651916cd43dd8448eb211c80319c",
            0x83eb_e485_7368_ab17,
        ),
        (u64::MAX, "mirror", "share", "", 0x020a_e2e3_a1cd_8a5e),
    ];
    const SECOND_ATTEMPT: u64 = 0x2fff_6b03_2de3_fcc2;

    #[test]
    fn a_million_ids_hit_as_often_as_they_should() {
        for (seed, salt) in [(0, "delay"), (1, "abort"), (0xfeed, "share")] {
            let die = Die::new(seed, "rule", salt);
            let rolls: Vec<Roll> = (0..MILLION)
                .map(|n| die.roll(format!("request-{n}").as_bytes()))
                .collect();
            for ppm in [0, 1_000, 10_000, 250_000, 500_000, 999_000, MILLION] {
                let hits = rolls.iter().filter(|roll| roll.hits(ppm)).count() as i64;
                let off = (hits - i64::from(ppm)).abs();
                // A thousandth of all.
                assert!(off <= 1_000, "{seed} {salt} {ppm}: {hits}");
            }
            let mean = rolls.iter().map(|roll| roll.unit()).sum::<f64>() / f64::from(MILLION);
            assert!((mean - 0.5).abs() < 0.001, "{mean}");
        }
    }

    /// Whether one fault hits says nothing of another, nor of the same one on the next attempt.
    #[test]
    fn dice_are_independent() {
        let delay = Die::new(3, "rule", "delay");
        let others = [
            Die::new(3, "rule", "abort"),
            Die::new(3, "rules", "delay"),
            Die::new(4, "rule", "delay"),
            delay.of_attempt(2),
        ];
        for other in others {
            let both = (0..200_000)
                .map(|n: u32| n.to_le_bytes())
                .filter(|id| delay.roll(id).hits(500_000) && other.roll(id).hits(500_000))
                .count();
            assert!(both.abs_diff(50_000) < 1_000, "{other:?}: {both}");
        }
        // A boundary between rule and salt that moves is another die.
        assert_ne!(Die::new(0, "a", "bc"), Die::new(0, "ab", "c"));
    }
}
