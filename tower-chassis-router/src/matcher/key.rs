//! Reading segments word by word.

const ONES: u64 = 0x0101_0101_0101_0101;
const LOWS: u64 = 0x7f7f_7f7f_7f7f_7f7f;
const HIGHS: u64 = 0x8080_8080_8080_8080;
const SLASHES: u64 = ONES * b'/' as u64;
const PERCENTS: u64 = ONES * b'%' as u64;
/// An odd number without a pattern (the golden ratio).
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
/// Another, so that what is mixed can be spread.
const SPREAD: u64 = 0xd6e8_feb8_6659_fd93;
/// What is kept of a word that holds so many bytes.
const KEPT: [u64; 9] = [
    0,
    0xff,
    0xffff,
    0xff_ffff,
    0xffff_ffff,
    0xff_ffff_ffff,
    0xffff_ffff_ffff,
    0xff_ffff_ffff_ffff,
    u64::MAX,
];
/// How many bytes are searched for slashes at once.
const WINDOW: usize = 32;
/// How far a text is read for its hash.
const READ: usize = 64;

/// A segment of a path: where it stands, and two words that stand for its text. Up to [`TOLD`] bytes they *are* the
/// text (its first and its last bytes, none of the latter up to eight), beyond it the first is a hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) first: u64,
    pub(super) last: u64,
}

/// The longest text that two words tell.
pub(super) const TOLD: usize = 16;

impl Segment {
    #[inline(always)]
    pub(super) const fn len(&self) -> usize {
        self.end - self.start
    }

    #[inline(always)]
    pub(super) fn new(path: &[u8], start: usize, end: usize) -> Self {
        let (first, last) = match KEPT.get(end - start) {
            Some(kept) => (load(path, start) & kept, 0),
            None => long(path.get(start..end).unwrap_or_default()),
        };
        Self {
            start,
            end,
            first,
            last,
        }
    }

    /// One word that stands for its text.
    pub(super) const fn key(&self) -> u64 {
        mix(mix(0, self.first), self.last) ^ self.len() as u64
    }

    /// Its place in a table, see [`place`].
    #[inline(always)]
    pub(super) const fn place(&self, shift: u32) -> u32 {
        place(self.first ^ self.last.wrapping_mul(MIX), shift)
    }

    /// The segment of `path` that starts at `at`.
    pub(super) fn read(path: &[u8], at: usize) -> Self {
        let rest = path.get(at..).unwrap_or_default();
        let end = memchr::memchr(b'/', rest).map_or(path.len(), |slash| at + slash);
        Self::new(path, at, end)
    }
}

/// The word that stands for a text.
pub(super) fn key(text: &[u8]) -> u64 {
    Segment::new(text, 0, text.len()).key()
}

/// Finds the ends of segments, one after the other: the slashes of a window at once, so that none has to wait for the
/// one before it.
#[derive(Debug)]
pub(super) struct Slashes<'a> {
    path: &'a [u8],
    /// Where the window starts.
    base: usize,
    /// Those of the window that were not handed out.
    bits: u64,
}

impl<'a> Slashes<'a> {
    /// From `at` on. `None` if the path is `RAW` and there is an escape near by.
    #[inline(always)]
    pub(super) fn new<const RAW: bool>(path: &'a [u8], at: usize) -> Option<Self> {
        Some(Self {
            path,
            base: at,
            bits: window::<RAW>(path, at)?,
        })
    }

    /// Where the next segment ends; not to be asked behind the end of the path.
    #[inline(always)]
    pub(super) fn end<const RAW: bool>(&mut self) -> Option<usize> {
        if self.bits != 0 {
            let bit = self.bits.trailing_zeros() as usize;
            self.bits &= self.bits - 1;
            return Some(self.base + bit);
        }
        if self.path.len() - self.base <= WINDOW {
            return Some(self.path.len());
        }
        self.refill::<RAW>()
    }

    #[inline(never)]
    fn refill<const RAW: bool>(&mut self) -> Option<usize> {
        self.base += WINDOW;
        self.bits = window::<RAW>(self.path, self.base)?;
        if self.bits == 0 && self.path.len() - self.base > WINDOW {
            // A long segment.
            let from = self.base + WINDOW;
            let rest = self.path.get(from..).unwrap_or_default();
            let slash = if RAW {
                memchr::memchr2(b'/', b'%', rest)
            } else {
                memchr::memchr(b'/', rest)
            };
            self.base = slash.map_or(self.path.len(), |slash| from + slash);
            self.bits = window::<RAW>(self.path, self.base)?;
        }
        self.end::<RAW>()
    }
}

