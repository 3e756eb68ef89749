//! Sets of methods as bits.

use http::Method;

/// A route for any method.
pub(super) const ANY: u16 = 1 << 14;
/// Methods without a bit of their own.
pub(super) const OTHER: u16 = 1 << 15;

const NAMED: [(Method, u16); 9] = [
    (Method::GET, 1),
    (Method::POST, 1 << 1),
    (Method::PUT, 1 << 2),
    (Method::DELETE, 1 << 3),
    (Method::HEAD, HEAD),
    (Method::PATCH, 1 << 5),
    (Method::OPTIONS, 1 << 6),
    (Method::CONNECT, 1 << 7),
    (Method::TRACE, 1 << 8),
];

pub(super) const GET: u16 = 1;
pub(super) const HEAD: u16 = 1 << 4;

/// The bit of `method`, of [`OTHER`] if it has none.
#[inline]
pub(super) fn bit(method: &Method) -> u16 {
    match *method {
        Method::GET => 1,
        Method::POST => 1 << 1,
        Method::PUT => 1 << 2,
        Method::DELETE => 1 << 3,
        Method::HEAD => HEAD,
        Method::PATCH => 1 << 5,
        Method::OPTIONS => 1 << 6,
        Method::CONNECT => 1 << 7,
        Method::TRACE => 1 << 8,
        _ => OTHER,
    }
}

/// The methods that have a bit in `mask`.
pub(super) fn named(mask: u16) -> impl Iterator<Item = Method> {
    NAMED
        .into_iter()
        .filter(move |(_, bit)| mask & bit != 0)
        .map(|(method, _)| method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_method_has_its_bit() {
        for (method, wanted) in NAMED {
            assert_eq!(bit(&method), wanted, "{method}");
            assert_eq!(named(wanted).collect::<Vec<_>>(), [method]);
        }
        assert_eq!(bit(&Method::from_bytes(b"PURGE").unwrap()), OTHER);
        assert_eq!(bit(&Method::from_bytes(b"get").unwrap()), OTHER);
        assert_eq!(named(ANY | OTHER).count(), 0);
    }
}
