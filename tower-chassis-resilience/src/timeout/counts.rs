//! Whose time a call takes.

use std::{fmt::Debug, time::Duration};

use tower_chassis_core::{Carrier, Invocation, invocation::Upload};

/// Whose time a call takes: always the service's ([`Always`]), or not while the client is waited for
/// ([`NotWhileUploading`]).
pub trait Counts<Req>: Clone {
    /// What a call keeps.
    type Client: Client;
    /// That of a call that has `after`.
    fn client(&self, request: &Req, after: Duration) -> Self::Client;
}

/// What tells, while a call runs, whether its time is up.
pub trait Client: Debug {
    /// How much more it has, now that it is.
    fn more(&self) -> Option<Duration>;
}

/// All time counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Always;

impl<Req> Counts<Req> for Always {
    type Client = ();
    fn client(&self, _: &Req, _: Duration) {}
}

impl Client for () {
    fn more(&self) -> Option<Duration> {
        None
    }
}

/// Time in which the body of the request is waited for does not count.
#[derive(Clone, Copy, Debug, Default)]
pub struct NotWhileUploading;

impl<Req: Carrier> Counts<Req> for NotWhileUploading {
    type Client = Uploading;
    fn client(&self, request: &Req, after: Duration) -> Uploading {
        let upload = request.invocation().map(Invocation::upload);
        Uploading { upload, after }
    }
}

/// What a call keeps of its client.
#[derive(Debug)]
pub struct Uploading {
    upload: Option<Upload>,
    after: Duration,
}

impl Client for Uploading {
    fn more(&self) -> Option<Duration> {
        let waiting = self.upload.as_ref().is_some_and(Upload::is_waiting);
        // The service has nothing to answer yet.
        waiting.then_some(self.after)
    }
}
