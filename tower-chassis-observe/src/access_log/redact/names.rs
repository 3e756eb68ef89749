//! Which names are secret, and what stands under which.

/// Names that hold one of these.
pub(super) const HOLDS: [&str; 25] = [
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
    "samlresponse",
    "codeverifier",
    "encryptionkey",
    "masterkey",
    "sharedkey",
    "cardnumber",
];

/// Names that are one of these: inside of others they are nothing (`keyboard`, `author`).
pub(super) const IS: [&str; 11] = [
    "auth", "baggage", "cvc", "cvv", "key", "otp", "pass", "pin", "pwd", "sid", "sig",
];

/// Words that make any name secret that has them: `user[pin]`, `cardCvc`.
const WORDS: [&str; 5] = ["cvc", "cvv", "otp", "pin", "pwd"];

/// Words that make a name secret that ends with them: `x-auth`, but not `auth_time`.
const LAST: [&str; 4] = ["auth", "pass", "sid", "sig"];

/// Whether a name is secret, or holds one of `more`.
pub(super) fn is_secret(name: &str, more: &[Box<str>]) -> bool {
    let whole = folded(name);
    IS.contains(&&*whole)
        || HOLDS.iter().any(|part| whole.contains(part))
        || more.iter().any(|part| whole.contains(&**part))
        || has_secret_word(name)
}

fn has_secret_word(name: &str) -> bool {
    let is = |word: &str, list: &[&str]| list.iter().any(|one| one.eq_ignore_ascii_case(word));
    let mut last = "";
    for word in words(name) {
        if is(word, &WORDS) {
            return true;
        }
        last = word;
    }
    is(last, &LAST)
}

/// The words of a name: between what is no letter, and where a capital follows a small one.
fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split(|c: char| !c.is_alphanumeric())
        .flat_map(|mut rest| {
            std::iter::from_fn(move || {
                if rest.is_empty() {
                    return None;
                }
                let bytes = rest.as_bytes();
                let humps = bytes.windows(2);
                let hump = humps
                    .map(|two| two[0].is_ascii_lowercase() && two[1].is_ascii_uppercase())
                    .position(|hump| hump);
                let (word, after) = rest.split_at(hump.map_or(rest.len(), |at| at + 1));
                rest = after;
                Some(word)
            })
        })
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
