//! Settings that change under load.
//!
//! A layer takes `impl Into<Live<Policy>>`: a plain value is fixed, a [`Live`] can be set from outside. A
//! layer does not read it per call: it [binds](Live::bind) its own state, and a change is *pushed*
//! into atomics there.

use std::{
    borrow::Cow,
    error::Error,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;

/// Says whether a value may go live. Policies are valid by construction and keep the default.
pub trait Validate {
    /// # Errors
    /// The first field that is out of its range.
    fn validate(&self) -> Result<(), Invalid> {
        Ok(())
    }
}

/// A setting that is out of its range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invalid {
    field: Cow<'static, str>,
    why: Cow<'static, str>,
}

impl Invalid {
    /// `field` as it is written in a configuration, and what would be right ("must be above 0").
    pub fn new(field: impl Into<Cow<'static, str>>, why: impl Into<Cow<'static, str>>) -> Self {
        Self {
            field: field.into(),
            why: why.into(),
        }
    }

    /// The field, as it is written in a configuration.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.field
    }

    /// What would be right.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.why)
    }
}

impl Error for Invalid {}

/// Applies a value, if there is one; says whether its state still lives.
type Binder<T> = Box<dyn Fn(Option<&T>) -> bool + Send>;

struct Inner<T> {
    current: ArcSwap<T>,
    version: AtomicU64,
    /// One writer at a time: it reads, changes and publishes. The user's code runs under this one, not under the
    /// next, which a layer that is made needs.
    writer: Mutex<()>,
    binders: Mutex<Vec<Binder<T>>>,
}

/// A validated value that can be replaced at any time. Clones share it.
pub struct Live<T>(Arc<Inner<T>>);

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: fmt::Debug> fmt::Debug for Live<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Live").field(&self.load()).finish()
    }
}

impl<T> Live<T> {
    /// The value in force. Some 15 ns: for handles and slow paths.
    #[must_use]
    pub fn load(&self) -> Arc<T> {
        self.0.current.load_full()
    }

    /// How many times it was replaced.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    /// Calls `apply(state, value)` now and after every change, until `state` is dropped.
    ///
    /// Runs under the writer's lock, in the order of versions: `apply` must be short and must not touch
    /// this `Live`.
    pub fn bind<S: Send + Sync + 'static>(&self, state: &Arc<S>, apply: fn(&S, &T))
    where
        T: 'static,
    {
        let mut binders = self
            .0
            .binders
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        apply(state, &self.0.current.load());
        // Endpoints come and go with layers of their own, and perhaps nobody ever sets the value.
        if binders.len().is_power_of_two() {
            binders.retain(|bind| bind(None));
        }
        let state = Arc::downgrade(state);
        binders.push(Box::new(move |value| match (state.upgrade(), value) {
            (Some(state), Some(value)) => {
                apply(&state, value);
                true
            }
            (state, _) => state.is_some(),
        }));
    }
}

impl<T: Validate> Live<T> {
    /// A live value.
    pub fn new(value: T) -> Self {
        Self(Arc::new(Inner {
            current: ArcSwap::from_pointee(value),
            version: AtomicU64::new(0),
            writer: Mutex::new(()),
            binders: Mutex::new(Vec::new()),
        }))
    }

    /// Replaces the value and pushes it to every bound layer before it returns.
    ///
    /// # Errors
    /// The value is invalid; the old one stays.
    pub fn set(&self, value: T) -> Result<(), Invalid> {
        value.validate()?;
        let _writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.publish(value);
        Ok(())
    }

    /// Changes the value in place. Changes of several writers do not get lost.
    ///
    /// # Errors
    /// The changed value is invalid; the old one stays.
    pub fn update(&self, change: impl FnOnce(&mut T)) -> Result<(), Invalid>
    where
        T: Clone,
    {
        let _writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut value = T::clone(&self.0.current.load());
        change(&mut value);
        value.validate()?;
        self.publish(value);
        Ok(())
    }

    fn publish(&self, value: T) {
        let mut binders = self
            .0
            .binders
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let value = Arc::new(value);
        self.0.current.store(Arc::clone(&value));
        self.0.version.fetch_add(1, Ordering::AcqRel);
        binders.retain(|bind| bind(Some(&value)));
    }
}

impl<T: Validate> From<T> for Live<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug)]
    struct Limit(u64);
    impl Validate for Limit {
        fn validate(&self) -> Result<(), Invalid> {
            if self.0 == 0 {
                Err(Invalid::new("limit", "must be above 0"))
            } else {
                Ok(())
            }
        }
    }

    #[test]
    fn a_change_is_pushed_an_invalid_one_is_refused_a_dropped_layer_unbinds() {
        let live = Live::from(Limit(1));
        let (a, b) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        for state in [&a, &b] {
            live.bind(state, |state, limit| {
                state.store(limit.0, Ordering::Relaxed)
            });
        }
        assert_eq!(a.load(Ordering::Relaxed), 1);
        live.set(Limit(7)).unwrap();
        assert_eq!(
            (a.load(Ordering::Relaxed), b.load(Ordering::Relaxed)),
            (7, 7)
        );
        assert_eq!(
            live.set(Limit(0)).unwrap_err().to_string(),
            "limit must be above 0"
        );
        assert!(live.update(|limit| limit.0 = 0).is_err());
        assert_eq!((live.load().0, live.version()), (7, 1));
        drop(a);
        live.update(|limit| limit.0 += 1).unwrap();
        assert_eq!(b.load(Ordering::Relaxed), 8);
        assert_eq!(live.0.binders.lock().unwrap().len(), 1);
    }

    #[test]
    fn states_that_come_and_go_leave_nothing_behind() {
        let live = Live::from(Limit(1));
        let stays = Arc::new(AtomicU64::new(0));
        live.bind(&stays, |state, limit| {
            state.store(limit.0, Ordering::Relaxed)
        });
        for _ in 0..1_000 {
            live.bind(&Arc::new(AtomicU64::new(0)), |state, limit| {
                state.store(limit.0, Ordering::Relaxed)
            });
        }
        assert!(live.0.binders.lock().unwrap().len() <= 2);
        live.set(Limit(3)).unwrap();
        assert_eq!(stays.load(Ordering::Relaxed), 3);
    }
}
