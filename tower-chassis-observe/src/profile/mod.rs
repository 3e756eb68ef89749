//! CPU profiles of the running process, in the format of pprof.
//!
//! # Example
//! ```
//! use http::Request;
//! use tower::ServiceExt;
//! use tower_chassis_observe::profile::{Guard, Profiler};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let service = Profiler::new(Guard::token("a long secret")).service();
//! let request = Request::get("/debug/pprof/profile?seconds=30").body(()).unwrap();
//! let response = service.oneshot(request).await.unwrap();
//! assert_eq!(response.status(), 401);
//! # }
//! ```
//! ```text
//! curl -H 'authorization: Bearer a long secret' -o cpu.pb.gz 'http://host/debug/pprof/profile?seconds=30'
//! go tool pprof -http : cpu.pb.gz
//! ```
//!
//! # Paths
//! | path | answers |
//! |---|---|
//! | `/debug/pprof/` | what there is |
//! | `/debug/pprof/profile` | a profile, after `seconds` (1 to 60, 30) at `frequency` samples a second (1 to 999, 99) |
//!
//! Another prefix by [`Profiler::at`]. What is out of range is 400, a second profile at the same time 409. There is no
//! `cmdline` as in Go: secrets are passed that way. Heap profiles are the allocator's business.
//!
//! # The guard
//! A profile costs CPU and tells what the code is: who may have it has to be said, there is no default. See [`Guard`].
//!
//! # How it works
//! The crate `pprof` samples by `SIGPROF` and unwinds in the signal's handler; threads that wait are not sampled, and
//! what is in libc, libgcc, pthread or the vdso at that moment is passed over, since to unwind there may take a lock
//! that the thread holds. Nobody else in the process may use `SIGPROF`. Names need symbols: a binary that was stripped has
//! none, and lines need debug information (`debug = "line-tables-only"`).
//!
//! # Order
//! On a private listener; outside of whatever limits the time of a response.
//!
//! # Cancellation
//! A client that leaves stops the profile.
//!
//! # Cost
//! Nothing until a profile is asked for. At 99 samples a second about a percent; the first one reads the symbols of the
//! binary, on a thread for what blocks.

mod encode;
mod guard;

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use pprof::ProfilerGuardBuilder;
use tower_chassis_core::{Body, boxed::BoxFuture};
use tower_service::Service;

pub use self::guard::Guard;
use crate::health::{not_allowed, text};

/// A profile is of the whole process: there is one at a time.
static BUSY: AtomicBool = AtomicBool::new(false);

const INDEX: &str = "profile?seconds=30&frequency=99  CPU profile, pprof's format\n";

/// CPU profiles over HTTP, for whom its [`Guard`] lets in. See the [module](self).
#[derive(Clone, Debug)]
#[must_use]
pub struct Profiler {
    guard: Guard,
    prefix: Arc<str>,
}

impl Profiler {
    /// At `/debug/pprof`.
    pub fn new(guard: Guard) -> Self {
        Self {
            guard,
            prefix: "/debug/pprof".into(),
        }
    }

    /// At another path, without a slash at its end.
    pub fn at(mut self, prefix: &str) -> Self {
        self.prefix = prefix.trim_end_matches('/').into();
        self
    }

    /// The service.
    #[must_use]
    pub fn service(&self) -> ProfilerService {
        ProfilerService(Arc::new(self.clone()))
    }
}

/// The service of a [`Profiler`].
#[derive(Clone, Debug)]
pub struct ProfilerService(Arc<Profiler>);

impl<B> Service<Request<B>> for ProfilerService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (parts, _) = request.into_parts();
        let profiler = &self.0;
        let answer = |response| -> Self::Future { Box::pin(std::future::ready(Ok(response))) };
        // Before the path: who may not know does not learn what is there.
        if let Some(refused) = profiler.guard.refuse(&parts) {
            return answer(refused);
        }
        let profile = match parts.uri.path().strip_prefix(&*profiler.prefix) {
            Some("" | "/") => false,
            Some("/profile") => true,
            _ => return answer(text(StatusCode::NOT_FOUND, "not found\n".to_owned())),
        };
        if profile && parts.method == Method::GET {
            match Asked::read(parts.uri.query()) {
                Ok(asked) => Box::pin(async move { Ok(run(asked).await) }),
                Err(why) => answer(text(StatusCode::BAD_REQUEST, why)),
            }
        } else if !profile && parts.method == Method::GET {
            answer(text(StatusCode::OK, INDEX.to_owned()))
        } else if parts.method == Method::HEAD {
            answer(text(StatusCode::OK, String::new()))
        } else {
            answer(not_allowed())
        }
    }
}

