//! From layers to one tree.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

use super::{
    de,
    environment::{self, Setting},
    fault::{Fault, Faults, LoadError},
    merge::merge,
    toml,
    tree::Tree,
    value::{Map, Node, Origin, Source, Value},
    yaml,
};

/// A file larger than this is not a configuration.
const MAX_FILE: u64 = 16 << 20;

/// How a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// YAML 1.2 with its core schema; JSON is a part of it.
    Yaml,
    /// TOML.
    Toml,
}

impl Format {
    /// The format that the ending of a file names: `.yaml`, `.yml`, `.json` or `.toml`.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "yaml" | "yml" | "json" => Some(Self::Yaml),
            "toml" => Some(Self::Toml),
            _ => None,
        }
    }
}

/// Layers of configuration, to be read as often as one likes.
///
/// Precedence, lowest first, whatever the order of the calls: defaults, files, named texts (a
/// configuration centre), environment, flags. Of two layers of the same kind the one given later wins.
/// Maps merge by key; lists and scalars replace.
///
/// ```
/// use tower_chassis_core::config::{Format, Loader, Source};
///
/// let tree = Loader::new()
///     .text("gateway.yaml", Format::Yaml, "gateway:\n  listen: 0.0.0.0:80\n  workers: 4\n")
///     .env("CHASSIS", [("CHASSIS__GATEWAY__WORKERS", "2")])
///     .set("gateway.listen", "127.0.0.1:0", Source::flag("--listen"))
///     .load()?;
/// assert_eq!(tree.render(&[]), "\
/// gateway:
///   listen: 127.0.0.1:0  # flag --listen
///   workers: 2  # environment CHASSIS__GATEWAY__WORKERS
/// ");
/// # Ok::<(), tower_chassis_core::config::LoadError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is read before `load`"]
pub struct Loader {
    layers: Vec<Layer>,
}

#[derive(Clone)]
enum Layer {
    File {
        path: PathBuf,
        format: Option<Format>,
    },
    Text {
        source: Source,
        format: Format,
        text: String,
    },
    Settings(Vec<Setting>),
}

// Texts and variables hold secrets before anybody knows which.
impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, .. } => write!(f, "{}", Source::file(path)),
            Self::Text { source, .. } => write!(f, "{source}"),
            Self::Settings(settings) => f
                .debug_list()
                .entries(settings.iter().map(|s| &s.source))
                .finish(),
        }
    }
}

impl Loader {
    /// No layer yet. Loading that gives an empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// A file; its ending names the format.
    pub fn file(self, path: impl Into<PathBuf>) -> Self {
        self.layer(Layer::File {
            path: path.into(),
            format: None,
        })
    }

    /// A file in a format, whatever it is called.
    pub fn file_as(self, path: impl Into<PathBuf>, format: Format) -> Self {
        self.layer(Layer::File {
            path: path.into(),
            format: Some(format),
        })
    }

    /// A text with a name, above all files.
    pub fn text(self, name: impl AsRef<str>, format: Format, text: impl Into<String>) -> Self {
        self.text_from(Source::named(name), format, text)
    }

    /// A text from any source; the kind of the source is its precedence.
    pub fn text_from(self, source: Source, format: Format, text: impl Into<String>) -> Self {
        self.layer(Layer::Text {
            source,
            format,
            text: text.into(),
        })
    }

