use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use serde::Deserialize;
use tokio::sync::watch;

use super::{Board, Discover, Snapshot, Worker};
use crate::{
    Endpoint,
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
///     priority: 1             # default: 0, which is asked first
///     zone: b
///     region: north
///     hash_key: two           # its text in hash rings and tables; default: the id
///     tags: { version: v2 }
/// ```
///
/// YAML, of which JSON is a part, or TOML by the file's ending. A change is taken whole within a second, or refused whole: a file with
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
    priority: u32,
    #[serde(default)]
    zone: Option<String>,
    #[serde(default)]
    region: Option<String>,
    #[serde(default)]
    hash_key: Option<String>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

impl Entry {
    fn of(self, endpoint: Endpoint) -> Endpoint {
        let endpoint = endpoint
            .with_weight(self.weight)
            .with_priority(self.priority)
            .with_tags(self.tags);
        let endpoint = self.id.into_iter().fold(endpoint, Endpoint::with_id);
        let endpoint = self.zone.into_iter().fold(endpoint, Endpoint::with_zone);
        let endpoint = self
            .region
            .into_iter()
            .fold(endpoint, Endpoint::with_region);
        let hash_key = self.hash_key.into_iter();
        hash_key.fold(endpoint, Endpoint::with_hash_key)
    }
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
        let worker = Worker::new(work(
            Arc::downgrade(&source),
            source.alive.subscribe(),
            watch.ok(),
        ));
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
                    Ok(endpoint) => endpoints.push(entry.of(endpoint)),
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

    #[test]
    fn json_and_toml_say_the_same_as_yaml() {
        let all = Endpoint::new("http://10.0.0.2:80").unwrap();
        let all = all.with_id("b").with_weight(2).with_priority(1);
        let all = all.with_zone("z").with_region("r").with_hash_key("k");
        let all = all.with_tags([("v", "v2")]);
        let plain = Endpoint::new("http://10.0.0.1:80").unwrap();
        let want = Snapshot::sure([plain, all]);
        for (ending, text) in [
            (
                "yaml",
                "shop:\n- address: http://10.0.0.1:80\n- { address: 'http://10.0.0.2:80', id: b, weight: 2, priority: 1, zone: z, region: r, hash_key: k, tags: { v: v2 } }\n",
            ),
            (
                "json",
                r#"{"shop":[{"address":"http://10.0.0.1:80"},{"address":"http://10.0.0.2:80","id":"b","weight":2,"priority":1,"zone":"z","region":"r","hash_key":"k","tags":{"v":"v2"}}]}"#,
            ),
            (
                "toml",
                "[[shop]]\naddress = 'http://10.0.0.1:80'\n[[shop]]\naddress = 'http://10.0.0.2:80'\nid = 'b'\nweight = 2\npriority = 1\nzone = 'z'\nregion = 'r'\nhash_key = 'k'\ntags = { v = 'v2' }\n",
            ),
        ] {
            let name = format!("chassis-endpoints-{}.{ending}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, text).unwrap();
            let (source, _worker) = FileDiscover::open(&path).unwrap();
            assert_eq!(*source.watch("shop").borrow(), want, "{ending}");
            std::fs::write(&path, text.replace("zone", "zoen")).unwrap();
            let error = FileDiscover::open(&path).unwrap_err().to_string();
            assert!(error.contains("did you mean \"zone\""), "{ending}: {error}");
            std::fs::remove_file(&path).unwrap();
        }
    }
}
