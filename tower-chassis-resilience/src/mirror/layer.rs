use std::{fmt, sync::Arc};

use tower_chassis_core::{Events, Live};
use tower_layer::Layer;

use super::{
    Mirror, MirrorHandle, MirrorPolicy,
    shared::{Owner, Setup},
    tap::Tee,
};
use crate::retry::Cloned;

/// Sends copies of some calls to a second service. See the [module](super) page.
///
/// The state is the layer's: what is layered or cloned twice shares it. When the last layer, service and handle is
/// gone, copies that are under way are dropped.
#[doc(alias = "Shadow")]
pub struct MirrorLayer<M, T = Tee> {
    shadow: Arc<M>,
    tap: T,
    owner: Arc<Owner>,
}

impl<M> MirrorLayer<M> {
    /// Sends copies to `shadow`, by `policy`. A [`Live`] policy can be changed from outside.
    #[must_use]
    pub fn new(policy: impl Into<Live<MirrorPolicy>>, shadow: M) -> Self {
        let setup = Setup {
            name: Arc::from("mirror"),
            events: Events::none(),
        };
        Self {
            shadow: Arc::new(shadow),
            tap: Tee,
            owner: Owner::new(policy.into(), setup),
        }
    }

    /// Clones requests in place of copying their bodies while they are read: for a protocol of your own, whose request
    /// is `Clone` and a [`Carrier`](tower_chassis_core::Carrier), and for HTTP bodies that are cheap to clone. A copy is
    /// what [`Carrier::detach`](tower_chassis_core::Carrier::detach) leaves of the clone.
    #[must_use]
    pub fn clone_request(self) -> MirrorLayer<M, Cloned> {
        self.tap(Cloned)
    }
}

impl<M, T> MirrorLayer<M, T> {
    /// Copies requests as `tap` does, in place of [`Tee`].
    #[must_use]
    pub fn tap<U>(self, tap: U) -> MirrorLayer<M, U> {
        MirrorLayer {
            shadow: self.shadow,
            tap,
            owner: self.owner,
        }
    }

    /// Names it: mirrors of different names choose different calls. Default `mirror`. For the set-up: counters begin
    /// anew.
    #[must_use]
    pub fn named(self, name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        self.set_up(|setup| setup.name = name)
    }

    /// Reports what becomes of each copy. Default: to nobody. For the set-up: counters begin anew.
    #[must_use]
    pub fn events(self, events: Events) -> Self {
        self.set_up(|setup| setup.events = events)
    }

    /// The same settings and shadow with counters and a bound of its own.
    #[must_use]
    pub fn fresh(&self) -> Self
    where
        T: Clone,
    {
        Self {
            shadow: Arc::clone(&self.shadow),
            tap: self.tap.clone(),
            owner: self.owner.fresh(|_| ()),
        }
    }

    /// Reads, pauses and changes the layer while it runs.
    #[must_use]
    pub fn handle(&self) -> MirrorHandle {
        MirrorHandle(Arc::clone(&self.owner))
    }

    fn set_up(self, change: impl FnOnce(&mut Setup)) -> Self {
        Self {
            owner: self.owner.fresh(change),
            shadow: self.shadow,
            tap: self.tap,
        }
    }
}

impl<M, T: Clone> Clone for MirrorLayer<M, T> {
    fn clone(&self) -> Self {
        Self {
            shadow: Arc::clone(&self.shadow),
            tap: self.tap.clone(),
            owner: Arc::clone(&self.owner),
        }
    }
}

impl<M, T> fmt::Debug for MirrorLayer<M, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MirrorLayer")
            .field("name", &self.owner.core.setup.name)
            .field("policy", &self.owner.core.live)
            .finish_non_exhaustive()
    }
}

impl<S, M, T: Clone> Layer<S> for MirrorLayer<M, T> {
    type Service = Mirror<S, M, T>;

    fn layer(&self, inner: S) -> Self::Service {
        let (shadow, owner) = (Arc::clone(&self.shadow), Arc::clone(&self.owner));
        Mirror::new(inner, shadow, self.tap.clone(), owner)
    }
}
