//! Layered configuration in which every value knows where it came from.
//!
//! A [`Loader`] takes files, texts, the environment and flags, and makes one [`Tree`] of them. The tree is
//! read as a type of serde's, and what is wrong comes back as [`Faults`]: all of it at once, each with file,
//! line, path and the nearest right name. What a type cannot say (ranges, names that must exist) its owner
//! checks with a [`Checker`], and [`Tree::render`] shows what holds and who said it. [`watch_file`] tells
//! when to load again.
//!
//! ```
//! use tower_chassis_core::config::{Format, Loader, Span};
//!
//! #[derive(serde::Deserialize, Debug)]
//! #[serde(deny_unknown_fields)]
//! struct Gateway {
//!     listen: std::net::SocketAddr,
//!     timeout: Span,
//! }
//!
//! let loader = Loader::new().text("gateway.yaml", Format::Yaml, "lisen: 127.0.0.1:80\ntimeout: 5\n");
//! let error = loader.load_as::<Gateway>().unwrap_err();
//! assert_eq!(error.to_string(), "\
//! gateway.yaml:1:1: lisen: unknown key; did you mean \"listen\"?
//! gateway.yaml:2:10: timeout: a duration needs a unit; write 5s or 5ms");
//! ```
//!
//! Nothing in here panics, whatever it is given. Texts may hold 100 000 values, nested 64 deep.

mod budget;
mod de;
mod environment;
mod fault;
mod loader;
mod merge;
mod nearest;
mod path;
mod printable;
mod render;
mod scalar;
#[cfg(test)]
pub(crate) mod scratch;
mod secrecy;
mod tag;
mod toml;
mod tree;
mod types;
mod value;
mod watch;
mod yaml;

pub use self::{
    fault::{Fault, Faults, LoadError},
    loader::{Format, Loader},
    nearest::nearest,
    tree::{Checker, Tree},
    types::{ByteSize, ParseError, Ratio, Secret, SecretError, Span, byte_size, duration},
    value::{Entry, Map, Node, Origin, Source, Value},
    watch::{DEBOUNCE, FileWatch, WatchError, watch_file},
};
