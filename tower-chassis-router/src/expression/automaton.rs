//! An expression as an automaton that is stepped octet by octet, in either direction.
//!
//! An engine answers whether a value matches. Beside another parameter more has to be known: *all* places at
//! which a value could end or start, in one pass over the segment.

use regex_automata::{
    nfa::thompson::{Compiler, Config, NFA, State, Transition, WhichCaptures},
    util::{look::Look, primitives::StateID},
};
use regex_syntax::hir::LookSet;

use super::parse;

/// Why an expression cannot stand beside another parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It looks at what is around it.
    Boundary,
    /// It is too large.
    Large,
}

/// Both directions of an expression.
#[derive(Debug)]
pub(crate) struct Automaton {
    pub(crate) forward: Direction,
    pub(crate) backward: Direction,
}

impl Automaton {
    /// Compiles what [`Expression::new`](super::Expression::new) took.
    pub(crate) fn new(text: &str, size_limit: usize) -> Result<Self, Unfit> {
        let hir = parse(text, false)
            .or_else(|| parse(text, true))
            .ok_or(Unfit::Large)?;
        let anchors = LookSet::empty()
            .insert(regex_syntax::hir::Look::Start)
            .insert(regex_syntax::hir::Look::End);
        if !hir.properties().look_set().subtract(anchors).is_empty() {
            return Err(Unfit::Boundary);
        }
        let compile = |reverse| {
            let config = Config::new()
                .reverse(reverse)
                .utf8(false)
                .which_captures(WhichCaptures::None)
                .nfa_size_limit(Some(size_limit));
            Compiler::new()
                .configure(config)
                .build_from_hir(&hir)
                .map(|nfa| Direction::new(&nfa))
                .map_err(|_| Unfit::Large)
        };
        Ok(Self {
            forward: compile(false)?,
            backward: compile(true)?,
        })
    }
}

/// The states that eat an octet; what follows one of these is the closure behind it.
#[derive(Debug)]
pub(crate) struct Direction {
    states: Vec<Vec<(u8, u8, u32)>>,
    closures: Vec<Closure>,
    /// At the edge where the value starts, seen in this direction.
    start: Closure,
}

#[derive(Debug, Default)]
struct Closure {
    states: Vec<u32>,
    accepts: bool,
}

impl Direction {
    fn new(nfa: &NFA) -> Self {
        // Numbers for the states that eat, and for those that can stand behind one.
        let mut number = vec![0; nfa.states().len()];
        let mut count = 0;
        for (slot, state) in number.iter_mut().zip(nfa.states()) {
            if !state.is_epsilon() {
                *slot = count;
                count += 1;
            }
        }
        let mut known = vec![None; nfa.states().len()];
        let mut closures = Vec::new();
        let mut behind = |target: StateID| {
            let slot = known.get_mut(target.as_usize())?;
            Some(*slot.get_or_insert_with(|| {
                closures.push(closure(nfa, target, false, &number));
                u32::try_from(closures.len() - 1).unwrap_or(u32::MAX)
            }))
        };
        let states = nfa.states().iter().filter(|state| !state.is_epsilon());
        let states = states
            .map(|state| {
                let ranges = match state {
                    State::ByteRange { trans } => vec![*trans],
                    State::Sparse(sparse) => sparse.transitions.to_vec(),
                    State::Dense(dense) => (0..=u8::MAX)
                        .zip(&dense.transitions)
                        .filter(|(_, next)| **next != StateID::ZERO)
                        .map(|(byte, next)| Transition {
                            start: byte,
                            end: byte,
                            next: *next,
                        })
                        .collect(),
                    _ => Vec::new(),
                };
                let to = ranges
                    .iter()
                    .filter_map(|range| Some((range.start, range.end, behind(range.next)?)));
                to.collect()
            })
            .collect();
        Self {
            states,
            closures,
            start: closure(nfa, nfa.start_anchored(), true, &number),
        }
    }

