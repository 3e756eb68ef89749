//! Every layer where it belongs, compiled and run: on the routes of an axum router, around a service on plain
//! hyper, inside of a tonic server, around a tonic client, on a `ServiceBuilder` over HTTP and over a protocol
//! that is not HTTP. A row is the layer, what is asked, and what is to come of it ([`rows`]); a position puts the
//! layer around the same [`backend`] and asks. Sockets are real where the position has some.
#![allow(clippy::unwrap_used, reason = "a test that fails is to panic")]

/// A test for each row: `name: layer and script`.
macro_rules! rows {
    ($run:path; $($name:ident: $row:expr,)*) => {$(
        #[tokio::test]
        async fn $name() {
            $run($row).await;
        }
    )*};
}

mod around_tonic;
mod auto_traits;
mod backend;
mod own_protocol;
mod plain;
mod respond;
mod rows;
mod under_axum;
mod under_hyper;
mod under_tonic;
