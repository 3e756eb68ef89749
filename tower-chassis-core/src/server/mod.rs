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
//! requests that are in flight and close (HTTP/2: GOAWAY), for at most `drain_limit`; what is left is cut. What has
//! to be done then, before the process exits, is said to [`Drain::finally`], once for all servers that share the drain:
//!
//! ```
//! # use std::time::Duration;
//! # use tower_chassis_core::server::Drain;
//! # async fn send_what_waits() {}
//! let drain = Drain::new();
//! drain.finally(Duration::from_secs(5), send_what_waits());
//! // … `server.serve(service, drain).await`
//! ```
//!
//! # Long streams
//! A response may stream for as long as it likes (server-sent events, gRPC): while it lasts, only a client that
//! does not take what is there is reset. A request's body that goes on beside its response stalls when neither
//! of the two has moved for `body_read_timeout`; a gRPC stream that may be silent both ways for longer needs
//! pings of its own or a longer limit. All messages that a client streams in one call are one body to `max_body`.
//!
//! # Upgrades
//! A handler takes a connection over with `hyper::upgrade::on`, or with what is built on that, such as axum's
//! `WebSocketUpgrade`: HTTP/1.1 `Upgrade` and `CONNECT`. From the switch on
//! * it keeps its place among `max_connections` and `max_connections_per_ip`, and a drain waits for it, until the
//!   handler drops it;
//! * layers with `.until_end()` hold what they hold for the call ([`Switched`](crate::upgrade::Switched)) as
//!   long; those that last until the head ended with the 101. The tickets end before the socket is closed, in the
//!   same drop. A switch that nobody asked for or takes ends with its connection, at once;
//! * the limits on heads, bodies and idleness no longer hold: a websocket may be silent for days, and to ping is
//!   its protocol's business. A write that waits longer than `write_timeout` fails with `TimedOut`, and the
//!   reads and writes after it with `ConnectionAborted`: the client did not read;
//! * a handler that waits for [`Drain::announced`] can say goodbye in time. At the end of `drain_limit` reads and
//!   writes, those that wait too, fail with `ConnectionAborted`, the tickets end as cancelled, and the server says
//!   [`CutShort`](Drained::CutShort). A handler that does neither keeps its socket open until it drops it, and the
//!   drain does not wait for that longer than a second.
//!
//! Over HTTP/2 there are no upgrades (extended CONNECT is not offered): a stream that is answered so is a call that
//! ends at its head, and its connection idles under `idle_timeout` as others do.

mod accept;
mod body;
mod config;
mod connection;
mod drain;
mod io;
mod last;
mod listen;
mod service;
mod slots;
mod switch;

pub use config::{ServerConfig, ServerPolicy};
pub use drain::{Drain, Drained};
pub use listen::{Address, Bound, Server};

#[cfg(test)]
mod tests;
