//! Routing by its definition. Patterns are read from their text; each route is asked with each way to split the
//! path; what matches is sorted. Slow, and obviously so: no table, no early end, nothing of the crate.

use std::{cell::RefCell, cmp::Ordering, collections::HashMap};

use regex::bytes::Regex;

/// A request, answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The route by its index, and the ranges of its captures.
    Route(usize, Vec<(usize, usize)>),
    /// What is allowed.
    Methods(String),
    Nothing,
}

/// What is between two slashes, or a piece of that.
#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(u16),
    /// An expression, or none for a plain parameter.
    Hole(Option<String>),
    Rest,
    /// A segment ends.
    End,
}

/// A table of routes: `METHOD pattern`, `*` for any method.
pub(super) struct Oracle {
    /// Method, pieces, index; in the order of precedence.
    routes: Vec<(String, Vec<Piece>, usize)>,
    pub(super) implicit_head: bool,
    pub(super) strict: bool,
}

/// An octet of a path: with bit 8 set if it is data that would be taken for syntax if it stood for itself.
/// And where it stands.
type Unit = (u16, usize, usize);

fn units(text: &str, from: usize) -> Vec<Unit> {
    let bytes = text.as_bytes();
    let mut units = Vec::new();
    let mut at = from;
    while at < bytes.len() {
        let hex = |at: usize| {
            let digit = bytes.get(at).filter(|byte| byte.is_ascii_hexdigit())?;
            char::from(*digit).to_digit(16)
        };
        if bytes[at] != b'%' {
            units.push((u16::from(bytes[at]), at, at + 1));
            at += 1;
        } else if let (Some(high), Some(low)) = (hex(at + 1), hex(at + 2)) {
            let octet = (high * 16 + low) as u16;
            let syntax = b"!$&'()*+,;=:@/%".contains(&(octet as u8));
            units.push((octet | if syntax { 0x100 } else { 0 }, at, at + 3));
            at += 3;
        } else {
            units.push((0x125, at, at + 1));
            at += 1;
        }
    }
    units
}

fn pieces(pattern: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = &pattern[1..];
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('/') {
            pieces.push(Piece::End);
            rest = after;
        } else if rest.starts_with('*') || rest.starts_with("{*") {
            pieces.push(Piece::Rest);
            rest = "";
        } else if rest.starts_with('{') {
            let mut depth = 0;
            let close = rest.bytes().position(|byte| {
                depth += i32::from(byte == b'{') - i32::from(byte == b'}');
                depth == 0
            });
            let (inside, after) = rest.split_at(close.unwrap());
            let expression = inside.split_once(':').map(|(_, text)| text.to_owned());
            pieces.push(Piece::Hole(expression));
            rest = &after[1..];
        } else {
            let end = rest.find(['/', '{', '*']).unwrap_or(rest.len());
            let text = units(&rest[..end], 0);
            pieces.extend(text.into_iter().map(|unit| Piece::Text(unit.0)));
            rest = &rest[end..];
        }
    }
    if pieces.last() != Some(&Piece::Rest) {
        pieces.push(Piece::End);
    }
    pieces
}

pub(super) fn accepts(expression: &str, value: &[u8]) -> bool {
    thread_local! {
        static KNOWN: RefCell<HashMap<String, Regex>> = RefCell::default();
    }
    KNOWN.with_borrow_mut(|known| {
        let regex = known.entry(expression.to_owned()).or_insert_with(|| {
            let text = match expression {
                "" => "^(?s:.*)$".to_owned(),
                text => format!("^(?:{text})$"),
            };
            let ascii = regex::bytes::RegexBuilder::new(&text)
                .unicode(false)
                .build();
            ascii.unwrap_or_else(|_| Regex::new(&text).unwrap())
        });
        regex.is_match(value)
    })
}

/// All ways in which `path` is split over `pieces`: the ranges of the captures, as indices of units.
fn splits(
    pieces: &[Piece],
    path: &[Unit],
    at: usize,
    taken: &mut Vec<(usize, usize)>,
    all: &mut Vec<Vec<(usize, usize)>>,
) {
    let slash = |at: usize| path.get(at).is_some_and(|unit| unit.0 == u16::from(b'/'));
    let Some((piece, rest)) = pieces.split_first() else {
        if at == path.len() + 1 {
            all.push(taken.clone());
        }
        return;
    };
    match piece {
        Piece::Text(text) => {
            if path.get(at).is_some_and(|unit| unit.0 == *text) && !slash(at) {
                splits(rest, path, at + 1, taken, all);
            }
        }
        // The end of the path is as a slash behind it.
        Piece::End => {
            if at == path.len() || slash(at) {
                splits(rest, path, at + 1, taken, all);
            }
        }
        Piece::Rest => {
            if at <= path.len() {
                taken.push((at, path.len()));
                all.push(taken.clone());
                taken.pop();
            }
        }
        Piece::Hole(expression) => {
            let mut end = at;
            loop {
                let value: Vec<u8> = path[at.min(path.len())..end.min(path.len())]
                    .iter()
                    .map(|unit| (unit.0 & 0xff) as u8)
                    .collect();
                let empty_end = value.is_empty() && end == path.len();
                let last = rest == [Piece::End];
                if end <= path.len()
                    && !(empty_end && last)
                    && expression.as_ref().is_none_or(|text| accepts(text, &value))
                {
                    taken.push((at, end));
                    splits(rest, path, end, taken, all);
                    taken.pop();
                }
                if end >= path.len() || slash(end) {
                    break;
                }
                end += 1;
            }
        }
    }
}

