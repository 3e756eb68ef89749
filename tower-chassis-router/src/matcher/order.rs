//! Precedence between the segments of one place.
//!
//! It is the depth-first order of the trie of their tokens. Comparing two at a time would not do: which of
//! two parameters goes first depends on who registered that parameter *at that place* first.

use std::collections::HashMap;

use crate::pattern::Token;

/// A place in the order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank(Vec<(Class, u32)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Static,
    ExpressionWithTail,
    Expression,
    ParamWithTail,
    Param,
    CatchAll,
}

/// The indices of `segments`, which come in the order of registration, in the order of precedence.
pub(super) fn order(segments: &[Vec<Token>]) -> Vec<usize> {
    // From a node and a token to the child's node and its number among the children.
    let mut edges: HashMap<(u32, &Token), (u32, u32)> = HashMap::new();
    let mut children = vec![0];
    let mut ranked = Vec::with_capacity(segments.len());
    for (index, tokens) in segments.iter().enumerate() {
        let mut node = 0;
        let mut rank = Vec::with_capacity(tokens.len());
        for token in tokens {
            let (child, number) = *edges.entry((node, token)).or_insert_with(|| {
                let child = children.len() as u32;
                children.push(0);
                let number = children.get_mut(node as usize).map_or(0, |count| {
                    *count += 1;
                    *count
                });
                (child, number)
            });
            node = child;
            rank.push((class(token), number));
        }
        ranked.push((Rank(rank), index));
    }
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, index)| index).collect()
}

fn class(token: &Token) -> Class {
    match token {
        Token::Byte(_) => Class::Static,
        Token::Expression { tail: Some(_), .. } => Class::ExpressionWithTail,
        Token::Expression { tail: None, .. } => Class::Expression,
        Token::Param { tail: Some(_) } => Class::ParamWithTail,
        Token::Param { tail: None } => Class::Param,
        Token::CatchAll => Class::CatchAll,
    }
}
