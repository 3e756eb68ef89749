mod ends;
mod hammer;
mod keyed;
mod model;
mod overload;
mod service;
mod waiting;

use std::time::Duration;

use tokio::time::Instant;

use super::{codel::Discipline, permits::Comer};

/// One who comes now and has an hour.
fn comer() -> Comer {
    Comer {
        now: Instant::now(),
        deadline: None,
        discipline: Discipline {
            max_wait: Duration::from_secs(3_600),
            target: None,
            interval: Duration::from_secs(3_600),
            newest_first: false,
        },
    }
}
