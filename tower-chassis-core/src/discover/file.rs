use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Context, Poll},
};

use serde::Deserialize;
use tokio::sync::watch;

use super::{Board, Discover, Snapshot};
use crate::{
    Endpoint,
    boxed::BoxFuture,
    config::{DEBOUNCE, FileWatch, LoadError, Loader, watch_file},
};

/// Endpoints that a file names. The file is watched, and the last good one holds.
///
/// ```yaml
/// shop:
///   - address: http://10.0.0.1:80
///   - address: http://10.0.0.2:80
///     id: shop-2              # default: the address
///     weight: 2               # default: 1
///     tags: { version: v2 }
/// ```
///
/// YAML, or TOML by the file's ending. A change is taken whole within a second, or refused whole: a file with
/// any fault changes nothing, and every fault is logged with its place. A service that is named no more has
/// no endpoints; a file that is gone is a fault.
#[derive(Clone)]
pub struct FileDiscover(Arc<Source>);

struct Source {
    path: PathBuf,
    services: Board,
    named: Mutex<BTreeSet<String>>,
    /// Closed when the last clone is gone.
    alive: watch::Sender<()>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    address: String,
    #[serde(default)]
    id: Option<String>,
    #[serde(default = "one")]
    weight: u32,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

const fn one() -> u32 {
    1
}

impl FileDiscover {
    /// Reads the file. The worker applies its changes; spawn it. It ends when the last clone of the source is
    /// dropped.
    ///
    /// # Errors
    /// The file cannot be read, or all of its faults.
    pub fn open(path: impl Into<PathBuf>) -> Result<(Self, Worker), LoadError> {
        let path = path.into();
        // Watched before it is read, so that no change falls between.
        let watch = watch_file(&path, DEBOUNCE);
        let source = Arc::new(Source {
            path,
            services: Board::new(Snapshot::unknown()),
            named: Mutex::default(),
            alive: watch::Sender::new(()),
        });
        source.read()?;
        let worker = Worker(Box::pin(work(
            Arc::downgrade(&source),
            source.alive.subscribe(),
            watch.ok(),
        )));
        Ok((Self(source), worker))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

impl fmt::Debug for FileDiscover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileDiscover")
            .field("path", &self.0.path)
            .field("services", &self.0.services)
            .finish()
    }
}

impl Discover for FileDiscover {
    fn watch(&self, service: &str) -> watch::Receiver<Snapshot> {
        self.0.services.watch(service)
    }
}

impl Source {
    fn read(&self) -> Result<(), LoadError> {
        let (tree, services) = Loader::new()
            .file(&self.path)
            .load_as::<BTreeMap<String, Vec<Entry>>>()?;
        let mut check = tree.check();
        let mut read = BTreeMap::new();
        for (name, entries) in services {
            let mut endpoints = Vec::with_capacity(entries.len());
            for (index, entry) in entries.into_iter().enumerate() {
                match Endpoint::new(&entry.address) {
                    Ok(endpoint) => {
                        let endpoint = entry.id.into_iter().fold(endpoint, Endpoint::with_id);
                        endpoints.push(endpoint.with_weight(entry.weight).with_tags(entry.tags));
                    }
                    Err(invalid) => {
                        check.fault(
                            &format!("{name:?}[{index}].{}", invalid.field()),
                            invalid.why(),
                        );
                    }
                }
            }
            read.insert(name, endpoints);
        }
        check.finish().map_err(LoadError::Faults)?;
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in named.iter().filter(|name| !read.contains_key(*name)) {
            self.services.set(gone, Snapshot::unknown());
        }
        *named = read.keys().cloned().collect();
        for (name, endpoints) in read {
            self.services.set(&name, Snapshot::sure(endpoints));
        }
        Ok(())
    }
}

async fn work(source: Weak<Source>, mut alive: watch::Receiver<()>, watch: Option<FileWatch>) {
    let Some(mut watch) = watch else {
        tracing::error!(target: "tower_chassis::discover", "the file cannot be watched; its changes are not seen");
        return;
    };
    loop {
        tokio::select! {
            () = watch.changed() => {}
            _ = alive.changed() => return,
        }
        let Some(source) = source.upgrade() else {
            return;
        };
        if let Err(error) = source.read() {
            let path = source.path.display();
            tracing::error!(target: "tower_chassis::discover", %path, "refused, the old endpoints stay:\n{error}");
        }
    }
}

/// Applies the changes of a file. A future to be spawned.
#[must_use = "changes of the file are seen only while the worker runs"]
pub struct Worker(BoxFuture<'static, ()>);

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

impl Future for Worker {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_change_is_taken_whole_and_a_fault_changes_nothing() {
        let dir = std::env::temp_dir().join(format!("chassis-discover-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("endpoints.yaml");
        std::fs::write(
            &path,
            "shop:\n  - { address: 'http://127.0.0.1:1', weight: 2, tags: { v: v1 } }\n",
        )
        .unwrap();
        let (source, worker) = FileDiscover::open(&path).unwrap();
        let worker = tokio::spawn(worker);
        let mut shop = source.watch("shop");
        assert_eq!(shop.borrow_and_update()[0].weight(), 2);

        std::fs::write(&path, "shop:\n  - { address: 'nowhere' }\ncart: []\n").unwrap();
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert!(
            !shop.has_changed().unwrap(),
            "a faulty file changes nothing"
        );

        std::fs::write(&path, "cart:\n  - { address: 'http://127.0.0.1:2' }\n").unwrap();
        tokio::time::timeout(Duration::from_secs(10), shop.changed())
            .await
            .unwrap()
            .unwrap();
        assert!(
            shop.borrow().is_empty(),
            "a service that is named no more has no endpoints"
        );
        assert_eq!(source.watch("cart").borrow().len(), 1);

        drop((source, shop));
        tokio::time::timeout(Duration::from_secs(10), worker)
            .await
            .unwrap()
            .unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn the_faults_of_a_file_have_their_places() {
        let path = std::env::temp_dir().join(format!("chassis-faulty-{}.yaml", std::process::id()));
        std::fs::write(
            &path,
            "shop:\n  - { address: x }\n  - { address: 'http://a', wight: 1 }\n",
        )
        .unwrap();
        let error = FileDiscover::open(&path).unwrap_err().to_string();
        assert!(
            error.contains(":3:") && error.contains("did you mean \"weight\""),
            "{error}"
        );
        std::fs::write(&path, "shop:\n  - { address: x }\n").unwrap();
        let error = FileDiscover::open(&path).unwrap_err().to_string();
        assert!(
            error.contains(":2:") && error.contains("scheme://host:port"),
            "{error}"
        );
        std::fs::remove_file(&path).unwrap();
    }
}
