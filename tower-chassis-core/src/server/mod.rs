//! A hyper server for one service: listeners, limits that are on by default, a bounded drain.
//!
//! HTTP/1.1 and HTTP/2 without TLS are told apart by their first bytes. TCP and unix sockets, several of
//! each. Every request carries an [`Invocation`](crate::Invocation) with the address of its peer.
//!
//! # Example
//! ```
//! use http::{Request, Response};
//! use tower::service_fn;
//! use tower_chassis_core::{
//!     Body, BoxError,
//!     server::{Drain, Server, ServerPolicy},
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), BoxError> {
//! let hello = service_fn(async |_: Request<Body>| Ok::<_, BoxError>(Response::new(Body::from("hello"))));
//! let drain = Drain::new();
//! let server = Server::new(ServerPolicy::default()).listen("127.0.0.1:0").bind().await?;
//! println!("listening on {:?}", server.addresses());
//! # drain.start();
//! # drain.hurry();
//! server.serve(hello, drain).await;
//! # Ok(())
//! # }
//! ```
//!
//! # Limits
//! | what | answer | setting |
//! |---|---|---|
//! | a head that stalls | closed without one | [`header_read_timeout`](ServerConfig::header_read_timeout) |
//! | no request on an open connection | closed | [`idle_timeout`](ServerConfig::idle_timeout) |
//! | a malformed request | 400 | |
//! | a URI, a head too long | 414, 431 | [`max_uri`](ServerConfig::max_uri), [`max_head`](ServerConfig::max_head) |
//! | a body too long, one that stalls | 413, 408 | [`max_body`](ServerConfig::max_body), [`body_read_timeout`](ServerConfig::body_read_timeout) |
//! | a client that does not read | reset | [`write_timeout`](ServerConfig::write_timeout) |
//! | too many connections, in all or from one address | closed | [`max_connections`](ServerConfig::max_connections), [`max_connections_per_ip`](ServerConfig::max_connections_per_ip) |
//!
//! The 413 and 408 of a body reach the client through [`RescueLayer`](crate::RescueLayer) when the body is
//! read inside of the service; the server itself answers only what it can see in the head.
//!
//! # Drain
//! [`Drain::start`] makes [`Drain::is_draining`] true at once, for the readiness probe; the listeners go on
//! for `drain_delay`, so that load balancers learn of it. Then they close, connections finish the
//! requests that are in flight and close (HTTP/2: GOAWAY), for at most `drain_limit`; what is left is cut.

mod accept;
mod body;
mod config;
mod connection;
mod drain;
mod io;
mod listen;
mod service;
mod slots;
mod switch;

pub use config::{ServerConfig, ServerPolicy};
pub use drain::{Drain, Drained};
pub use listen::{Address, Bound, Server};

#[cfg(test)]
mod tests;
