//! A copy of some calls for a second service.

use tower_chassis_core::Carrier;

/// In the extensions of a request: it is a copy that a mirror made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shadow;

/// Whether a request is a copy that a mirror made, here or on another hop.
pub fn is_shadow<Req: Carrier + ?Sized>(request: &Req) -> bool {
    request.extensions().get::<Shadow>().is_some() || request.meta("x-chassis-shadow").is_some()
}
