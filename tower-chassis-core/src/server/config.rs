use std::time::Duration;

use crate::live::{Invalid, Validate};

/// The limits of a [`Server`](super::Server), as they are written. Every one is on by default.
#[derive(Clone, Debug)]
#[cfg_attr(
    feature = "config",
    derive(serde::Deserialize),
    serde(default, deny_unknown_fields)
)]
#[non_exhaustive]
pub struct ServerConfig {
    /// From the first byte of a head (of the connection, for its first request) to its last: 10 s.
    #[cfg_attr(feature = "config", serde(with = "crate::config::duration"))]
    pub header_read_timeout: Duration,
    /// Between two pieces of a request's body, while its response gives nothing either: 30 s.
    #[cfg_attr(feature = "config", serde(with = "crate::config::duration"))]
    pub body_read_timeout: Duration,
    /// Between two requests of a connection: 60 s.
    #[cfg_attr(feature = "config", serde(with = "crate::config::duration"))]
    pub idle_timeout: Duration,
    /// For a client to take a piece of the response, or of what is written after an upgrade: 30 s.
    #[cfg_attr(feature = "config", serde(with = "crate::config::duration"))]
    pub write_timeout: Duration,
    /// The names and values of all headers of a request, in bytes: 32 KiB.
    #[cfg_attr(feature = "config", serde(with = "crate::config::byte_size"))]
    pub max_head: u64,
    /// The path and query of a request, in bytes: 8 KiB.
    #[cfg_attr(feature = "config", serde(with = "crate::config::byte_size"))]
    pub max_uri: u64,
    /// A request's body, in bytes, counted while it streams: 2 MiB.
    #[cfg_attr(feature = "config", serde(with = "crate::config::byte_size"))]
    pub max_body: u64,
    /// Open connections of all listeners, upgraded ones among them: 10,000.
    pub max_connections: u32,
    /// Open connections of one address: 256. Unix sockets do not count.
    pub max_connections_per_ip: u32,
    /// Concurrent streams of one HTTP/2 connection: 100.
    pub max_streams: u32,
    /// From the start of a drain until the listeners close: 5 s.
    #[cfg_attr(feature = "config", serde(with = "crate::config::duration"))]
    pub drain_delay: Duration,
    /// From then until what is still in flight or upgraded is cut: 25 s.
    #[cfg_attr(feature = "config", serde(with = "crate::config::duration"))]
    pub drain_limit: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            header_read_timeout: Duration::from_secs(10),
            body_read_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(30),
            max_head: 32 * 1024,
            max_uri: 8 * 1024,
            max_body: 2 * 1024 * 1024,
            max_connections: 10_000,
            max_connections_per_ip: 256,
            max_streams: 100,
            drain_delay: Duration::from_secs(5),
            drain_limit: Duration::from_secs(25),
        }
    }
}

/// The limits of a [`Server`](super::Server), valid by construction. Live: a change holds for new connections.
#[derive(Clone, Debug, Default)]
pub struct ServerPolicy(ServerConfig);

impl ServerPolicy {
    /// The limits.
    #[must_use]
    pub const fn config(&self) -> &ServerConfig {
        &self.0
    }
}

impl Validate for ServerPolicy {}

impl TryFrom<ServerConfig> for ServerPolicy {
    type Error = Invalid;

    fn try_from(config: ServerConfig) -> Result<Self, Invalid> {
        for (field, value) in [
            ("header_read_timeout", config.header_read_timeout),
            ("body_read_timeout", config.body_read_timeout),
            ("idle_timeout", config.idle_timeout),
            ("write_timeout", config.write_timeout),
        ] {
            if value.is_zero() {
                return Err(Invalid::new(field, "must be above 0"));
            }
        }
        for (field, value) in [
            ("max_connections", config.max_connections),
            ("max_connections_per_ip", config.max_connections_per_ip),
            ("max_streams", config.max_streams),
        ] {
            if value == 0 {
                return Err(Invalid::new(field, "must be above 0"));
            }
        }
        if !(1..=65_534).contains(&config.max_uri) {
            return Err(Invalid::new("max_uri", "must be between 1 and 65534 bytes"));
        }
        if !(1024..=1024 * 1024).contains(&config.max_head) {
            return Err(Invalid::new("max_head", "must be between 1 KiB and 1 MiB"));
        }
        Ok(Self(config))
    }
}
