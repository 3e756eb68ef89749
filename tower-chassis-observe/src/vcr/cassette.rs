//! The file, and what is known of it.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use super::{Matcher, VcrError, error::Reason};

/// What is written into a file.
const VERSION: u32 = 1;

/// What a [cassette](Cassette) is for. See the [module](super#modes).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Calls are made and recorded.
    Record,
    /// Calls are answered from the file.
    Replay,
    /// `Replay` if there is a file, else `Record`.
    Auto,
    /// Calls are made.
    Pass,
}

/// A file of calls. Clones are the same one.
#[derive(Clone)]
pub struct Cassette(Arc<Inner>);

struct Inner {
    path: PathBuf,
    /// Never `Auto`.
    mode: Mode,
    tape: Mutex<Tape>,
}

#[derive(Default)]
struct Tape {
    episodes: Vec<Episode>,
    used: Vec<bool>,
    dirty: bool,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    episodes: Vec<Episode>,
}

/// A call and what it came to.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Episode {
    pub(super) request: Recorded,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) response: Option<RecordedResponse>,
    /// What it failed with.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) error: Option<String>,
}

/// A request, without its secrets.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    pub(super) method: String,
    pub(super) url: String,
    #[serde(default)]
    pub(super) headers: Fields,
    #[serde(default, skip_serializing_if = "Text::is_empty")]
    pub(super) body: Text,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecordedResponse {
    pub(super) status: u16,
    #[serde(default)]
    pub(super) headers: Fields,
    #[serde(default, skip_serializing_if = "Text::is_empty")]
    pub(super) body: Text,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) trailers: Option<Fields>,
}

/// Headers in their order.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Fields(Vec<(String, Text)>);

impl Fields {
    pub(super) fn new(fields: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let fields = fields.into_iter();
        Self(
            fields
                .map(|(name, value)| (name, Text(value.into())))
                .collect(),
        )
    }

    /// Those that a header can be made of: somebody may have changed the file.
    pub(super) fn headers(&self) -> HeaderMap {
        let made = self.0.iter().filter_map(|(name, value)| {
            let name: HeaderName = name.parse().ok()?;
            Some((name, HeaderValue::from_bytes(&value.0).ok()?))
        });
        let mut headers = HeaderMap::new();
        made.for_each(|(name, value)| {
            headers.append(name, value);
        });
        headers
    }
}

/// Bytes: a text in the file if they are one.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Text(pub(super) Bytes);

impl Text {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Bytes { base64: String },
}

impl Serialize for Text {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match str::from_utf8(&self.0) {
            Ok(text) => to.serialize_str(text),
            Err(_) => Written::Bytes {
                base64: STANDARD.encode(&self.0),
            }
            .serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Written::deserialize(from)? {
            Written::Text(text) => Ok(Self(text.into())),
            Written::Bytes { base64 } => {
                let bytes = STANDARD.decode(base64).map_err(serde::de::Error::custom)?;
                Ok(Self(bytes.into()))
            }
        }
    }
}

impl Recorded {
    /// The method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The URL, without user and secrets.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The first value of a header; none if it is no text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.headers.0.iter();
        let (_, value) = fields.find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        str::from_utf8(&value.0).ok()
    }

    /// The body, without secrets where its type is one that is [understood](super#secrets).
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body.0
    }
}

/// Method and URL, and the beginning of the body.
impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.url.escape_debug())?;
        if self.body.is_empty() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&self.body.0);
        let shown: String = text.chars().take(200).collect();
        write!(f, " with {shown:?}")
    }
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl RecordedResponse {
    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or_default()
    }
}

impl Cassette {
    /// The cassette of a file, which is read if it is to be replayed.
    ///
    /// # Errors
    /// The file is to be replayed and is not there, cannot be read, or is no cassette.
    pub fn open(path: impl Into<PathBuf>, mode: Mode) -> Result<Self, VcrError> {
        let path = path.into();
        if is_compressed(&path) && !cfg!(feature = "compress") {
            return Err(Reason::NoCompression(path).into());
        }
        let mode = match mode {
            Mode::Auto if path.exists() => Mode::Replay,
            Mode::Auto => Mode::Record,
            mode => mode,
        };
        let episodes = match mode {
            Mode::Replay => read(&path)?,
            _ => Vec::new(),
        };
        let tape = Mutex::new(Tape {
            used: vec![false; episodes.len()],
            episodes,
            dirty: mode == Mode::Record,
        });
        Ok(Self(Arc::new(Inner { path, mode, tape })))
    }

