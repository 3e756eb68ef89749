use std::{
    collections::HashSet,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
};

use tokio::sync::watch;

use super::{
    Board, Discover, Known, Snapshot,
    worker::{Worker, feed_names},
};

type Sources = Vec<Arc<dyn Discover>>;

/// The first source that has endpoints of a service answers for it.
///
/// The order is that of preference: as soon as an earlier source has any endpoint, it answers again. Where none has,
/// an answer that is missing or may be trouble of its source outweighs "no such service".
#[derive(Clone)]
pub struct Failover(Arc<Composite>);

/// What all sources together have of a service: of two endpoints with one id that of the earlier source.
///
/// Where none has any, an answer that is missing or may be trouble of its source outweighs "no such service".
#[derive(Clone)]
pub struct Merge(Arc<Composite>);

struct Composite {
    board: Board,
    /// Closed when the last clone is gone.
    _alive: watch::Sender<()>,
}

impl Failover {
    /// Spawn the worker; it ends when the last clone of the source is dropped.
    pub fn new(sources: impl IntoIterator<Item = Arc<dyn Discover>>) -> (Self, Worker) {
        let (composite, worker) = composite(sources, failover);
        (Self(composite), worker)
    }
}

impl Merge {
    /// Spawn the worker; it ends when the last clone of the source is dropped.
    pub fn new(sources: impl IntoIterator<Item = Arc<dyn Discover>>) -> (Self, Worker) {
        let (composite, worker) = composite(sources, merge);
        (Self(composite), worker)
    }
}

impl Discover for Failover {
    fn watch(&self, service: &str) -> watch::Receiver<Snapshot> {
        self.0.board.watch(service)
    }
}

impl Discover for Merge {
    fn watch(&self, service: &str) -> watch::Receiver<Snapshot> {
        self.0.board.watch(service)
    }
}

impl fmt::Debug for Failover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Failover").field(&self.0.board).finish()
    }
}

impl fmt::Debug for Merge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Merge").field(&self.0.board).finish()
    }
}

fn composite(
    sources: impl IntoIterator<Item = Arc<dyn Discover>>,
    join: fn(&[Snapshot]) -> Snapshot,
) -> (Arc<Composite>, Worker) {
    let sources: Arc<Sources> = Arc::new(sources.into_iter().collect());
    let board = Board::new(Snapshot::asking());
    let (alive, ends) = watch::channel(());
    let fed = board.clone();
    let feed = move |name| follow(Arc::clone(&sources), fed.clone(), name, join);
    let worker = Worker::new(feed_names(board.clone(), ends, feed));
    let composite = Composite {
        board,
        _alive: alive,
    };
    (Arc::new(composite), worker)
}

async fn follow(
    sources: Arc<Sources>,
    board: Board,
    name: Arc<str>,
    join: fn(&[Snapshot]) -> Snapshot,
) {
    let mut watches: Vec<_> = sources.iter().map(|source| source.watch(&name)).collect();
    drop(sources);
    loop {
        let seen = watches.iter_mut().map(|w| w.borrow_and_update().clone());
        let seen: Vec<_> = seen.collect();
        board.set(&name, join(&seen));
        if !changed(&mut watches).await {
            return;
        }
    }
}

/// Waits for a change of any; `false` when there will be none. One whose source is gone keeps its last value.
async fn changed(watches: &mut [watch::Receiver<Snapshot>]) -> bool {
    let mut waits: Vec<Option<Pin<Box<dyn Future<Output = bool> + Send + '_>>>> = watches
        .iter_mut()
        .map(|watch| Some(Box::pin(async { watch.changed().await.is_ok() }) as _))
        .collect();
    poll_fn(|cx| {
        for wait in &mut waits {
            match wait.as_mut().map(|wait| wait.as_mut().poll(cx)) {
                Some(Poll::Ready(true)) => return Poll::Ready(true),
                Some(Poll::Ready(false)) => *wait = None,
                _ => {}
            }
        }
        if waits.iter().all(Option::is_none) {
            return Poll::Ready(false);
        }
        Poll::Pending
    })
    .await
}

fn failover(snapshots: &[Snapshot]) -> Snapshot {
    let any = snapshots.iter().find(|snapshot| !snapshot.is_empty());
    any.cloned().unwrap_or_else(|| nothing(snapshots))
}

fn merge(snapshots: &[Snapshot]) -> Snapshot {
    let mut ids = HashSet::new();
    let all = snapshots.iter().flat_map(|snapshot| snapshot.iter());
    let all: Vec<_> = all
        .filter(|endpoint| ids.insert(Arc::clone(endpoint.id())))
        .cloned()
        .collect();
    if all.is_empty() {
        return nothing(snapshots);
    }
    let sure = |snapshot: &Snapshot| snapshot.is_empty() || snapshot.known() == Known::Sure;
    if snapshots.iter().all(sure) {
        Snapshot::sure(all)
    } else {
        Snapshot::seen(all)
    }
}