    /// No state at all.
    pub(crate) fn run(&self) -> Run<'_> {
        let words = self.states.len() / 64 + 1;
        let heap = if words > INLINE { words } else { 0 };
        Run {
            direction: self,
            words,
            inline: [[0; INLINE]; 2],
            heap: [vec![0; heap], vec![0; heap]],
            flip: false,
            accepts: false,
        }
    }
}

/// How many words of states need no allocation.
const INLINE: usize = 4;

/// An automaton on its way over a segment.
pub(crate) struct Run<'a> {
    direction: &'a Direction,
    words: usize,
    inline: [[u64; INLINE]; 2],
    heap: [Vec<u64>; 2],
    flip: bool,
    accepts: bool,
}

impl Run<'_> {
    /// A value may start here.
    pub(crate) fn start(&mut self) {
        let direction = self.direction;
        self.enter(&direction.start);
    }

    /// Whether a value that started somewhere is complete here.
    pub(crate) const fn accepts(&self) -> bool {
        self.accepts
    }

    /// Eats an octet; whether any state is left.
    pub(crate) fn step(&mut self, octet: u8) -> bool {
        self.flip = !self.flip;
        self.accepts = false;
        let direction = self.direction;
        self.set(self.flip).fill(0);
        let mut any = false;
        for word in 0..self.words {
            let mut bits = self.set(!self.flip).get(word).copied().unwrap_or_default();
            while bits != 0 {
                let state = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let ranges = direction.states.get(state).map_or(&[][..], Vec::as_slice);
                let taken = ranges
                    .iter()
                    .find(|(first, last, _)| (*first..=*last).contains(&octet));
                if let Some(closure) =
                    taken.and_then(|(_, _, to)| direction.closures.get(*to as usize))
                {
                    any = true;
                    self.enter(closure);
                }
            }
        }
        any
    }

    fn enter(&mut self, closure: &Closure) {
        self.accepts |= closure.accepts;
        let flip = self.flip;
        for state in &closure.states {
            if let Some(word) = self.set(flip).get_mut((state / 64) as usize) {
                *word |= 1 << (state % 64);
            }
        }
    }

    fn set(&mut self, which: bool) -> &mut [u64] {
        let [a, b] = &mut self.inline;
        let [c, d] = &mut self.heap;
        match (which, self.words > INLINE) {
            (false, false) => a.as_mut_slice(),
            (true, false) => b.as_mut_slice(),
            (false, true) => c,
            (true, true) => d,
        }
    }
}

/// What is reached from `from` without eating. Behind an anchor of the other edge nothing is eaten any
/// more, but the value may be complete.
fn closure(nfa: &NFA, from: StateID, at_start: bool, number: &[u32]) -> Closure {
    let mut closure = Closure::default();
    let mut seen = vec![[false; 2]; nfa.states().len()];
    let mut open = vec![(from, false)];
    while let Some((id, at_end)) = open.pop() {
        match seen
            .get_mut(id.as_usize())
            .map(|seen| &mut seen[usize::from(at_end)])
        {
            Some(seen) if !*seen => *seen = true,
            _ => continue,
        }
        match nfa.state(id) {
            State::Union { alternates } => {
                open.extend(alternates.iter().map(|next| (*next, at_end)));
            }
            State::BinaryUnion { alt1, alt2 } => open.extend([(*alt1, at_end), (*alt2, at_end)]),
            State::Capture { next, .. } => open.push((*next, at_end)),
            State::Look { look, next } => match look {
                Look::Start if at_start => open.push((*next, at_end)),
                Look::End => open.push((*next, true)),
                _ => {}
            },
            State::Match { .. } => closure.accepts = true,
            State::Fail => {}
            _ if at_end => {}
            _ => closure.states.extend(number.get(id.as_usize()).copied()),
        }
    }
    closure.states.sort_unstable();
    closure.states.dedup();
    closure
}
