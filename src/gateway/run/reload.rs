//! The file changes.

use std::sync::Arc;

use tower_chassis_core::config::{FileWatch, LoadError, Loader};

use crate::gateway::{
    Gateway,
    model::Model,
    observe::{Telemetry, needs_restart},
};

/// What a change of the file reaches.
pub(super) struct Reload {
    pub(super) watch: FileWatch,
    pub(super) loader: Loader,
    pub(super) gateway: Gateway,
    pub(super) telemetry: Arc<Telemetry>,
    /// What the program started with.
    pub(super) model: Model,
}

/// Applies every change of the file. A fault is told, and the old configuration stays.
pub(super) async fn reload(mut this: Reload) {
    loop {
        this.watch.changed().await;
        // Reading files and compiling expressions is no work for a runtime thread.
        let applied = tokio::task::spawn_blocking({
            let (loader, gateway) = (this.loader.clone(), this.gateway.clone());
            let runtime = tokio::runtime::Handle::current();
            move || {
                let _entered = runtime.enter();
                let tree = loader.load().inspect_err(|error| {
                    if let LoadError::Faults(faults) = error {
                        gateway.refuse(faults);
                    }
                })?;
                gateway.apply_whole(&tree).map_err(LoadError::Faults)
            }
        })
        .await;
        match applied {
            Ok(Ok((model, plan))) => {
                this.telemetry.apply(&plan);
                for section in needs_restart(&this.model, &model) {
                    tracing::warn!(section, "has changed, which needs a restart");
                }
            }
            Ok(Err(error)) => tracing::error!("configuration refused, the old one stays:\n{error}"),
            Err(error) => tracing::error!(%error, "configuration refused, the old one stays"),
        }
    }
}
