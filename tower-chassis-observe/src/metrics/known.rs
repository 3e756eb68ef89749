//! What is kept by name, up to a bound: whoever makes up names must not be able to make series.

use std::{cmp::Ordering, fmt, sync::Arc};

use arc_swap::ArcSwap;

/// Longer names, in bytes, are not worth to be kept: what a client names may be as long as all of its headers.
pub(crate) const LONGEST: usize = 256;

/// A sorted set that is read without a lock and grows by copy, and one that stands for all others.
pub(crate) struct Known<T> {
    kept: ArcSwap<Vec<Arc<T>>>,
    others: Arc<T>,
}

impl<T> fmt::Debug for Known<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known")
            .field("kept", &self.kept.load().len())
            .finish_non_exhaustive()
    }
}

impl<T> Known<T> {
    pub(crate) fn new(others: T) -> Self {
        Self {
            kept: ArcSwap::default(),
            others: Arc::new(others),
        }
    }

    /// The one for all that have none of their own.
    pub(crate) fn others(&self) -> Arc<T> {
        Arc::clone(&self.others)
    }

    /// The one that `order` finds, or the one for all others if there are `bound`; none if there is room for it.
    pub(crate) fn find(&self, bound: usize, order: impl Fn(&T) -> Ordering) -> Option<Arc<T>> {
        let kept = self.kept.load();
        match kept.binary_search_by(|there| order(there)) {
            Ok(at) => Some(Arc::clone(&kept[at])),
            Err(_) => (kept.len() >= bound).then(|| self.others()),
        }
    }

    /// The one that `order` finds, made now if there are fewer than `bound`; else the one for all others.
    pub(crate) fn get(
        &self,
        bound: usize,
        order: impl Fn(&T) -> Ordering,
        make: impl FnOnce() -> T,
    ) -> Arc<T> {
        if let Some(there) = self.find(bound, &order) {
            return there;
        }
        let find = |kept: &[Arc<T>]| kept.binary_search_by(|there| order(there));
        let new = Arc::new(make());
        let mut mine = Arc::clone(&new);
        self.kept.rcu(|old| match find(old) {
            Ok(at) => {
                // Another call was faster.
                mine = Arc::clone(&old[at]);
                Arc::clone(old)
            }
            Err(_) if old.len() >= bound => {
                mine = Arc::clone(&self.others);
                Arc::clone(old)
            }
            Err(at) => {
                mine = Arc::clone(&new);
                let mut kept = Vec::clone(old);
                kept.insert(at, Arc::clone(&new));
                Arc::new(kept)
            }
        });
        mine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_again_and_too_many_are_one() {
        let known = Known::new("_OTHER".to_owned());
        let get =
            |bound, name: &str| known.get(bound, |there| (**there).cmp(name), || name.to_owned());
        let b = get(2, "b");
        for name in ["a", "c", "d", "c"] {
            get(2, name);
        }
        assert_eq!((&**get(2, "a"), &**get(2, "c")), ("a", "_OTHER"));
        assert!(Arc::ptr_eq(&b, &get(0, "b")), "what is known stays");
        assert_eq!(&**get(3, "c"), "c", "and a larger bound makes room");
    }
}
