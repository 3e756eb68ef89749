//! Values that are read and not reported: what is in flight costs nothing until somebody asks.

use std::{
    any::Any,
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

/// A label beside the name, and its value.
pub(super) type Extra = (&'static str, &'static str);

/// What can be read.
#[derive(Default)]
pub(super) struct Gauges(Mutex<Vec<Arc<Gauge>>>);

struct Gauge {
    metric: &'static str,
    name: Arc<str>,
    label: Option<Extra>,
    owner: Weak<dyn Any + Send + Sync>,
    /// `None` once its owner is gone.
    read: Box<dyn Fn() -> Option<f64> + Send + Sync>,
    /// Somebody knows a value of it.
    known: AtomicBool,
}

impl Gauge {
    fn is_over(&self) -> bool {
        self.owner.strong_count() == 0 && !self.known.load(Relaxed)
    }
}

impl Gauges {
    pub(super) fn add<T: Send + Sync + 'static>(
        &self,
        metric: &'static str,
        name: Arc<str>,
        label: Option<Extra>,
        owner: &Arc<T>,
        read: impl Fn(&T) -> f64 + Send + Sync + 'static,
    ) {
        let weak = Arc::downgrade(owner);
        let owner: Weak<dyn Any + Send + Sync> = Weak::<T>::clone(&weak);
        let gauge = Arc::new(Gauge {
            metric,
            name,
            label,
            owner,
            read: Box::new(move || weak.upgrade().map(|owner| read(&owner))),
            known: AtomicBool::new(false),
        });
        let mut all = self.lock();
        if all.len() == all.capacity() {
            all.retain(|gauge| !gauge.is_over());
        }
        all.push(gauge);
    }

    /// Each name once, with the sum of those that have it; those with a label, or those without.
    pub(super) fn read(
        &self,
        labelled: bool,
        mut each: impl FnMut(&'static str, &Arc<str>, Option<Extra>, f64),
    ) {
        // Not under the lock: what reads is not ours.
        let all = self.lock().clone();
        let mut sums = BTreeMap::new();
        for gauge in all.iter().filter(|gauge| gauge.label.is_some() == labelled) {
            let value = (gauge.read)();
            // What was known and is gone is 0 once, that it may be forgotten.
            if gauge.known.swap(value.is_some(), Relaxed) || value.is_some() {
                let key = (gauge.metric, &gauge.name, gauge.label);
                *sums.entry(key).or_insert(0.0) += value.unwrap_or(0.0);
            }
        }
        self.lock().retain(|gauge| !gauge.is_over());
        for ((metric, name, label), value) in sums {
            each(metric, name, label, value);
        }
    }

    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Gauge>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