    /// What it does: never `Auto`.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.0.mode
    }

    /// How many calls it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.tape().episodes.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The recorded calls that nobody has asked for in a replay.
    #[must_use]
    pub fn unused(&self) -> Vec<Recorded> {
        let tape = self.0.tape();
        let left = tape.left().map(|(_, episode)| episode.request.clone());
        left.collect()
    }

    /// Writes what was recorded by now. Nothing in other modes.
    ///
    /// # Errors
    /// The file cannot be written; what was recorded is kept.
    pub fn save(&self) -> Result<(), VcrError> {
        self.0.save()
    }

    pub(super) fn record(&self, episode: Episode) {
        let mut tape = self.0.tape();
        tape.episodes.push(episode);
        tape.used.push(true);
        tape.dirty = true;
    }

    /// The episode that answers; `in_order` if it must be the next one.
    pub(super) fn take(
        &self,
        asked: &Recorded,
        matcher: &dyn Matcher,
        in_order: bool,
    ) -> Result<Episode, VcrError> {
        loop {
            // A matcher is not ours, so it is not called under the lock.
            let left: Vec<(usize, Recorded)> = {
                let tape = self.0.tape();
                let left = tape.left().map(|(at, one)| (at, one.request.clone()));
                left.take(if in_order { 1 } else { usize::MAX }).collect()
            };
            let found = left.iter().find(|(_, one)| matcher.matches(one, asked));
            let Some((at, _)) = found else {
                let left: Vec<_> = left.iter().map(|(at, one)| (*at, one)).collect();
                return Err(VcrError::unmatched(asked, &left, self.len()));
            };
            let mut tape = self.0.tape();
            // Another call may have been faster.
            if let Some(used) = tape.used.get_mut(*at).filter(|used| !**used) {
                *used = true;
                if let Some(episode) = tape.episodes.get(*at) {
                    return Ok(episode.clone());
                }
            }
        }
    }
}

impl fmt::Debug for Cassette {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cassette")
            .field("path", &self.0.path)
            .field("mode", &self.0.mode)
            .field("calls", &self.len())
            .finish()
    }
}

impl Tape {
    fn left(&self) -> impl Iterator<Item = (usize, &Episode)> {
        let used = self.used.iter();
        let both = self.episodes.iter().zip(used).enumerate();
        both.filter_map(|(at, (episode, used))| (!used).then_some((at, episode)))
    }
}

impl Inner {
    fn tape(&self) -> MutexGuard<'_, Tape> {
        self.tape.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn save(&self) -> Result<(), VcrError> {
        let document = {
            let mut tape = self.tape();
            if !std::mem::take(&mut tape.dirty) {
                return Ok(());
            }
            Document {
                version: VERSION,
                episodes: tape.episodes.clone(),
            }
        };
        let written = write(&self.path, &document);
        if written.is_err() {
            self.tape().dirty = true;
        }
        written.map_err(|error| Reason::Io(self.path.clone(), error).into())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Err(error) = self.save() {
            tracing::error!(target: "tower_chassis::vcr", %error, "a cassette is lost");
        }
    }
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "gz")
}

fn read(path: &Path) -> Result<Vec<Episode>, VcrError> {
    let failed = |error| VcrError::from(Reason::Io(path.to_owned(), error));
    let mut text = Vec::new();
    let mut file = File::open(path).map_err(failed)?;
    if is_compressed(path) {
        unpacked(file).read_to_end(&mut text).map_err(failed)?;
    } else {
        file.read_to_end(&mut text).map_err(failed)?;
    }
    let document: Document = serde_json::from_slice(&text)
        .map_err(|error| Reason::NotACassette(path.to_owned(), error))?;
    if document.version != VERSION {
        return Err(Reason::Version(path.to_owned(), document.version).into());
    }
    Ok(document.episodes)
}

/// To a second file in the same folder first: what is there is whole at any time.
fn write(path: &Path, document: &Document) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.tmp", std::process::id()));
    let beside = PathBuf::from(beside);
    let mut text = serde_json::to_vec_pretty(document)?;
    text.push(b'\n');
    if is_compressed(path) {
        text = packed(&text)?;
    }
    let written = File::create(&beside).and_then(|mut file| {
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

#[cfg(feature = "compress")]
fn unpacked(file: File) -> impl Read {
    flate2::read::GzDecoder::new(file)
}

#[cfg(not(feature = "compress"))]
fn unpacked(file: File) -> impl Read {
    file
}

#[cfg(feature = "compress")]
fn packed(text: &[u8]) -> io::Result<Vec<u8>> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(text)?;
    packer.finish()
}

#[cfg(not(feature = "compress"))]
fn packed(text: &[u8]) -> io::Result<Vec<u8>> {
    Ok(text.to_vec())
}
