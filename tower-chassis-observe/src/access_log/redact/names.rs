//! Which names are secret, and what stands under which.

/// Names that hold one of these.
pub(super) const HOLDS: [&str; 19] = [
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "apikey",
    "accesskey",
    "privatekey",
    "signingkey",
    "signature",
    "credential",
    "authorization",
    "cookie",
    "session",
    "csrf",
    "xsrf",
    "jwt",
    "assertion",
];

/// Names that are one of these: inside of others they are nothing (`keyboard`, `author`).
pub(super) const IS: [&str; 11] = [
    "auth", "baggage", "cvc", "cvv", "key", "otp", "pass", "pin", "pwd", "sid", "sig",
];

/// Whether a name is secret, or holds one of `more`.
pub(super) fn is_secret(name: &str, more: &[Box<str>]) -> bool {
    let name = folded(name);
    IS.contains(&&*name)
        || HOLDS.iter().any(|part| name.contains(part))
        || more.iter().any(|part| name.contains(&**part))
}

/// Headers that hold an address.
pub(super) const ADDRESSES: [&str; 8] = [
    "referer",
    "location",
    "contentlocation",
    "link",
    "refresh",
    "origin",
    "xoriginalurl",
    "xforwardeduri",
];

/// Words before the secret of an `Authorization`.
pub(super) const SCHEMES: [&str; 8] = [
    "basic",
    "bearer",
    "digest",
    "dpop",
    "negotiate",
    "ntlm",
    "scram-sha-256",
    "aws4-hmac-sha256",
];

/// A name as names are compared.
pub(super) fn folded(name: &str) -> String {
    let letters = name.chars().filter(|c| c.is_alphanumeric());
    letters.map(|c| c.to_ascii_lowercase()).collect()
}

/// The scheme of an `Authorization`, if it has one that is known: else it may be a part of the secret.
pub(super) fn scheme(value: &[u8]) -> Option<&str> {
    let value = std::str::from_utf8(value).ok()?;
    let (scheme, _) = value.split_once(' ')?;
    let mut known = SCHEMES.iter();
    known
        .any(|known| known.eq_ignore_ascii_case(scheme))
        .then_some(scheme)
}
