//! Who asks the shop.

use std::time::Duration;

use http::Request;
use tokio::time::{MissedTickBehavior, interval};
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_chassis::{
    Body,
    client::{Client, ClientPolicy},
    server::Address,
};

use crate::Weather;

/// Asks for everything in turn; in a storm for more than there is, and all at once.
pub(crate) async fn run(address: Address, weather: Weather) {
    let client = ServiceBuilder::new().service(Client::new(&ClientPolicy::default()));
    let (per_second, burst) = match weather {
        Weather::Calm => (40, 1),
        Weather::Storm => (10, 40),
    };
    let mut ticks = interval(Duration::from_secs(1) / per_second);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for number in 0_u32.. {
        ticks.tick().await;
        for one in 0..burst {
            let path = match (number + one) % 5 {
                0 => format!("/items/{}", number % 100),
                // Those that ask at once ask for the same.
                1 | 2 => format!("/prices/{}", number % 20),
                3 => "/reviews/7".to_owned(),
                _ if number % 20 == 0 => "/orders".to_owned(),
                _ => "/".to_owned(),
            };
            let uri = format!("{address}{path}");
            let mut client = client.clone();
            tokio::spawn(async move {
                let Ok(request) = Request::get(uri).body(Body::empty()) else {
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
