//! The file, and what is known of it.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
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
    /// In the order in which they were made.
    takes: Vec<Take>,
    /// So many were made.
    made: u64,
    dirty: bool,
}

struct Take {
    number: u64,
    episode: Arc<Episode>,
    used: bool,
}

#[derive(Deserialize)]
struct Document {
    version: u32,
    episodes: Vec<Episode>,
}

#[derive(Serialize)]
struct Saved<'a> {
    version: u32,
    episodes: Vec<&'a Episode>,
}

/// A call and what it came to.
#[derive(Serialize, Deserialize)]
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

    pub(super) fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        // All of them: a file in which one is none is no cassette.
        for (name, value) in self.made().flatten() {
            headers.append(name, value);
        }
        headers
    }

    /// None for what is no header: somebody may have changed the file.
    fn made(&self) -> impl Iterator<Item = Option<(HeaderName, HeaderValue)>> {
        self.0.iter().map(|(name, value)| {
            let name: HeaderName = name.parse().ok()?;
            Some((name, HeaderValue::from_bytes(&value.0).ok()?))
        })
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
    /// What of it cannot be answered.
    fn fault(&self) -> Option<&'static str> {
        if StatusCode::from_u16(self.status).is_err() {
            return Some("a status is none");
        }
        let odd = |fields: &Fields| fields.made().any(|field| field.is_none());
        let odd = odd(&self.headers) || self.trailers.as_ref().is_some_and(odd);
        odd.then_some("a header is none")
    }

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
        let takes = episodes.into_iter().zip(0..).map(|(episode, number)| Take {
            number,
            episode: Arc::new(episode),
            used: false,
        });
        let tape = Mutex::new(Tape {
            takes: takes.collect(),
            made: 0,
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
        self.0.tape().takes.len()
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
        let left = tape.left();
        left.map(|(_, episode)| episode.request.clone()).collect()
    }

    /// Writes what was recorded by now. Nothing in other modes.
    ///
    /// # Errors
    /// The file cannot be written; what was recorded is kept.
    pub fn save(&self) -> Result<(), VcrError> {
        self.0.save()
    }

    /// The number of a call that is made now.
    pub(super) fn make(&self) -> u64 {
        let mut tape = self.0.tape();
        tape.made += 1;
        tape.made
    }

    /// Keeps a call that is over, at its place among those that were made.
    pub(super) fn record(&self, number: u64, episode: Episode) {
        let mut tape = self.0.tape();
        let at = tape.takes.partition_point(|take| take.number < number);
        let take = Take {
            number,
            episode: Arc::new(episode),
            used: true,
        };
        tape.takes.insert(at, take);
        tape.dirty = true;
    }

    /// The episode that answers; `in_order` if it must be the next one.
    pub(super) fn take(
        &self,
        asked: &Recorded,
        matcher: &dyn Matcher,
        in_order: bool,
    ) -> Result<Arc<Episode>, VcrError> {
        loop {
            // A matcher is not ours, so it is not called under the lock.
            let left: Vec<(usize, Arc<Episode>)> = {
                let tape = self.0.tape();
                let left = tape.left().map(|(at, one)| (at, Arc::clone(one)));
                left.take(if in_order { 1 } else { usize::MAX }).collect()
            };
            let mut found = left.iter();
            let found = found.find(|(_, one)| matcher.matches(&one.request, asked));
            let Some((at, _)) = found else {
                let left: Vec<_> = left.iter().map(|(at, one)| (*at, &one.request)).collect();
                return Err(VcrError::unmatched(asked, &left, self.len()));
            };
            let mut tape = self.0.tape();
            // Another call may have been faster.
            if let Some(take) = tape.takes.get_mut(*at).filter(|take| !take.used) {
                take.used = true;
                return Ok(Arc::clone(&take.episode));
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
    fn left(&self) -> impl Iterator<Item = (usize, &Arc<Episode>)> {
        let takes = self.takes.iter().enumerate();
        takes.filter_map(|(at, take)| (!take.used).then_some((at, &take.episode)))
    }
}

impl Inner {
    fn tape(&self) -> MutexGuard<'_, Tape> {
        self.tape.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn save(&self) -> Result<(), VcrError> {
        let episodes: Vec<_> = {
            let mut tape = self.tape();
            if !std::mem::take(&mut tape.dirty) {
                return Ok(());
            }
            let takes = tape.takes.iter();
            takes.map(|take| Arc::clone(&take.episode)).collect()
        };
        let saved = Saved {
            version: VERSION,
            episodes: episodes.iter().map(|episode| &**episode).collect(),
        };
        let written = write(&self.path, &saved);
        if written.is_err() {
            self.tape().dirty = true;
        }
        written.map_err(|error| Reason::Io(self.path.clone(), error).into())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Half a cassette would be replayed for ever.
        if thread::panicking() {
            return;
        }
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
    let mut answers = document.episodes.iter();
    if let Some(fault) = answers.find_map(|episode| episode.response.as_ref()?.fault()) {
        let fault = serde::de::Error::custom(fault);
        return Err(Reason::NotACassette(path.to_owned(), fault).into());
    }
    Ok(document.episodes)
}

/// To a second file in the same folder first: what is there is whole at any time.
fn write(path: &Path, document: &Saved<'_>) -> io::Result<()> {
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
