use std::{
    fmt,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU32,
            Ordering::{AcqRel, Relaxed, Release},
        },
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use redis::{AsyncConnectionConfig, Client, Script, aio::MultiplexedConnection};
use tower_chassis_core::BoxError;

use super::{Grant, Limit, Store};

/// How long a connection may take; nobody waits for it.
const CONNECT: Duration = Duration::from_secs(1);
/// After so many calls in a row without an answer in time the connection is made anew.
const SILENT: u32 = 4;

/// GCRA, by the server's clock. Times in microseconds since some start, so that their fractions keep some bits.
const SCRIPT: &str = r"
local time = redis.call('TIME')
local now = (time[1] - 1700000000) * 1000000 + time[2]
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local need, want = tonumber(ARGV[3]), tonumber(ARGV[4])
local window = interval * burst
local tat = tonumber(redis.call('GET', KEYS[1]) or '0')
tat = math.max(now, math.min(tat, now + window))
local left = math.floor((now + window - tat) / interval)
if left < need then
  return {0, math.ceil(tat + need * interval - window - now)}
end
local give = math.max(need, math.min(want, math.floor(left / 2)))
tat = tat + give * interval
redis.call('SET', KEYS[1], string.format('%.6f', tat), 'PX', math.ceil((tat - now) / 1000) + 1)
return {give, 0}
";

/// Counts in Redis, 5 or newer: one key for each key of the limit, which expires when it says nothing any more.
///
/// The decision is a script, so one round trip, by the clock of the server. The connection is made in the background and
/// made anew when it breaks; until it is there, the store is away.
///
/// ```no_run
/// use tower_chassis_resilience::rate_limit::{RateLimitLayer, RateLimitPolicy, remote::RedisStore};
///
/// let store = RedisStore::new("redis://127.0.0.1/")?.prefix("shop:").hashed("a secret of ours");
/// let limit = RateLimitLayer::new(RateLimitPolicy::new(100.0, 200)?)
///     .named("api")
///     .keyed(|request: &http::Request<()>| {
///         Some(request.headers().get("x-api-key")?.to_str().ok()?.to_owned())
///     })
///     .remote(store)
///     .instances(3);
/// # Ok::<(), tower_chassis_core::BoxError>(())
/// ```
#[derive(Clone)]
pub struct RedisStore {
    prefix: Arc<str>,
    pepper: Option<Arc<str>>,
    script: Arc<Script>,
    link: Arc<Link>,
}

struct Link {
    client: Client,
    connection: ArcSwapOption<MultiplexedConnection>,
    connecting: AtomicBool,
    silent: AtomicU32,
}

impl RedisStore {
    /// A server by its address, `redis://[:password@]host[:port][/database]`. Connects when it is first asked.
    ///
    /// # Errors
    /// The address is none.
    pub fn new(address: &str) -> Result<Self, BoxError> {
        Ok(Self {
            prefix: Arc::from("chassis:rate_limit:"),
            pepper: None,
            script: Arc::new(Script::new(SCRIPT)),
            link: Arc::new(Link {
                client: Client::open(address)?,
                connection: ArcSwapOption::empty(),
                connecting: AtomicBool::new(false),
                silent: AtomicU32::new(0),
            }),
        })
    }

    /// What all its keys in Redis begin with. Default `chassis:rate_limit:`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<Arc<str>>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Writes a hash (SHA-1) of `pepper` and a key instead of the key, for keys that are secrets or name persons. All
    /// instances must have the same pepper; keep it from who can read the server.
    #[must_use]
    pub fn hashed(mut self, pepper: impl Into<Arc<str>>) -> Self {
        self.pepper = Some(pepper.into());
        self
    }

    fn key(&self, key: &str) -> String {
        let prefix = &self.prefix;
        let Some(pepper) = &self.pepper else {
            return format!("{prefix}{key}");
        };
        let mut hash = sha1_smol::Sha1::new();
        hash.update(&(pepper.len() as u64).to_be_bytes());
        hash.update(pepper.as_bytes());
        hash.update(key.as_bytes());
        format!("{prefix}{}", hash.digest())
    }
}

impl Link {
    /// Makes a connection in the background, if nobody does.
    fn connect(self: &Arc<Self>) {
        if self.connecting.swap(true, AcqRel) {
            return;
        }
        // Also where the runtime ends before the connection is there.
        let connecting = Connecting(Arc::clone(self));
        tokio::spawn(async move {
            let link = &connecting.0;
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CONNECT))
                .set_response_timeout(None);
            let made = link
                .client
                .get_multiplexed_async_connection_with_config(&config);
            if let Ok(Ok(connection)) = tokio::time::timeout(2 * CONNECT, made).await {
                link.silent.store(0, Relaxed);
                link.connection.store(Some(Arc::new(connection)));
            }
        });
    }
}

/// Somebody makes a connection, until it is dropped.
struct Connecting(Arc<Link>);

impl Drop for Connecting {
    fn drop(&mut self) {
        self.0.connecting.store(false, Release);
    }
}

/// Dropped before the server has answered, it counts that.
struct Answer<'a>(Option<&'a Link>);

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        if let Some(link) = self.0
            && link.silent.fetch_add(1, Relaxed) + 1 >= SILENT
        {
            link.connection.store(None);
        }
    }
}

impl Store for RedisStore {
    async fn acquire(
        &self,
        key: &str,
        need: u32,
        want: u32,
        limit: Limit,
    ) -> Result<Grant, BoxError> {
        let Some(connection) = self.link.connection.load_full() else {
            self.link.connect();
            return Err("not connected".into());
        };
        let mut connection = (*connection).clone();
        let mut call = self.script.key(self.key(key));
        let interval = limit.interval.as_nanos() as f64 / 1000.0;
        call.arg(interval).arg(limit.burst).arg(need).arg(want);
        let mut answer = Answer(Some(&self.link));
        let result = call.invoke_async::<(u32, u64)>(&mut connection).await;
        // An error is an answer, too.
        answer.0 = None;
        match result {
            Ok((calls, wait)) => {
                self.link.silent.store(0, Relaxed);
                Ok(match calls {
                    0 => Grant::Refused(Duration::from_micros(wait)),
                    calls => Grant::Calls(calls),
                })
            }
            Err(error) => {
                if error.is_unrecoverable_error() || error.is_io_error() {
                    self.link.connection.store(None);
                    self.link.connect();
                }
                Err(error.into())
            }
        }
    }
}

impl fmt::Debug for RedisStore {
    // Without the address, which may have a password, and the pepper.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("prefix", &self.prefix)
            .field("hashed", &self.pepper.is_some())
            .field("connected", &self.link.connection.load().is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A runtime that ends takes the connection that is being made along.
    #[test]
    fn a_runtime_that_ends_does_not_leave_the_store_away() {
        let store = RedisStore::new("redis://127.0.0.1:1/").unwrap();
        let runtime = || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap()
        };
        runtime().block_on(async { store.link.connect() });
        assert!(!store.link.connecting.load(Relaxed));
    }
}
