//! How large a text may become.

/// How deep lists and maps may be nested. Everything that walks a tree may recurse because of it.
pub(super) const MAX_DEPTH: usize = 64;

/// How many values a text may hold, aliases written out.
const MAX_NODES: usize = 100_000;

/// Counts against alias bombs and against what would exhaust a stack.
#[derive(Debug, Default)]
pub(super) struct Budget {
    nodes: usize,
}

impl Budget {
    /// Takes `nodes` more.
    pub(super) fn spend(&mut self, nodes: usize) -> Result<(), String> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return Err(format!(
                "more than {MAX_NODES} values, aliases counted where they are used"
            ));
        }
        Ok(())
    }

    /// Checks a depth, the root being 1.
    pub(super) fn depth(&self, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH}"));
        }
        Ok(())
    }
}