    /// The variables that begin with `prefix` and two underscores, two more for each level:
    /// `CHASSIS__SERVER__HEADER_READ_TIMEOUT` is `server.header_read_timeout`.
    ///
    /// Keys become lower case and cannot hold two underscores in a row, a dash or a dot. Values are read
    /// as YAML scalars, or as a list if they stand in `[` and `]`; whoever wants a string gets the text as it
    /// is, so `010` needs no quotes, and quotes are part of the text.
    pub fn env<K, V>(self, prefix: &str, vars: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: AsRef<OsStr>,
        V: Into<OsString>,
    {
        self.layer(Layer::Settings(environment::settings(prefix, vars)))
    }

    /// [`env`](Self::env) with the environment of this process as it is now.
    pub fn std_env(self, prefix: &str) -> Self {
        self.env(prefix, std::env::vars_os())
    }

    /// One value: `set("gateway.listen", "127.0.0.1:0", Source::flag("--listen"))`.
    ///
    /// The kind of the source is its precedence; [`Source::Default`] makes it a default. The text is read
    /// like that of a [variable](Self::env). A key with a dot stands in quotes; items of lists cannot be set.
    pub fn set(self, path: &str, text: impl Into<String>, source: Source) -> Self {
        self.layer(Layer::Settings(vec![Setting::at_path(
            path,
            text.into(),
            source,
        )]))
    }

    fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// Reads all layers and merges them. Blocks on the files.
    ///
    /// # Errors
    ///
    /// [`LoadError::Unreadable`] for the first file that cannot be read; otherwise all faults of all
    /// layers. A layer with a syntax error has that one fault only.
    pub fn load(&self) -> Result<Tree, LoadError> {
        let (tree, faults, _) = self.read()?;
        faults.into_iter().collect::<Faults>().into_result()?;
        Ok(tree)
    }

    /// Loads, and reads the tree as a `T`.
    ///
    /// Reports more in one go than [`load`](Self::load) and then [`Tree::deserialize`]: a key that stands
    /// twice does not hide a wrong type elsewhere. After a syntax error the types are not looked at.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), with the faults of the types.
    pub fn load_as<T: DeserializeOwned>(&self) -> Result<(Tree, T), LoadError> {
        let (tree, mut faults, whole) = self.read()?;
        if !whole {
            return Err(faults.into_iter().collect::<Faults>().into());
        }
        match de::deserialize::<T>(&tree) {
            Ok(value) if faults.is_empty() => Ok((tree, value)),
            Ok(_) => Err(faults.into_iter().collect::<Faults>().into()),
            Err(more) => {
                // What stands at the place of a fault of the text is its consequence.
                let places: Vec<_> = faults.iter().map(|fault| fault.origin.clone()).collect();
                faults.extend(
                    more.into_iter()
                        .filter(|fault| !places.contains(&fault.origin)),
                );
                Err(faults.into_iter().collect::<Faults>().into())
            }
        }
    }

    /// The tree, its faults, and whether every layer is in it.
    fn read(&self) -> Result<(Tree, Vec<Fault>, bool), LoadError> {
        let mut faults = Vec::new();
        let mut whole = true;
        let mut ranked = Vec::new();
        for layer in &self.layers {
            let (rank, result) = match layer {
                Layer::File { path, format } => {
                    (rank(&Source::file(path)), read_file(path, *format)?)
                }
                Layer::Text {
                    source,
                    format,
                    text,
                } => (rank(source), read_text(source, *format, text)),
                Layer::Settings(settings) => {
                    let rank = settings.first().map_or(0, |setting| rank(&setting.source));
                    (rank, Ok(environment::tree(settings)))
                }
            };
            match result {
                Ok((node, more)) => {
                    faults.extend(more);
                    ranked.push((rank, node));
                }
                Err(fault) => {
                    whole = false;
                    faults.push(fault);
                }
            }
        }
        // Stable: layers of one kind stay in the order in which they were given.
        ranked.sort_by_key(|(rank, _)| *rank);
        let mut layers = ranked.into_iter().map(|(_, node)| node);
        let mut root = layers
            .next()
            .unwrap_or_else(|| Tree::default().root().clone());
        layers.for_each(|over| merge(&mut root, over));
        Ok((Tree::new(root), faults, whole))
    }
}

fn rank(source: &Source) -> u8 {
    match source {
        Source::Default => 0,
        Source::File(_) => 1,
        Source::Named(_) => 2,
        Source::Env(_) => 3,
        Source::Flag(_) => 4,
    }
}

type Read = Result<(Node, Vec<Fault>), Fault>;

fn read_file(path: &Path, format: Option<Format>) -> Result<Read, LoadError> {
    let unreadable = |source| LoadError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let format = format.or_else(|| Format::of(path)).ok_or_else(|| {
        unreadable(io::Error::other(
            "the ending names no format; use .yaml, .yml, .json or .toml",
        ))
    })?;
    let mut bytes = Vec::new();
    // Bounded: a path may be a pipe or a device that never ends.
    File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(unreadable(io::Error::other("larger than 16 MiB")));
    }
    let source = Source::file(path);
    // Who writes a file in place has cut it to nothing first: taken for what is meant, that would be all defaults.
    if bytes.trim_ascii().is_empty() {
        let message = "the file is empty; a comment or an empty map says that this is meant";
        return Ok(Err(Fault::new(Origin::at(source, 1, 1), "", message)));
    }
    Ok(match String::from_utf8(bytes) {
        Ok(text) => read_text(&source, format, &text),
        Err(error) => {
            let valid = error
                .as_bytes()
                .get(..error.utf8_error().valid_up_to())
                .unwrap_or_default();
            let line = valid.iter().filter(|&&byte| byte == b'\n').count() + 1;
            let column = valid
                .rsplit(|&byte| byte == b'\n')
                .next()
                .map_or(0, |rest| String::from_utf8_lossy(rest).chars().count())
                + 1;
            Err(Fault::new(
                Origin::at(source, line, column),
                "",
                "not UTF-8",
            ))
        }
    })
}

fn read_text(source: &Source, format: Format, text: &str) -> Read {
    let (mut root, faults) = match format {
        Format::Yaml => yaml::parse(source, text)?,
        Format::Toml => (toml::parse(source, text)?, Vec::new()),
    };
    match root.value {
        Value::Map(_) => {}
        // A file of comments alone.
        Value::Null => root.value = Value::Map(Map::new()),
        other => {
            let message = format!("the whole must be a map, not {}", other.kind());
            return Err(Fault::new(root.origin, "", message));
        }
    }
    Ok((root, faults))
}

#[cfg(test)]
#[path = "loader_tests.rs"]
mod tests;
