//! Precedence: the order in which patterns are tried.
//!
//! It is the depth-first order of the trie of their tokens. Comparing patterns pairwise would not do:
//! which of two parameters goes first depends on who registered that parameter *at that place* first.

use std::collections::HashMap;

use crate::pattern::{Pattern, Token};

/// The place of a pattern in the order; a pattern that ends goes before those that continue it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank(Vec<(Class, u32)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Static,
    ExpressionWithTail,
    Expression,
    ParamWithTail,
    Param,
    CatchAll,
}

/// Hands out ranks in the order of registration. Patterns of the same tokens have the same rank.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// From a node and a token to the child's node and its number among the children.
    edges: HashMap<(u32, Token), (u32, u32)>,
    /// The number of children of each node but the root, which is the first.
    children: Vec<u32>,
}

impl Order {
    pub(super) fn rank(&mut self, pattern: &Pattern) -> Rank {
        if self.children.is_empty() {
            self.children.push(0);
        }
        let mut node = 0;
        let rank = pattern
            .tokens()
            .into_iter()
            .map(|token| {
                let class = class(&token);
                let (child, number) = *self.edges.entry((node, token)).or_insert_with(|| {
                    let child = u32::try_from(self.children.len()).unwrap_or(u32::MAX);
                    self.children.push(0);
                    let number = self.children.get_mut(node as usize).map_or(0, |count| {
                        *count += 1;
                        *count
                    });
                    (child, number)
                });
                node = child;
                (class, number)
            })
            .collect();
        Rank(rank)
    }
}

fn class(token: &Token) -> Class {
    match token {
        Token::Unit(_) => Class::Static,
        Token::Expression { tail: Some(_), .. } => Class::ExpressionWithTail,
        Token::Expression { tail: None, .. } => Class::Expression,
        Token::Param { tail: Some(_) } => Class::ParamWithTail,
        Token::Param { tail: None } => Class::Param,
        Token::CatchAll => Class::CatchAll,
    }
}
