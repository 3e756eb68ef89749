mod calls;
mod model;

use tower::Service;
use tower_chassis_core::{
    BoxError,
    testing::{ControlledService, Hand},
};
use tower_layer::Layer;

use super::{CoalesceConfig, CoalesceHandle, CoalesceLayer, CoalescePolicy};

type Inner = ControlledService<u32, BoxError>;

/// Calls with a number as their key, which is what is answered.
struct Rig<S> {
    inner: Inner,
    handle: CoalesceHandle<u32>,
    service: S,
}

fn rig(
    max_keys: usize,
) -> Rig<impl Service<u32, Response = u32, Error = BoxError, Future: 'static> + Clone> {
    let config = CoalesceConfig {
        max_keys,
        ..CoalesceConfig::default()
    };
    let policy = CoalescePolicy::try_from(config).unwrap();
    let layer = CoalesceLayer::new(policy, |key: &u32| (*key != 0).then_some(*key));
    let inner = Inner::answering(|| 7);
    Rig {
        handle: layer.handle(),
        service: layer.layer(inner.clone()),
        inner,
    }
}

impl<S> Rig<S>
where
    S: Service<u32, Response = u32, Error = BoxError, Future: 'static> + Clone,
{
    /// A call that is made, and not polled yet.
    fn call(&self, key: u32) -> Hand<Result<u32, BoxError>> {
        let mut service = self.service.clone();
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(service.poll_ready(&mut cx).is_ready());
        Hand::new(service.call(key))
    }
}