fn nothing(snapshots: &[Snapshot]) -> Snapshot {
    let any = |known| snapshots.iter().any(|snapshot| snapshot.known() == known);
    if any(Known::Asking) {
        Snapshot::asking()
    } else if any(Known::Seen) {
        Snapshot::seen([])
    } else if any(Known::Sure) {
        Snapshot::sure([])
    } else {
        Snapshot::unknown()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Endpoint, discover::StaticDiscover};

    fn endpoint(port: u16) -> Endpoint {
        Endpoint::new(&format!("http://127.0.0.1:{port}")).unwrap()
    }

    fn ports(snapshot: &Snapshot) -> Vec<&str> {
        let port = |e: &Endpoint| e.id().rsplit_once(':').unwrap().1.len();
        assert!(snapshot.iter().all(|e| port(e) > 0));
        snapshot.iter().map(|e| &e.id()[17..]).collect()
    }

    async fn next(watch: &mut watch::Receiver<Snapshot>) -> Snapshot {
        let changed = tokio::time::timeout(Duration::from_secs(1), watch.changed());
        changed.await.expect("no change").unwrap();
        watch.borrow_and_update().clone()
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_source_that_has_any_answers() {
        let (a, b) = (StaticDiscover::new(), Board::new(Snapshot::asking()));
        b.set("shop", Snapshot::seen([endpoint(2)]));
        let sources: [Arc<dyn Discover>; 2] = [Arc::new(a.clone()), Arc::new(b.clone())];
        let (both, worker) = Failover::new(sources);
        let worker = tokio::spawn(worker);
        let mut shop = both.watch("shop");
        assert_eq!(*shop.borrow_and_update(), Snapshot::asking());
        assert_eq!(next(&mut shop).await, Snapshot::seen([endpoint(2)]));
        a.set("shop", [endpoint(1)]);
        assert_eq!(next(&mut shop).await, Snapshot::sure([endpoint(1)]));
        // What the second says meanwhile does not matter.
        b.set("shop", Snapshot::seen([endpoint(3)]));
        a.set("shop", []);
        assert_eq!(next(&mut shop).await, Snapshot::seen([endpoint(3)]));
        // Both have none, and the second may be wrong.
        b.set("shop", Snapshot::seen([]));
        assert_eq!(next(&mut shop).await, Snapshot::seen([]));
        // A source that is gone keeps its last word.
        drop(b);
        a.set("shop", [endpoint(4)]);
        assert_eq!(next(&mut shop).await, Snapshot::sure([endpoint(4)]));

        drop(both);
        worker.await.unwrap();
        assert_eq!(*shop.borrow(), Snapshot::sure([endpoint(4)]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_merge_has_each_id_once_from_the_earlier_source() {
        let (a, b) = (StaticDiscover::new(), StaticDiscover::new());
        a.set("shop", [endpoint(1), endpoint(2).with_weight(5)]);
        b.set("shop", [endpoint(2), endpoint(3)]);
        let sources: [Arc<dyn Discover>; 2] = [Arc::new(a.clone()), Arc::new(b.clone())];
        let (both, worker) = Merge::new(sources);
        let worker = tokio::spawn(worker);
        let mut shop = both.watch("shop");
        let all = next(&mut shop).await;
        assert_eq!((ports(&all), all[1].weight()), (vec!["1", "2", "3"], 5));
        assert_eq!(all.known(), Known::Sure);
        a.set("shop", []);
        let all = next(&mut shop).await;
        assert_eq!((ports(&all), all[0].weight()), (vec!["2", "3"], 1));
        // Names that nobody watches are let go: the sources have no watcher of theirs left.
        let mut cart = both.watch("cart");
        assert_eq!(next(&mut cart).await, Snapshot::unknown());
        assert_eq!(a.0.watched().len(), 2);
        drop(cart);
        tokio::time::sleep(Duration::from_secs(121)).await;
        assert_eq!(a.0.watched(), [Arc::from("shop")]);
        // And found again.
        let mut cart = both.watch("cart");
        b.set("cart", [endpoint(7)]);
        assert_eq!(ports(&next(&mut cart).await), ["7"]);
        drop((both, shop));
        worker.await.unwrap();
    }

    #[test]
    fn of_nothing_the_doubtful_word_counts() {
        let (asking, unknown) = (Snapshot::asking(), Snapshot::unknown());
        let (seen, sure) = (Snapshot::seen([]), Snapshot::sure([]));
        for join in [failover, merge] {
            assert_eq!(join(&[]), unknown);
            assert_eq!(join(&[unknown.clone(), asking.clone()]), asking);
            assert_eq!(join(&[sure.clone(), seen.clone()]), seen);
            assert_eq!(join(&[unknown.clone(), sure.clone()]), sure);
            assert_eq!(join(std::slice::from_ref(&unknown)), unknown);
        }
    }
}
