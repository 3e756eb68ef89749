//! What is done when the last server of a drain has ended.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::boxed::BoxFuture;

type Work = (Duration, BoxFuture<'static, ()>);

#[derive(Default)]
pub(super) struct Last(Mutex<State>);

#[derive(Default)]
struct State {
    serving: usize,
    work: Vec<Work>,
}

impl Last {
    pub(super) fn add(&self, within: Duration, work: BoxFuture<'static, ()>) {
        self.lock().work.push((within, work));
    }

    pub(super) fn serves(this: &Arc<Self>) -> Serves {
        this.lock().serving += 1;
        Serves(Some(Arc::clone(this)))
    }

    /// One server less; what is to be done if it was the last.
    fn left(&self, ended: bool) -> Vec<Work> {
        let mut state = self.lock();
        state.serving -= 1;
        if ended && state.serving == 0 {
            std::mem::take(&mut state.work)
        } else {
            Vec::new()
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Last").finish_non_exhaustive()
    }
}

/// A server that follows a drain.
#[must_use]
pub(super) struct Serves(Option<Arc<Last>>);

impl Serves {
    /// It has ended: the last one does what is left to do.
    pub(super) async fn ended(mut self) {
        let Some(last) = self.0.take() else {
            return;
        };
        // As tasks, so that a panic stays there and who leaves here stops nothing.
        let running: Vec<_> = last
            .left(true)
            .into_iter()
            .map(|(within, work)| tokio::spawn(tokio::time::timeout(within, work)))
            .collect();
        for task in running {
            match task.await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => {
                    tracing::warn!(target: "tower_chassis::server", "what was to be done after the drain took too long");
                }
                Err(error) => {
                    tracing::error!(target: "tower_chassis::server", %error, "what was to be done after the drain has failed");
                }
            }
        }
    }
}

impl Drop for Serves {
    fn drop(&mut self) {
        if let Some(last) = self.0.take() {
            last.left(false);
        }
    }
}
