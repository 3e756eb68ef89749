//! Expressions that are one class of bytes with a repetition: a table instead of an engine.

use std::fmt;

use regex_syntax::hir::{Class as HirClass, Hir, HirKind, Look};

/// So and so many bytes of a set.
#[derive(Clone)]
pub(super) struct Class {
    set: [u64; 4],
    least: usize,
    most: usize,
}

impl Class {
    /// `hir` as such, if it is one. Anchors at its ends say nothing new.
    pub(super) fn of(hir: &Hir) -> Option<Self> {
        match hir.kind() {
            HirKind::Capture(group) => Self::of(&group.sub),
            HirKind::Repetition(repetition) => Some(Self {
                set: set(&repetition.sub)?,
                least: repetition.min as usize,
                most: repetition.max.map_or(usize::MAX, |most| most as usize),
            }),
            HirKind::Concat(parts) => {
                let anchor =
                    |hir: &Hir, look| matches!(hir.kind(), HirKind::Look(found) if *found == look);
                let mut parts = parts.as_slice();
                if let Some((first, rest)) = parts.split_first()
                    && anchor(first, Look::Start)
                {
                    parts = rest;
                }
                if let Some((last, rest)) = parts.split_last()
                    && anchor(last, Look::End)
                {
                    parts = rest;
                }
                match parts {
                    [part] => Self::of(part),
                    _ => None,
                }
            }
            _ => Some(Self {
                set: set(hir)?,
                least: 1,
                most: 1,
            }),
        }
    }

    #[inline]
    pub(super) fn matches(&self, value: &[u8]) -> bool {
        let has = |byte: &u8| {
            self.set
                .get(usize::from(byte >> 6))
                .is_some_and(|word| word >> (byte & 63) & 1 == 1)
        };
        (self.least..=self.most).contains(&value.len()) && value.iter().all(has)
    }
}

impl fmt::Debug for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{:x?}{{{},{}}}/", self.set, self.least, self.most)
    }
}

fn set(hir: &Hir) -> Option<[u64; 4]> {
    let mut set = [0; 4];
    let mut add = |byte: u8| {
        if let Some(word) = set.get_mut(usize::from(byte >> 6)) {
            *word |= 1 << (byte & 63);
        }
    };
    match hir.kind() {
        HirKind::Capture(group) => return self::set(&group.sub),
        HirKind::Literal(literal) => match *literal.0 {
            [byte] => add(byte),
            _ => return None,
        },
        HirKind::Class(HirClass::Bytes(class)) => {
            for range in class.ranges() {
                (range.start()..=range.end()).for_each(&mut add);
            }
        }
        _ => return None,
    }
    Some(set)
}