/// Of the piece at `at`, among its siblings: its class.
fn class(pieces: &[Piece], at: usize) -> u8 {
    let tail = matches!(pieces.get(at + 1), Some(Piece::Text(_)));
    match (&pieces[at], tail) {
        (Piece::End, _) => 0,
        (Piece::Text(_), _) => 1,
        (Piece::Hole(Some(_)), true) => 2,
        (Piece::Hole(Some(_)), false) => 3,
        (Piece::Hole(None), true) => 4,
        (Piece::Hole(None), false) => 5,
        (Piece::Rest, _) => 6,
    }
}

/// What makes two pieces the same step: parameters also by the text behind them.
fn same(left: &[Piece], right: &[Piece], at: usize) -> bool {
    let tail = |pieces: &[Piece]| match (&pieces[at], pieces.get(at + 1)) {
        (Piece::Hole(_), Some(Piece::Text(text))) => Some(*text),
        _ => None,
    };
    left[at] == right[at] && tail(left) == tail(right)
}

/// By the first step at which two routes part: by its class, then by which step was registered first, which
/// depends on all routes that came to the same place.
fn compare(all: &[Vec<Piece>], left: usize, right: usize) -> Ordering {
    let (one, other) = (&all[left], &all[right]);
    for at in 0..one.len().min(other.len()) {
        if same(one, other, at) {
            continue;
        }
        let first = |pieces: &Vec<Piece>| {
            all.iter().position(|known| {
                (0..=at).all(|step| known.len() > step && same(known, pieces, step))
            })
        };
        return class(one, at)
            .cmp(&class(other, at))
            .then_with(|| first(one).cmp(&first(other)));
    }
    one.len().cmp(&other.len())
}

impl Oracle {
    pub(super) fn new(lines: &[String]) -> Self {
        let mut routes: Vec<(String, Vec<Piece>, usize)> = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            let (method, pattern) = line.split_once(' ').unwrap();
            let pieces = pieces(pattern);
            if !routes
                .iter()
                .any(|known| known.0 == method && known.1 == pieces)
            {
                routes.push((method.to_owned(), pieces, index));
            }
        }
        let all: Vec<_> = lines
            .iter()
            .map(|line| pieces(line.split_once(' ').unwrap().1))
            .collect();
        routes.sort_by(|left, right| compare(&all, left.2, right.2));
        Self {
            routes,
            implicit_head: true,
            strict: false,
        }
    }

    pub(super) fn ask(&self, method: &str, path: &str, at: usize) -> Answer {
        let rest = units(path, at);
        // A path starts with a slash, but for the rest of a mount without bytes, which is one.
        let virtual_slash = rest.is_empty() && at > 0;
        if !virtual_slash && rest.first().is_none_or(|unit| unit.0 != u16::from(b'/')) {
            return Answer::Nothing;
        }
        let units = rest.get(1..).unwrap_or_default();
        let place = |index: usize| match units.get(index) {
            Some(unit) => unit.1,
            None => path.len(),
        };
        let mut matching = Vec::new();
        for (method, pieces, index) in &self.routes {
            let mut all = Vec::new();
            splits(pieces, units, 0, &mut Vec::new(), &mut all);
            all.sort();
            if let Some(first) = all.first() {
                let captures = first
                    .iter()
                    .map(|(start, end)| (place(*start), place(*end)));
                matching.push((
                    method.as_str(),
                    pieces,
                    *index,
                    captures.collect::<Vec<_>>(),
                ));
            }
        }
        if self.strict
            && let Some((_, first, ..)) = matching.first()
        {
            let first = (*first).clone();
            matching.retain(|route| *route.1 == first);
        }
        let mut from = 0;
        while let Some((_, pieces, ..)) = matching.get(from) {
            let same: Vec<_> = matching[from..]
                .iter()
                .take_while(|route| route.1 == *pieces)
                .collect();
            let of = |wanted: &str| same.iter().find(|route| route.0 == wanted);
            let head = || of("GET").filter(|_| method == "HEAD" && self.implicit_head);
            if let Some(route) = of(method).or_else(head).or_else(|| of("*")) {
                return Answer::Route(route.2, route.3.clone());
            }
            from += same.len();
        }
        if matching.is_empty() {
            return Answer::Nothing;
        }
        let mut methods: Vec<_> = matching.iter().map(|route| route.0).collect();
        if self.implicit_head && methods.contains(&"GET") {
            methods.push("HEAD");
        }
        methods.sort_unstable();
        methods.dedup();
        Answer::Methods(methods.join(", "))
    }
}
