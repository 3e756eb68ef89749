//! Records the calls of a client into a file, and answers from it: tests that need no network and always see the same.
//!
//! # Example
//! ```
//! use http::{Request, Response};
//! use http_body_util::BodyExt;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_chassis_core::{Body, BoxError};
//! use tower_chassis_observe::vcr::{Cassette, Mode, VcrLayer};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! # let path = std::env::temp_dir().join(format!("vcr-example-{}.json", std::process::id()));
//! # let _ = std::fs::remove_file(&path);
//! let ask = async |mode, answer: &'static str| {
//!     let cassette = Cassette::open(&path, mode)?;
//!     let client = ServiceBuilder::new()
//!         .layer(VcrLayer::new(cassette.clone()))
//!         .service(service_fn(move |_: Request<Body>| async move {
//!             Ok::<_, BoxError>(Response::new(Body::from(answer)))
//!         }));
//!     let request = Request::get("http://stock/items/7?token=secret").body(Body::empty())?;
//!     let heard = client.oneshot(request).await?.into_body().collect().await?.to_bytes();
//!     cassette.save()?;
//!     Ok::<_, BoxError>(heard)
//! };
//! // Once with the real service, and then without: its answer stays what it was.
//! assert_eq!(ask(Mode::Record, "12 left").await?, "12 left");
//! assert_eq!(ask(Mode::Replay, "none").await?, "12 left");
//! assert!(!std::fs::read_to_string(&path)?.contains("secret"));
//! # std::fs::remove_file(&path)?;
//! # Ok(()) }
//! ```
//!
//! # Modes
//! | [`Mode`] | the service is called | the file |
//! |---|---|---|
//! | `Record` | yes | is written anew |
//! | `Replay` | never; what was not recorded is an error | must be there |
//! | `Auto` | if there is no file | is written if there is none |
//! | `Pass` | yes, as if the layer were not there | is not touched |
//!
//! # Which call is which
//! A call is answered by the first recorded one that [matches](Matcher) and was not used yet: method, URL and body are
//! the same, headers do not matter. So calls that run at once find theirs in any order, and equal calls theirs in the
//! order in which they were made. [`in_order`](VcrLayer::in_order) asks for the order of all. An error for what
//! nothing matches tells the nearest recorded call and what differs. [`Cassette::unused`] tells what nobody asked for.
//!
//! # Secrets
//! Nothing is kept before it was [redacted](crate::access_log::redact): headers, queries, the user in a URL, members of
//! JSON and fields of forms, of requests and of answers. What is asked in a replay is redacted in the same way before it
//! is compared, and the answers have `***` where there was a secret. Bodies of other types are kept as they are, and
//! compressed ones too unless a layer inside decompresses them: read a cassette before you publish it.
//!
//! # The file
//! JSON, indented, for people to read and change; `.json.gz` is compressed (feature `compress`). Written as a whole by
//! [`Cassette::save`] and when its last clone goes, to a second file that is renamed: a crash leaves the old one. A clone that goes
//! in a panic writes nothing, so a test that fails leaves no half a cassette; [`Cassette::save`] writes it all the same.
//!
//! # Order
//! In a client. Inside of retries and hedges each attempt is recorded, outside only their result; inside what puts
//! secrets of the moment (a time, a nonce) into what is compared, or with a [`Matcher`] that leaves them out.
//!
//! # Events and metrics
//! None.
//!
//! # Cancellation
//! A call that is dropped is not recorded; in a replay its recorded call is used all the same.
//!
//! # Cost
//! Bodies are read to their ends, up to a [limit](VcrLayer::body_limit), before they go on: this is for tests. A body that
//! never ends cannot be recorded, nor can an upgraded connection. A call that passes costs nothing, nor does it allocate.

mod cassette;
mod error;
mod future;
mod layer;
mod matcher;

pub use self::{
    cassette::{Cassette, Mode, Recorded},
    error::VcrError,
    future::VcrFuture,
    layer::{Vcr, VcrLayer},
    matcher::{Matcher, SameRequest},
};
