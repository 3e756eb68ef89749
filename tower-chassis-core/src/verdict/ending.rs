use std::{
    fmt,
    mem::{Discriminant, discriminant},
    sync::{Arc, OnceLock},
};

use super::{ClassifyEnd, End, Verdict, default_end};

/// Judges the end of one body, once, for all layers that watch it. Put into the response's extensions by
/// [`JudgeLayer`](crate::JudgeLayer).
#[derive(Clone)]
pub struct Ending(Arc<dyn Rule>);

trait Rule: Send + Sync {
    fn end(&self, end: End<'_>) -> Verdict;
}

struct Once<C> {
    classify: C,
    head: Verdict,
    said: OnceLock<(Discriminant<End<'static>>, Verdict)>,
}

impl Ending {
    /// The rule of `classify` for a call whose head it judged `head`.
    pub fn new<C: ClassifyEnd + Send + Sync + 'static>(classify: C, head: Verdict) -> Self {
        Self(Arc::new(Once {
            classify,
            head,
            said: OnceLock::new(),
        }))
    }

    /// The verdict on the call. The classifier is asked by the first layer that sees an end; a layer that sees
    /// another one, because the body broke or was dropped further out, goes on from there.
    #[must_use]
    pub fn end(&self, end: End<'_>) -> Verdict {
        self.0.end(end)
    }
}

impl<C: ClassifyEnd + Send + Sync> Rule for Once<C> {
    fn end(&self, end: End<'_>) -> Verdict {
        let seen = kind(&end);
        let mut last = Some(end);
        let (kind, verdict) = *self.said.get_or_init(|| {
            let verdict = last
                .take()
                .map_or(self.head, |end| self.classify.end(self.head, end));
            (seen, verdict)
        });
        match last {
            // Said of the same end before.
            Some(end) if kind != seen => default_end(verdict, &end),
            _ => verdict,
        }
    }
}

fn kind(end: &End<'_>) -> Discriminant<End<'static>> {
    discriminant(&match end {
        // What is in the trailers is not part of the kind.
        End::Trailers(_) | End::Clean => End::Clean,
        End::Broken(_) => End::Broken(Verdict::FAILURE),
        End::Unread => End::Unread,
        End::Dropped => End::Dropped,
        End::Panicked => End::Panicked,
    })
}

impl fmt::Debug for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ending").finish_non_exhaustive()
    }
}
