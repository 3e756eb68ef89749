//! What must not be shown.

use std::borrow::Cow;

/// What stands for a value that is not shown.
pub(super) const HIDDEN: &str = "***";

/// Whether a key with this name holds a secret, by its name.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    // A path to a secret is none, and the first thing one wants to see.
    if ["_file", "-file", "_path", "-path", "_dir", "-dir"]
        .iter()
        .any(|end| key.ends_with(end))
    {
        return false;
    }
    let anywhere = ["password", "passwd", "passphrase", "secret", "credential"];
    let at_the_end = ["token", "tokens", "key", "keys", "authorization", "cookie"];
    anywhere.iter().any(|word| key.contains(word))
        || at_the_end.iter().any(|word| key.ends_with(word))
}

/// The text with the user and the password of every URL in it hidden: `http://***@host/`.
pub(super) fn without_userinfo(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        let end = after.find(|c: char| matches!(c, '/' | '?' | '#' | ',') || c.is_whitespace());
        let authority = end.map_or(after, |end| after.get(..end).unwrap_or(after));
        out.push_str(before);
        out.push_str("://");
        rest = match authority.rfind('@') {
            Some(at) => {
                out.push_str(HIDDEN);
                after.get(at..).unwrap_or_default()
            }
            None => after,
        };
    }
    if out.is_empty() {
        return text.into();
    }
    out.push_str(rest);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_their_names() {
        for key in [
            "password",
            "db_password",
            "PASSWORD",
            "clientSecret",
            "secret_name",
            "token",
            "api-token",
            "key",
            "api_key",
            "tls_key",
            "apiKeys",
            "credentials",
            "Authorization",
        ] {
            assert!(is_secret(key), "{key}");
        }
        for key in [
            "listen",
            "token_bucket",
            "keyed",
            "key_file",
            "password_file",
            "secret-path",
            "host",
        ] {
            assert!(!is_secret(key), "{key}");
        }
    }

    #[test]
    fn userinfo_is_hidden() {
        for (text, shown) in [
            ("plain", "plain"),
            ("http://host/a@b", "http://host/a@b"),
            (
                "http://user:pw@host:80/p?q=a@b",
                "http://***@host:80/p?q=a@b",
            ),
            ("redis://:p@ss@host", "redis://***@host"),
            (
                "http://a:b@x,http://c:d@y http://z",
                "http://***@x,http://***@y http://z",
            ),
            ("a://", "a://"),
            ("://@", "://***@"),
        ] {
            assert_eq!(without_userinfo(text), shown);
        }
    }
}
