//! Who asks the shop.

use std::time::Duration;

use http::{Request, request::Builder};
use tokio::time::{MissedTickBehavior, interval};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_chassis::{
    Body, Events,
    client::{Client, ClientConfig, ClientPolicy},
    server::Address,
};

use crate::{
    Weather,
    stock::{EMPTY, RESERVE},
};

/// Asks for everything in turn; in a storm for more than there is, and all at once.
pub(crate) async fn run(address: Address, weather: Weather, reports: Events) {
    let client = |http2| {
        let mut config = ClientConfig::default();
        config.http2 = http2;
        let policy = ClientPolicy::try_from(config).unwrap_or_default();
        let client = Client::new(&policy).events("load", &reports);
        ServiceBuilder::new().service(client)
    };
    let (plain, grpc) = (client(false), client(true));
    let (per_second, burst) = match weather {
        Weather::Calm => (40, 1),
        Weather::Storm => (10, 40),
    };
    let mut ticks = interval(Duration::from_secs(1) / per_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for number in 0_u32.. {
        ticks.tick().await;
        for one in 0..burst {
            let get = |path: String| (Request::get(format!("{address}{path}")), Body::empty());
            let post = |path: &str| Request::post(format!("{address}{path}"));
            let mut client = plain.clone();
            let asked: (Builder, Body) = match (number + one) % 8 {
                0 => get(format!("/items/{}", number % 100)),
                // Those that ask at once ask for the same.
                1 | 2 => get(format!("/prices/{}", number % 20)),
                3 => get("/reviews/7".to_owned()),
                4 => {
                    client = grpc.clone();
                    let asked = post(RESERVE).header("content-type", "application/grpc");
                    (asked.header("te", "trailers"), Body::from(EMPTY))
                }
                5 => get(format!("/pictures/{}", number % 10)),
                6 => (
                    post("/pictures/7"),
                    Body::full(vec![0; fastrand::usize(1_000..100_000)]),
                ),
                _ if number % 24 == 7 => get("/orders".to_owned()),
                // As a balancer does that asks whom it may send to.
                _ if number % 24 == 15 => get("/readyz".to_owned()),
                _ => get("/".to_owned()),
            };
            tokio::spawn(async move {
                let Ok(request) = asked.0.body(asked.1) else {
                    return;
                };
                if let Ok(client) = ServiceExt::<Request<Body>>::ready(&mut client).await
                    && let Ok(answer) = client.call(request).await
                {
                    let _ = http_body_util::BodyExt::collect(answer.into_body()).await;
                }
            });
        }
    }
}
