use std::{
    collections::BTreeMap,
    fmt,
    future::ready,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{sync::watch, time::Instant};

use super::{
    Board, Discover, Instance, Register, Snapshot,
    worker::{First, Worker, first},
};
use crate::{
    Endpoint,
    boxed::{BoxError, BoxFuture},
};

/// A registry in this process: for tests, and for services that share one. Clones are the same registry.
///
/// An instance that is not renewed within its life is forgotten. The program chooses what it registers: there is
/// no bound.
#[derive(Clone)]
pub struct MemoryRegistry(Arc<Inner>);

struct Inner {
    board: Board,
    services: Mutex<BTreeMap<Arc<str>, Entries>>,
    /// When the next instance is forgotten; closed when the last clone is gone.
    next: watch::Sender<Option<Instant>>,
}

type Entries = BTreeMap<Arc<str>, (Endpoint, Instant)>;

impl MemoryRegistry {
    /// Spawn the worker, which forgets instances. It ends when the last clone of the registry is dropped.
    pub fn new() -> (Self, Worker) {
        let (next, mut changes) = watch::channel(None);
        let inner = Arc::new(Inner {
            board: Board::new(Snapshot::unknown()),
            services: Mutex::default(),
            next,
        });
        let registry = Arc::downgrade(&inner);
        let worker = Worker::new(async move {
            loop {
                let due = *changes.borrow_and_update();
                let wait = async {
                    match due {
                        Some(due) => tokio::time::sleep_until(due).await,
                        None => std::future::pending().await,
                    }
                };
                match first(changes.changed(), wait).await {
                    First::Left(Ok(())) => {}
                    First::Left(Err(_)) => return,
                    First::Right(()) => match registry.upgrade() {
                        Some(registry) => registry.change(|services, now| {
                            for entries in services.values_mut() {
                                entries.retain(|_, (_, until)| *until > now);
                            }
                        }),
                        None => return,
                    },
                }
            }
        });
        (Self(inner), worker)
    }
}

impl Inner {
    fn change(&self, change: impl FnOnce(&mut BTreeMap<Arc<str>, Entries>, Instant)) {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut services, Instant::now());
        // Under the lock, so that what is published last is what holds.
        for (name, entries) in services.iter() {
            let endpoints = entries.values().map(|(endpoint, _)| endpoint.clone());
            self.board.set(name, Snapshot::seen(endpoints));
        }
        services.retain(|_, entries| !entries.is_empty());
        let all = services.values().flat_map(BTreeMap::values);
        self.next.send_replace(all.map(|(_, until)| *until).min());
    }
}

impl Register for MemoryRegistry {
    fn renew(&self, instance: &Instance) -> BoxFuture<'static, Result<(), BoxError>> {
        self.0.change(|services, now| {
            let entries = services.entry(Arc::clone(&instance.service)).or_default();
            let endpoint = instance.endpoint.clone();
            entries.insert(Arc::clone(endpoint.id()), (endpoint, now + instance.ttl));
        });
        Box::pin(ready(Ok(())))
    }

    fn remove(&self, instance: &Instance) -> BoxFuture<'static, Result<(), BoxError>> {
        self.0.change(|services, _| {
            if let Some(entries) = services.get_mut(&instance.service) {
                entries.remove(instance.endpoint.id());
            }
        });
        Box::pin(ready(Ok(())))
    }
}

impl Discover for MemoryRegistry {
    fn watch(&self, service: &str) -> watch::Receiver<Snapshot> {
        self.0.board.watch(service)
    }
}

impl fmt::Debug for MemoryRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemoryRegistry")
            .field(&self.0.board)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::discover::Registration;

    #[tokio::test(start_paused = true)]
    async fn what_registers_is_found_and_what_is_silent_is_forgotten() {
        let (registry, forgets) = MemoryRegistry::new();
        let forgets = tokio::spawn(forgets);
        let mut shop = registry.watch("shop");
        assert_eq!(*shop.borrow_and_update(), Snapshot::unknown());
        let endpoint = |port| Endpoint::new(&format!("http://127.0.0.1:{port}")).unwrap();
        let (kept, worker) = Registration::begin(
            Arc::new(registry.clone()),
            Instance::new("shop", endpoint(1)),
        );
        let worker = tokio::spawn(worker);
        let silent = Instance::new("shop", endpoint(2)).with_ttl(Duration::from_secs(5));
        registry.renew(&silent).await.unwrap();
        let two = |s: &Snapshot| s.len() == 2;
        tokio::time::timeout(Duration::from_secs(1), shop.wait_for(two))
            .await
            .unwrap()
            .unwrap();
        let began = Instant::now();
        let one = Snapshot::seen([endpoint(1)]);
        shop.wait_for(|s| *s == one).await.unwrap();
        let after = began.elapsed().as_secs_f64();
        assert!((5.0..5.1).contains(&after), "{after}");
        // The other one lives by its renewals.
        shop.borrow_and_update();
        tokio::time::sleep(Duration::from_secs(200)).await;
        assert!(!shop.has_changed().unwrap());
        assert!(kept.remove().await);
        assert_eq!(*shop.borrow(), Snapshot::seen([]));
        worker.await.unwrap();
        drop(registry);
        forgets.await.unwrap();
    }
}
