//! Theirs is a layer that reconnects. Ours has none: see the scenario.

use std::convert::Infallible;

use tokio::time::sleep;
use tower::{Layer, service_fn};
use tower_resilience_reconnect::ReconnectLayer;

use super::{Fault, Outcome, both, fault};
use crate::{
    connect::{self, CONNECT},
    paused,
    plain::Plain,
    script::Script,
};

fn hanging() -> usize {
    let plain = Plain::new(&Script::default());
    let connect = service_fn(move |()| {
        let plain = plain.clone();
        async move {
            sleep(CONNECT).await;
            Ok::<_, Infallible>(plain)
        }
    });
    paused(connect::hanging(
        ReconnectLayer::with_defaults().layer(connect),
    ))
}

pub fn faults() -> Vec<Fault> {
    vec![fault(
        13,
        "of five that wait for one connection, never woken",
        both(hanging(), paused(connect::ours_hanging()), |hanging| {
            Outcome::of(hanging, hanging > 0)
        }),
    )]
}