/// The slashes from `base` on as bits, `None` if the path is `RAW` and there is an escape near by.
#[inline(always)]
fn window<const RAW: bool>(path: &[u8], base: usize) -> Option<u64> {
    let (len, left) = (path.len(), path.len() - base);
    let (bits, escapes) = if let Some(bytes) = path.get(base..).and_then(|rest| rest.first_chunk())
    {
        window_of(bytes)
    } else if let Some(bytes) = path.last_chunk() {
        let (bits, escapes) = window_of(bytes);
        (bits >> (WINDOW - left), escapes)
    } else if len >= 16 {
        let ((one, mine), (other, its)) = (half(path, 0), half(path, len - 16));
        ((one | other << (len - 16)) >> base, mine | its)
    } else if len >= 8 {
        let (first, last) = (load(path, 0), load(path, len - 8));
        let bits = slashes(first) | slashes(last) << (len - 8);
        (bits >> base, escapes(first) | escapes(last))
    } else {
        let word = load(path, 0);
        (slashes(word) >> base, escapes(word))
    };
    if RAW && escapes != 0 {
        None
    } else {
        Some(bits)
    }
}

#[inline(always)]
fn window_of(bytes: &[u8; WINDOW]) -> (u64, u64) {
    let ((one, mine), (other, its)) = (half(bytes, 0), half(bytes, 16));
    (one | other << 16, mine | its)
}

/// Slashes and escapes of sixteen bytes.
#[inline(always)]
fn half(path: &[u8], at: usize) -> (u64, u64) {
    let (first, second) = (load(path, at), load(path, at + 8));
    (
        slashes(first) | slashes(second) << 8,
        escapes(first) | escapes(second),
    )
}

/// A bit for each byte of a word that is a slash.
#[inline(always)]
const fn slashes(word: u64) -> u64 {
    let word = word ^ SLASHES;
    let zeros = !(((word & LOWS) + LOWS) | word) & HIGHS;
    // Moves the highest bit of each byte to the highest byte.
    (zeros >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
}

/// Not zero if a byte of a word is a percent sign.
#[inline(always)]
const fn escapes(word: u64) -> u64 {
    let word = word ^ PERCENTS;
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// The words of a text of more than eight bytes.
#[inline(always)]
fn long(text: &[u8]) -> (u64, u64) {
    let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) else {
        return (0, 0);
    };
    let (first, last) = (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
    if text.len() <= TOLD {
        (first, last)
    } else {
        (hash_middle(text, mix(0, first)), last)
    }
}

#[inline(never)]
fn hash_middle(text: &[u8], mut key: u64) -> u64 {
    let mut at = 8;
    while at + 8 < text.len() && at < READ {
        key = mix(key, load(text, at));
        at += 8;
    }
    key
}

/// Both halves of the product, so that each bit has to do with each.
#[inline(always)]
const fn mix(key: u64, word: u64) -> u64 {
    let product = (key ^ word) as u128 * MIX as u128;
    (product as u64).rotate_left(32) ^ (product >> 64) as u64
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
#[inline(always)]
pub(super) const fn combine(words: [u64; 3]) -> u64 {
    mix(mix(mix(0, words[0]), words[1]), words[2])
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
    match path.last_chunk() {
        // The last eight bytes, without those in front of `at`.
        Some(bytes) => {
            let left = path.len() - at;
            u64::from_le_bytes(*bytes) >> 1 >> (63 - 8 * left)
        }
        None => load_short(path, at),
    }
}

#[inline(never)]
fn load_short(path: &[u8], at: usize) -> u64 {
    let bytes = path.get(at..).unwrap_or_default();
    bytes
        .iter()
        .rev()
        .fold(0, |word, byte| word << 8 | u64::from(*byte))
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
                    assert_eq!(segment.key(), alone.key(), "{path}");
                }
            }
        }
    }

    /// All segments of a path as they are handed out.
    fn ends<const RAW: bool>(path: &[u8], mut at: usize) -> Option<Vec<usize>> {
        let mut slashes = Slashes::new::<RAW>(path, at)?;
        let mut ends = Vec::new();
        while at <= path.len() {
            let end = slashes.end::<RAW>()?;
            ends.push(end);
            at = end + 1;
        }
        Some(ends)
    }

    #[test]
    fn slashes_are_found_wherever_they_are() {
        let mut rng = fastrand::Rng::with_seed(3);
        for round in 0..20_000 {
            let len = rng.usize(..if round % 4 == 0 { 300 } else { 70 });
            let rare = rng.usize(2..120);
            let path: Vec<u8> = (0..len)
                .map(|_| match rng.usize(..rare) {
                    0 => b'/',
                    1 if round % 3 == 0 => b'%',
                    _ => *[b'a', b'.', b'0', b'&', b'$', 0xaf, 0x2e]
                        .get(rng.usize(..7))
                        .unwrap(),
                })
                .collect();
            let at = rng.usize(..=len);
            let expected: Vec<_> = (at..len)
                .filter(|at| path[*at] == b'/')
                .chain([len])
                .collect();
            assert_eq!(ends::<false>(&path, at), Some(expected.clone()));
            match ends::<true>(&path, at) {
                None => assert!(path.contains(&b'%')),
                Some(ends) => {
                    assert_eq!(ends, expected);
                    assert!(!path[at..].contains(&b'%'));
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
                let key = Segment::read(&text, 0).key();
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
