//! Reading segments word by word.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;
const SLASHES: u64 = ONES * b'/' as u64;
const PERCENTS: u64 = ONES * b'%' as u64;
/// An odd number without a pattern (the golden ratio).
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
/// Another, so that what is mixed can be spread.
const SPREAD: u64 = 0xd6e8_feb8_6659_fd93;
/// From here on a segment is not read word by word any more.
const WORDS: usize = 64;

/// A segment of a path: where it ends, and a word that stands for its text. Up to eight bytes the word *is*
/// the text, beyond it is a hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) key: u64,
}

impl Segment {
    #[inline(always)]
    pub(super) const fn len(&self) -> usize {
        self.end - self.start
    }

    /// The segment of `path` that starts at `at`.
    #[inline(always)]
    pub(super) fn read(path: &[u8], at: usize) -> Self {
        Self::read_as::<false>(path, at).unwrap_or_default()
    }

    /// The same, but `None` if it (or what is right behind it) is `RAW` and has escapes.
    #[inline(always)]
    pub(super) fn read_as<const RAW: bool>(path: &[u8], at: usize) -> Option<Self> {
        let word = load(path, at);
        if RAW && zeros(word ^ PERCENTS) != 0 {
            return None;
        }
        let slashes = zeros(word ^ SLASHES);
        if slashes != 0 {
            let (key, len) = before(word, slashes);
            return Some(Self {
                start: at,
                end: at + len,
                key,
            });
        }
        if path.len() - at <= 8 {
            return Some(Self {
                start: at,
                end: path.len(),
                key: word,
            });
        }
        Self::read_long::<RAW>(path, at, word)
    }

    #[inline(never)]
    fn read_long<const RAW: bool>(path: &[u8], start: usize, first: u64) -> Option<Self> {
        let done = |end, key| Some(Self { start, end, key });
        if path.get(start + 8) == Some(&b'/') {
            return done(start + 8, first);
        }
        let mut key = mix(0, first);
        let mut at = start + 8;
        while at - start < WORDS {
            let word = load(path, at);
            if RAW && zeros(word ^ PERCENTS) != 0 {
                return None;
            }
            let slashes = zeros(word ^ SLASHES);
            if slashes != 0 {
                let (last, len) = before(word, slashes);
                return done(at + len, finish(key, last, at + len - start));
            }
            if path.len() - at < 8 {
                let end = path.len();
                return done(end, finish(key, word, end - start));
            }
            key = mix(key, word);
            at += 8;
        }
        let rest = path.get(at..).unwrap_or_default();
        let end = if RAW {
            match memchr::memchr2(b'/', b'%', rest) {
                Some(place) if rest.get(place) == Some(&b'%') => return None,
                Some(slash) => at + slash,
                None => path.len(),
            }
        } else {
            memchr::memchr(b'/', rest).map_or(path.len(), |slash| at + slash)
        };
        let last = load(path, end - 8);
        done(end, finish(key, last, end - start))
    }
}

/// What stands before the first slash of a word, and how many bytes that is. The mark is the highest bit of
/// the slash's byte.
#[inline(always)]
const fn before(word: u64, slashes: u64) -> (u64, usize) {
    let first = slashes & slashes.wrapping_neg();
    let key = word & (first >> 7).wrapping_sub(1);
    (key, (slashes.trailing_zeros() >> 3) as usize)
}

/// Both halves of the product, so that each bit has to do with each.
#[inline(always)]
const fn mix(key: u64, word: u64) -> u64 {
    let product = (key ^ word) as u128 * MIX as u128;
    (product as u64).rotate_left(32) ^ (product >> 64) as u64
}

#[inline(always)]
const fn finish(key: u64, last: u64, len: usize) -> u64 {
    mix(key, last) ^ len as u64
}

/// The place of a key in a table of `1 << (63 - shift)` places.
#[inline(always)]
pub(super) const fn place(key: u64, shift: u32) -> u32 {
    (key.wrapping_mul(SPREAD) >> 1 >> (shift & 63)) as u32
}

/// Half a word of a whole one.
#[inline(always)]
pub(super) const fn spread(key: u64) -> u32 {
    ((key ^ key >> 32).wrapping_mul(MIX) >> 32) as u32
}

/// A word of several.
pub(super) const fn combine(words: [u64; 3]) -> u64 {
    mix(mix(mix(0, words[0]), words[1]), words[2])
}

/// The highest bit of each byte that is zero, right up to the first of them.
#[inline(always)]
const fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// Eight bytes from `at` on, filled up with zeros at the end of the path. `at` is within the path.
#[inline(always)]
pub(super) fn load(path: &[u8], at: usize) -> u64 {
    match path.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => load_end(path, at),
    }
}

#[inline(always)]
fn load_end(path: &[u8], at: usize) -> u64 {
    let left = path.len() - at;
    match path.last_chunk() {
        // The last eight bytes, without those in front of `at`.
        Some(_) if left == 0 => 0,
        Some(bytes) => u64::from_le_bytes(*bytes) >> (64 - 8 * left),
        None => {
            let bytes = path.get(at..).unwrap_or_default();
            bytes
                .iter()
                .rev()
                .fold(0, |word, byte| word << 8 | u64::from(*byte))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_ends_at_the_slash_or_the_path() {
        for len in 0..140 {
            let text = "abcdefghijklmnopqrstuvwxyz".repeat(6)[..len].to_owned();
            for tail in ["", "/", "/x", "//", "/0123456789"] {
                for head in ["", "/", "/some/"] {
                    let path = format!("{head}{text}{tail}");
                    let segment = Segment::read(path.as_bytes(), head.len());
                    assert_eq!((segment.start, segment.len()), (head.len(), len), "{path}");
                    let alone = Segment::read(text.as_bytes(), 0);
                    assert_eq!(segment.key, alone.key, "{path}");
                }
            }
        }
    }

    #[test]
    fn texts_that_differ_have_keys_that_differ() {
        let base = "0123456789".repeat(5);
        let mut keys = std::collections::HashSet::new();
        for at in 0..base.len() {
            for byte in b'a'..=b'z' {
                let mut text = base.clone().into_bytes();
                text[at] = byte;
                let key = Segment::read(&text, 0).key;
                assert!(keys.insert(key), "{at} {byte} {key:x}");
            }
        }
    }

    /// `0xaf ^ 0x2f` is `0x80`, and `0x2e ^ 0x2f` is 1, which stands behind a borrow.
    #[test]
    fn what_is_like_a_slash_is_none() {
        for text in ["\u{af}\u{af}a", "..........", "/.", "./."] {
            let expected = text.find('/').unwrap_or(text.len());
            assert_eq!(Segment::read(text.as_bytes(), 0).end, expected, "{text}");
        }
    }
}