/// What a query asks for.
#[derive(Debug, PartialEq)]
struct Asked {
    seconds: u32,
    frequency: u32,
}

impl Asked {
    fn read(query: Option<&str>) -> Result<Self, String> {
        let mut asked = Self {
            seconds: 30,
            frequency: 99,
        };
        for pair in query.unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (into, most) = match name {
                "seconds" => (&mut asked.seconds, 60),
                "frequency" => (&mut asked.frequency, 999),
                _ => continue,
            };
            *into = match value.parse() {
                Ok(value) if (1..=most).contains(&value) => value,
                _ => return Err(format!("{name} must be 1 to {most}\n")),
            };
        }
        Ok(asked)
    }
}

/// The process is being profiled by us, until this is dropped.
struct Busy;

impl Busy {
    fn take() -> Option<Self> {
        let free = BUSY.compare_exchange(false, true, SeqCst, SeqCst);
        free.ok().map(|_| Self)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.store(false, SeqCst);
    }
}

async fn run(asked: Asked) -> Response<Body> {
    let conflict = || {
        text(
            StatusCode::CONFLICT,
            "another profile is being made\n".to_owned(),
        )
    };
    let Some(busy) = Busy::take() else {
        return conflict();
    };
    let builder =
        ProfilerGuardBuilder::default().frequency(i32::try_from(asked.frequency).unwrap_or(99));
    #[cfg(any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64",
        target_arch = "loongarch64"
    ))]
    let builder = builder.blocklist(&["libc", "libgcc", "pthread", "vdso"]);
    // The first one reads the symbols of the binary. The place is dropped after the profiler, whoever drops them.
    let built = tokio::task::spawn_blocking(move || (builder.build(), busy)).await;
    let (profiler, busy) = match built {
        Ok((Ok(profiler), busy)) => (profiler, busy),
        Ok((Err(pprof::Error::Running), _)) => return conflict(),
        Ok((Err(error), _)) => return failed(&error),
        Err(error) => return failed(&error),
    };
    let running = (profiler, busy);
    tokio::time::sleep(Duration::from_secs(u64::from(asked.seconds))).await;
    let made = tokio::task::spawn_blocking(move || {
        let (profiler, busy) = running;
        let report = profiler.report().build();
        drop(profiler);
        drop(busy);
        report.map(|report| encode::gzip(&encode::profile(&report)))
    });
    match made.await {
        Ok(Ok(profile)) => {
            let mut response = text(StatusCode::OK, String::new());
            let headers = response.headers_mut();
            let bytes = HeaderValue::from_static("application/octet-stream");
            headers.insert(header::CONTENT_TYPE, bytes);
            let name = HeaderValue::from_static("attachment; filename=\"cpu.pb.gz\"");
            headers.insert(header::CONTENT_DISPOSITION, name);
            *response.body_mut() = Body::from(profile);
            response
        }
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
}

/// Only who was let in comes here.
fn failed(error: &dyn std::fmt::Display) -> Response<Body> {
    text(
        StatusCode::INTERNAL_SERVER_ERROR,
        format!("no profile: {error}\n"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_has_bounds() {
        let of = |seconds, frequency| Ok(Asked { seconds, frequency });
        assert_eq!(Asked::read(None), of(30, 99));
        assert_eq!(Asked::read(Some("seconds=1&x=y&frequency=999")), of(1, 999));
        for wrong in [
            "seconds=0",
            "seconds=61",
            "seconds=",
            "seconds",
            "frequency=1000",
            "frequency=-1",
            "seconds=1e9",
        ] {
            assert!(Asked::read(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
