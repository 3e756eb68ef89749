use std::{fmt, sync::Arc};

use tower_chassis_core::{Events, Live, Respond, refusal::Fail, striped::Striped};
use tower_layer::Layer;

use super::{
    NoPriority, Pressure, Priority, Shed, ShedHandle, ShedPolicy,
    priority::{ByFn, Trusted},
    shared::{Setup, Site, State},
    unready::Unready,
};

/// Refuses calls instead of letting them wait, and those that matter least first. See the [module](super) page.
///
/// The state is the layer's: what is layered or cloned twice shares it. Whether an inner service is ready is known of
/// each that is layered by itself. `P` finds the priority of a call, `J` says how callers are told.
#[doc(alias = "LoadShed")]
pub struct ShedLayer<P = NoPriority, J = Fail> {
    state: Arc<State>,
    priority: Arc<P>,
    answer: J,
}

impl ShedLayer {
    /// Refuses calls while the inner service is not ready, and none by their priority. A [`Live`] policy can be changed
    /// from outside.
    pub fn new(policy: impl Into<Live<ShedPolicy>>) -> Self {
        let setup = Setup {
            name: Arc::from("shed"),
            events: Events::none(),
            seed: None,
            watched: Vec::new(),
        };
        Self {
            state: State::new(policy.into(), setup),
            priority: Arc::new(NoPriority),
            answer: Fail,
        }
    }
}

impl<J> ShedLayer<NoPriority, J> {
    /// Refuses calls also by their priority, which `f` says: from the route, the method, who calls. The pressure is
    /// what is [watched](Self::watch), or set at the [handle](Self::handle).
    #[must_use]
    pub fn priority<F, Req>(self, f: F) -> ShedLayer<ByFn<F>, J>
    where
        F: Fn(&Req) -> Priority + Send + Sync + 'static,
    {
        ShedLayer {
            state: self.state,
            priority: Arc::new(ByFn(f)),
            answer: self.answer,
        }
    }
}

impl<P, J> ShedLayer<P, J> {
    /// The caller says the priority in the metadatum [`PRIORITY`](super::PRIORITY) (`x-chassis-priority: high`, or
    /// `high:42` with a level), if `trusted` says that it may; else, and where it says nothing or nonsense, it is what
    /// was set before, [`NORMAL`](Priority::NORMAL) if nothing was. For every request that is a
    /// [`Carrier`](tower_chassis_core::Carrier). To be said after [`priority`](Self::priority).
    ///
    /// Who may say anything says `very-high`: trust a network, a certificate or a signature, and no header field that
    /// everybody can send.
    #[must_use]
    pub fn trusted<T, Req>(self, trusted: T) -> ShedLayer<Trusted<P, T>, J>
    where
        T: Fn(&Req) -> bool + Send + Sync + 'static,
    {
        let otherwise = self.priority;
        ShedLayer {
            state: self.state,
            priority: Arc::new(Trusted { trusted, otherwise }),
            answer: self.answer,
        }
    }

    /// Reads the pressure there, once in an [`interval`](super::ShedConfig::interval) at the most: a closure, or the
    /// handle of a bulkhead or of an adaptive limit further in. Of several, and of what is set at the handle, the
    /// highest counts. For the set-up: begins with a state of its own.
    #[must_use]
    pub fn watch(self, pressure: impl Pressure) -> Self {
        self.set_up(|setup| setup.watched.push(Arc::new(pressure)))
    }

    /// Names it, for events and gauges. Default `shed`. For the set-up: begins with a state of its own.
    #[must_use]
    pub fn named(self, name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        self.set_up(|setup| setup.name = name)
    }

    /// Reports refusals. Default: to nobody. For the set-up: begins with a state of its own.
    #[must_use]
    pub fn events(self, events: Events) -> Self {
        self.set_up(|setup| setup.events = events)
    }

    /// Seeds the levels of users, which default to the same on every instance, and those that are drawn, which then
    /// are the same in each run. For the set-up: begins with a state of its own.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        self.set_up(|setup| setup.seed = Some(seed))
    }

    /// The same settings with a state of its own.
    #[must_use]
    pub fn fresh(&self) -> Self
    where
        J: Clone,
    {
        Self {
            state: self.state.fresh_with(|_| {}),
            priority: Arc::clone(&self.priority),
            answer: self.answer.clone(),
        }
    }

    /// Reads what is refused, sets the pressure, forces the threshold, changes the settings.
    #[must_use]
    pub fn handle(&self) -> ShedHandle {
        ShedHandle(Arc::clone(&self.state))
    }

    fn set_up(self, change: impl FnOnce(&mut Setup)) -> Self {
        Self {
            state: self.state.fresh_with(change),
            priority: self.priority,
            answer: self.answer,
        }
    }
}

impl<P> ShedLayer<P> {
    /// Answers its own refusals by the table at [`Kind`](tower_chassis_core::Kind) instead of failing with them,
    /// and passes errors from inside on: the error type is that of the inner service. To be said last; for HTTP
    /// and gRPC.
    #[must_use]
    pub fn respond(self) -> ShedLayer<P, Respond> {
        ShedLayer {
            state: self.state,
            priority: self.priority,
            answer: Respond::new(self.answer),
        }
    }
}

impl<P, J: Clone> Clone for ShedLayer<P, J> {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
            priority: Arc::clone(&self.priority),
            answer: self.answer.clone(),
        }
    }
}

impl<P, J> fmt::Debug for ShedLayer<P, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShedLayer")
            .field("name", &self.state.setup.name)
            .field("policy", &self.state.live)
            .finish_non_exhaustive()
    }
}

impl<S, P, J: Clone> Layer<S> for ShedLayer<P, J> {
    type Service = Shed<S, P, J>;

    fn layer(&self, inner: S) -> Self::Service {
        let site = Striped::new(Site {
            state: Arc::clone(&self.state),
            priority: Arc::clone(&self.priority),
            unready: Unready::new(),
        });
        Shed::new(inner, site, self.answer.clone())
    }
}
