use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::{Discover, Known, Snapshot};

/// Names that somebody may ask for although no source named them.
const GUESSES: usize = 10_000;

/// What sources share: the last snapshot of each name, and who watches it. Clones are the same board.
///
/// Memory is bounded whatever names are asked for: one that has no endpoint and that nobody watches any more is
/// forgotten in time, and of names that are only watched there are 10,000 at most. Who asks for one more sees an
/// unknown service that never changes.
#[derive(Clone)]
pub struct Board(Arc<Inner>);

struct Inner {
    names: Mutex<Names>,
    /// What a name holds that nobody has set.
    unset: Snapshot,
    /// How many names were asked for first.
    asked: watch::Sender<u64>,
}

#[derive(Default)]
struct Names {
    by_name: HashMap<Arc<str>, watch::Sender<Snapshot>>,
    /// How many there may be before those that nobody needs are looked for.
    sweep_at: usize,
}

impl Names {
    fn sweep(&mut self) {
        self.by_name
            .retain(|_, sender| is_set(&sender.borrow()) || sender.receiver_count() > 0);
        // Twice what is left, so that a sweep costs each name a constant.
        self.sweep_at = usize::max(2 * self.by_name.len(), 64);
    }

    fn guesses(&self) -> usize {
        let unset = |sender: &&watch::Sender<Snapshot>| !is_set(&sender.borrow());
        self.by_name.values().filter(unset).count()
    }
}

fn is_set(snapshot: &Snapshot) -> bool {
    !snapshot.is_empty() || snapshot.known() == Known::Sure
}

impl Board {
    /// An empty board, on which a name holds `unset` until it is set.
    #[must_use]
    pub fn new(unset: Snapshot) -> Self {
        Self(Arc::new(Inner {
            names: Mutex::default(),
            unset,
            asked: watch::Sender::new(0),
        }))
    }

    /// Watches a name.
    #[must_use]
    pub fn watch(&self, name: &str) -> watch::Receiver<Snapshot> {
        let mut names = self.names();
        if let Some(sender) = names.by_name.get(name) {
            return sender.subscribe();
        }
        if names.by_name.len() >= names.sweep_at {
            names.sweep();
        }
        // Counted only where there are so many in all.
        if names.by_name.len() >= GUESSES && names.guesses() >= GUESSES {
            return watch::channel(Snapshot::unknown()).1;
        }
        let (sender, receiver) = watch::channel(self.0.unset.clone());
        names.by_name.insert(name.into(), sender);
        drop(names);
        self.0.asked.send_modify(|asked| *asked += 1);
        receiver
    }

    /// Puts a snapshot in force. Watchers hear of it only if something changed.
    pub fn set(&self, name: &str, snapshot: Snapshot) {
        let replaced;
        let mut names = self.names();
        match names.by_name.get(name) {
            // The old one is dropped without the lock.
            Some(sender) if *sender.borrow() == snapshot => replaced = snapshot,
            Some(sender) => replaced = sender.send_replace(snapshot),
            None => {
                let sender = watch::Sender::new(snapshot);
                names.by_name.insert(name.into(), sender);
                return;
            }
        }
        drop(names);
        drop(replaced);
    }

    /// Forgets a name. Its watchers keep the last value and hear of no other.
    pub fn remove(&self, name: &str) {
        let gone = self.names().by_name.remove(name);
        drop(gone);
    }

    /// The names that are watched now.
    #[must_use]
    pub fn watched(&self) -> Vec<Arc<str>> {
        let names = self.names();
        let watched = names
            .by_name
            .iter()
            .filter(|(_, sender)| sender.receiver_count() > 0);
        watched.map(|(name, _)| Arc::clone(name)).collect()
    }

    /// All names, watched or not.
    pub(super) fn entries(&self) -> Vec<Arc<str>> {
        self.names().by_name.keys().cloned().collect()
    }

    /// Forgets the names that nobody watches, also those that have endpoints: for sources that can ask again.
    pub fn forget_unwatched(&self) {
        let watched = |sender: &watch::Sender<Snapshot>| sender.receiver_count() > 0;
        self.names().by_name.retain(|_, sender| watched(sender));
    }

    /// Changes when a name was asked for that was not there. Closed when the last clone of the board is gone.
    #[must_use]
    pub fn asked(&self) -> watch::Receiver<u64> {
        self.0.asked.subscribe()
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.0.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Discover for Board {
    fn watch(&self, service: &str) -> watch::Receiver<Snapshot> {
        Self::watch(self, service)
    }
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names();
        f.debug_set().entries(names.by_name.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Endpoint;

    #[test]
    fn hostile_names_take_no_memory() {
        let board = Board::new(Snapshot::asking());
        let endpoint = Endpoint::new("http://127.0.0.1:1").unwrap();
        board.set("shop", Snapshot::seen([endpoint]));
        for name in 0..100_000 {
            drop(board.watch(&name.to_string()));
        }
        assert!(board.names().by_name.len() <= 128);
        assert_eq!(board.watch("shop").borrow().len(), 1);

        let kept: Vec<_> = (0..GUESSES + 10)
            .map(|name| board.watch(&name.to_string()))
            .collect();
        assert_eq!(board.watched().len(), GUESSES);
        let (first, last) = (&kept[0], kept.last().unwrap());
        assert_eq!(first.borrow().known(), Known::Asking);
        assert_eq!(last.borrow().known(), Known::Unknown);
        assert!(last.has_changed().is_err(), "it never changes");
        board.set("another", Snapshot::sure([]));
        assert_eq!(board.watch("another").borrow().known(), Known::Sure);
        drop(kept);
        board.forget_unwatched();
        assert_eq!(board.names().by_name.len(), 0);
    }

    #[test]
    fn a_source_hears_of_names_that_are_asked_for_first() {
        let board = Board::new(Snapshot::asking());
        let mut asked = board.asked();
        let first = board.watch("shop");
        assert!(asked.has_changed().unwrap());
        asked.borrow_and_update();
        let second = board.watch("shop");
        assert!(!asked.has_changed().unwrap());
        assert_eq!(board.watched(), [Arc::from("shop")]);
        drop((first, second));
        assert!(board.watched().is_empty());
        drop(board);
        assert!(asked.has_changed().is_err());
    }
}
