//! Texts that must not be shown.

use std::{fmt, fs, io::Read as _};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::super::secrecy::HIDDEN;

/// A secret is one line, a key a few dozen; a file larger than this is something else.
const MAX_FILE: u64 = 1 << 20;

/// A text that is written as `***` by `Debug`, `Display` and serde; only [`expose`](Self::expose) shows it.
///
/// In a configuration it may say where the secret is instead of what it is: `${file:/run/secrets/token}`
/// or `${env:TOKEN}`, as the whole text. [`resolve`](Self::resolve) goes and gets it.
///
/// Comparison takes time that depends on the lengths alone. The memory is not wiped.
#[derive(Clone, Default)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The secret that this one points to; itself if it points to nothing. What it finds is taken as it is,
    /// not resolved again. Blocks on a file; the line break at the end of one is not part of the secret.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, is larger than 1 MiB or is not UTF-8; a variable that is not set;
    /// `${…}` with anything else in it.
    pub fn resolve(&self) -> Result<Self, SecretError> {
        self.resolve_with(|name| std::env::var(name).ok())
    }

    /// [`resolve`](Self::resolve) with another environment.
    ///
    /// # Errors
    ///
    /// Those of [`resolve`](Self::resolve).
    pub fn resolve_with(
        &self,
        env: impl FnOnce(&str) -> Option<String>,
    ) -> Result<Self, SecretError> {
        let Some(inner) = self
            .0
            .strip_prefix("${")
            .and_then(|rest| rest.strip_suffix('}'))
        else {
            return Ok(self.clone());
        };
        let failed = |reason: String| SecretError {
            place: inner.to_owned(),
            reason,
        };
        match inner.split_once(':') {
            Some(("file", path)) => {
                let text = read(path).map_err(|error| failed(error.to_string()))?;
                let text = text
                    .strip_suffix('\n')
                    .map_or(&*text, |text| text.strip_suffix('\r').unwrap_or(text));
                Ok(Self(text.to_owned()))
            }
            Some(("env", name)) => env(name)
                .map(Self)
                .ok_or_else(|| failed("not set, or not UTF-8".to_owned())),
            // What stands in it may be a secret after all.
            _ => Err(SecretError {
                place: "${…}".to_owned(),
                reason: "write ${file:PATH} or ${env:NAME}".to_owned(),
            }),
        }
    }
}

fn read(path: &str) -> std::io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(std::io::Error::other("larger than 1 MiB"));
    }
    Ok(text)
}

/// A secret is not where it was said to be. Displays the place and the reason, never the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretError {
    place: String,
    reason: String,
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

impl std::error::Error for SecretError {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({HIDDEN})")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (self.0.as_bytes(), other.0.as_bytes());
        let differ = a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b));
        a.len() == b.len() && std::hint::black_box(differ) == 0
    }
}

impl Eq for Secret {}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_string(SecretVisitor)
    }
}

struct SecretVisitor;

// What is found instead of a string may be the secret without its quotes, so no error shows it.
impl de::Visitor<'_> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret::new(text))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Secret, E> {
        Ok(Secret(text))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
        Err(E::custom("expected a string; put it in quotes"))
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
        self.visit_bool(true)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
        self.visit_bool(true)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
        self.visit_bool(true)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::scratch::Scratch;

    #[test]
    fn nothing_shows_it_but_expose() {
        let secret = Secret::new("hunter2");
        assert_eq!(
            format!("{secret} {secret:?} {:?}", Some(&secret)),
            "*** Secret(***) Some(Secret(***))"
        );
        assert_eq!(secret.expose(), "hunter2");
        assert!(secret == Secret::from("hunter2") && secret != Secret::from("hunter3"));
        assert!(secret != Secret::from("hunter") && Secret::default() == Secret::from(""));
    }

    #[test]
    fn it_may_be_elsewhere() {
        let scratch = Scratch::new();
        let file = scratch.write("token", "from file\r\n");
        let env = |name: &str| (name == "TOKEN").then(|| "from env".to_owned());
        let get = |text: &str| {
            Secret::new(text)
                .resolve_with(env)
                .map(|secret| secret.expose().to_owned())
        };
        assert_eq!(get("plain"), Ok("plain".to_owned()));
        assert_eq!(get("a${env:TOKEN}"), Ok("a${env:TOKEN}".to_owned()));
        assert_eq!(get("${env:TOKEN}"), Ok("from env".to_owned()));
        assert_eq!(
            get(&format!("${{file:{}}}", file.display())),
            Ok("from file".to_owned())
        );
        let reason = |text: &str| get(text).unwrap_err().to_string();
        assert_eq!(reason("${env:OTHER}"), "env:OTHER: not set, or not UTF-8");
        assert_eq!(
            reason("${hunter2}"),
            "${…}: write ${file:PATH} or ${env:NAME}"
        );
        let gone = scratch.path("gone");
        assert!(
            reason(&format!("${{file:{}}}", gone.display()))
                .starts_with(&format!("file:{}: ", gone.display()))
        );
    }
}
