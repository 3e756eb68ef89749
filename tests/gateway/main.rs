//! The gateway from outside: the spawned binary, upstream processes, real sockets.
//!
//! Nothing here knows the code of the product; what it is told by the command line, by the admin port and by
//! the answers of the upstreams is all that it judges by. The tests that measure take turns (one lock file per
//! target directory), so that they do not measure one another; those of the command line run beside them.
//!
//! Linux only where a test looks at sockets, memory or addresses of the loopback network other than 127.0.0.1.
//!
//! `CHASSIS_LONG=1` asks for the long form, `CHASSIS_SEED=N` for other draws, `CHASSIS_PEERS=required` turns a
//! tool that is missing (`promtool`) from a remark into a failure.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test program: it fails loudly and prints what it measured"
)]

mod canary;
mod cli;
mod drain;
mod edge;
mod hostile;
mod kill;
mod load;
mod observe;
mod process;
mod raw;
mod reload;
mod upstream;
