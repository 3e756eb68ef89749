//! What earlier rounds learned about the nodes of a tree.

use std::collections::{HashMap, HashSet};

use super::super::value::Node;

/// Marks beside a tree. A node is known by its address: the tree is borrowed while the marks live.
#[derive(Debug, Default)]
pub(super) struct Marks {
    left_out: HashSet<usize>,
    stand_ins: HashMap<usize, Vec<StandIn>>,
    meant: HashSet<(usize, String)>,
}

/// A field that nobody wrote, and which of the made-up values it has now.
#[derive(Clone, Copy, Debug)]
pub(super) struct StandIn {
    pub(super) field: &'static str,
    pub(super) attempt: usize,
}

fn id(node: &Node) -> usize {
    std::ptr::from_ref(node).addr()
}

impl Marks {
    pub(super) fn is_left_out(&self, node: &Node) -> bool {
        self.left_out.contains(&id(node))
    }

    /// `false` if it was left out before.
    pub(super) fn leave_out(&mut self, node: &Node) -> bool {
        self.left_out.insert(id(node))
    }

    pub(super) fn stand_ins(&self, node: &Node) -> &[StandIn] {
        self.stand_ins.get(&id(node)).map_or(&[], Vec::as_slice)
    }

    pub(super) fn has_stand_in(&self, node: &Node, field: &str) -> bool {
        self.stand_ins(node)
            .iter()
            .any(|stand_in| stand_in.field == field)
    }

    pub(super) fn stand_in(&mut self, node: &Node, field: &'static str) {
        self.stand_ins
            .entry(id(node))
            .or_default()
            .push(StandIn { field, attempt: 0 });
    }

    /// Takes the next made-up value for a field; `false` if there is none.
    pub(super) fn next_stand_in(&mut self, node: &Node, field: &str) -> bool {
        let all = self
            .stand_ins
            .get_mut(&id(node))
            .map_or(&mut [][..], Vec::as_mut_slice);
        let Some(stand_in) = all.iter_mut().find(|stand_in| stand_in.field == field) else {
            return false;
        };
        stand_in.attempt += 1;
        stand_in.attempt < super::stand_in::ATTEMPTS
    }

    /// An unknown key of this map was meant to be `field`.
    pub(super) fn meant(&mut self, node: &Node, field: &str) {
        self.meant.insert((id(node), field.to_owned()));
    }

    pub(super) fn was_meant(&self, node: &Node, field: &str) -> bool {
        self.meant.contains(&(id(node), field.to_owned()))
    }
}
