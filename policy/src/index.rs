//! Finds, among many conditions, those that a request's path doesn't rule out.

use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::{
    Condition, Value,
    access::{Access, HttpField, Via},
    compile::Node,
    expr::Expr,
    functions::Fun,
};

/// What the path must be like, as far as that is known, for a condition to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks<'c> {
    Prefix(&'c str),
    Path(&'c str),
}

/// A condition that a path doesn't rule out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Its number.
    pub number: usize,
    /// It asks for nothing but the path, and holds for an HTTP request with it: nothing needs to be evaluated, nor paid for.
    pub holds: bool,
}

/// Conditions that ask the same, in their order. Few are more than one.
#[derive(Debug)]
struct Places {
    first: Candidate,
    more: Vec<Candidate>,
}

/// Conditions by what they ask of `ctx.request.http.path`. A look at it costs a hash for each length of a prefix, however many
/// conditions there are.
#[derive(Debug, Default)]
pub struct PathIndex {
    by_prefix: HashMap<Box<str>, Places>,
    /// Of the prefixes, each once.
    lengths: Vec<usize>,
    by_path: HashMap<Box<str>, Places>,
    /// Those of which the path says nothing.
    others: Option<Places>,
}

impl PathIndex {
    /// Of these conditions, which are numbered from 0.
    pub fn new<'c>(conditions: impl Iterator<Item = &'c Condition>) -> Self {
        let mut index = Self::default();
        for (number, condition) in conditions.enumerate() {
            let node = condition.node();
            let holds = matches!(node, Node::Match(expr) if of_call(expr).is_some());
            let candidate = Candidate { number, holds };
            match of_node(node) {
                Some(Asks::Prefix(prefix)) => add(&mut index.by_prefix, prefix, candidate),
                Some(Asks::Path(path)) => add(&mut index.by_path, path, candidate),
                None => match &mut index.others {
                    Some(others) => others.more.push(candidate),
                    none => *none = Some(candidate.into()),
                },
            }
        }
        index.lengths = index.by_prefix.keys().map(|prefix| prefix.len()).collect();
        index.lengths.sort_unstable();
        index.lengths.dedup();
        index
    }

    /// The conditions that may hold for a request with this path, in their order. Those left out don't hold, though evaluating them
    /// might fail or cost more than is left.
    pub fn candidates<'i>(&'i self, path: &str) -> Candidates<'i> {
        let by_prefix = self.lengths.iter().filter_map(|length| self.by_prefix.get(path.get(..*length)?));
        let by_path = if self.by_path.is_empty() { None } else { self.by_path.get(path) };
        let places = by_prefix.chain(by_path).chain(&self.others);
        Candidates(places.map(|places| (places.first, &*places.more)).collect())
    }
}

fn add(places: &mut HashMap<Box<str>, Places>, text: &str, candidate: Candidate) {
    match places.get_mut(text) {
        Some(places) => places.more.push(candidate),
        None => drop(places.insert(text.into(), candidate.into())),
    }
}

impl From<Candidate> for Places {
    fn from(first: Candidate) -> Self {
        Self { first, more: Vec::new() }
    }
}

/// See [`PathIndex::candidates`]. Each list has its next one apart, and those after it.
pub struct Candidates<'i>(SmallVec<[(Candidate, &'i [Candidate]); 4]>);

impl Iterator for Candidates<'_> {
    type Item = Candidate;

    fn next(&mut self) -> Option<Candidate> {
        let (at, list) = self.0.iter_mut().enumerate().min_by_key(|(_, (next, _))| next.number)?;
        let found = list.0;
        match list.1.split_first() {
            Some((next, rest)) => *list = (*next, rest),
            None => drop(self.0.swap_remove(at)),
        }
        Some(found)
    }
}

/// Of several that must all hold, each says what can't be otherwise: one that doesn't hold, or fails, ends it.
fn of_node(node: &Node) -> Option<Asks<'_>> {
    match node {
        Node::Match(expr) => of_expr(expr),
        Node::All(of) => of.iter().find_map(of_node),
        Node::Never | Node::Always | Node::Not(_) | Node::Any(_) | Node::NoneOf(_) => None,
    }
}

fn of_expr(expr: &Expr) -> Option<Asks<'_>> {
    match expr {
        Expr::And(of) => of.iter().find_map(of_expr),
        _ => of_call(expr),
    }
}

fn of_call(expr: &Expr) -> Option<Asks<'_>> {
    match expr {
        Expr::Call(Fun::StartsWith, of) => match &**of {
            [path, Expr::Const(Value::String(prefix))] if is_path(path) => Some(Asks::Prefix(prefix)),
            _ => None,
        },
        Expr::Equal(of, false) => match &**of {
            [path, Expr::Const(Value::String(text))] | [Expr::Const(Value::String(text)), path] if is_path(path) => {
                Some(Asks::Path(text))
            }
            _ => None,
        },
        _ => None,
    }
}

fn is_path(expr: &Expr) -> bool {
    matches!(expr, Expr::Access(Access::Http(Via::Http, HttpField::Path)))
}

#[cfg(test)]
mod tests {
    use octelium_api::core::{self, condition};

    use super::*;

    fn condition(text: &str) -> Condition {
        let condition = core::Condition { r#type: Some(condition::Type::Match(text.into())) };
        Condition::compile(&condition, "spec").expect("a condition")
    }

    #[test]
    fn only_what_the_path_rules_out_is_left_out() {
        let texts = [
            r#"ctx.request.http.path.startsWith("/a/")"#,
            r#"ctx.request.http.method == "GET" && ctx.request.http.path.startsWith("/a/b")"#,
            r#"ctx.request.http.path == "/a/b""#,
            r#"ctx.request.http.method == "GET""#,
            r#"ctx.request.http.path.startsWith("/c/") || ctx.request.http.method == "GET""#,
            r#"!ctx.request.http.path.startsWith("/a/")"#,
            r#"ctx.request.http.path != "/a/b""#,
            r#"("/a/b" == ctx.request.http.path) && ctx.request.http.method == "GET""#,
            r#"ctx.request.http.uri.startsWith("/c/")"#,
            r#"ctx.request.http.path.startsWith("/ä")"#,
            r#"ctx.request.http.path.startsWith("")"#,
        ];
        let conditions: Vec<Condition> = texts.iter().map(|text| condition(text)).collect();
        let index = PathIndex::new(conditions.iter());
        let candidates = |path: &str| index.candidates(path).map(|candidate| candidate.number).collect::<Vec<_>>();
        assert_eq!(candidates("/a/b"), [0, 1, 2, 3, 4, 5, 6, 7, 8, 10]);
        assert_eq!(candidates("/a/x"), [0, 3, 4, 5, 6, 8, 10]);
        assert_eq!(candidates("/a"), [3, 4, 5, 6, 8, 10]);
        assert_eq!(candidates("/äh"), [3, 4, 5, 6, 8, 9, 10]);
        assert_eq!(candidates(""), [3, 4, 5, 6, 8, 10]);
        let hold = |path: &str| {
            index.candidates(path).filter(|found| found.holds).map(|found| found.number).collect::<Vec<_>>()
        };
        assert_eq!(hold("/a/b"), [0, 2, 10]);
        assert_eq!(hold("/äh"), [9, 10]);
        assert_eq!(hold("/x"), [10]);
    }

    #[test]
    fn all_of_several_asks_what_one_of_them_asks() {
        let texts = [r#"ctx.request.http.method == "GET""#, r#"ctx.request.http.path == "/a""#];
        let of = texts.map(|text| core::Condition { r#type: Some(condition::Type::Match(text.into())) }).to_vec();
        let all = condition::All { of: of.clone() };
        let any = condition::Any { of };
        let conditions = [condition::Type::All(all), condition::Type::Any(any)]
            .map(|r#type| Condition::compile(&core::Condition { r#type: Some(r#type) }, "spec").expect("a condition"));
        let index = PathIndex::new(conditions.iter());
        let candidates =
            |path: &str| index.candidates(path).map(|found| (found.number, found.holds)).collect::<Vec<_>>();
        assert_eq!(candidates("/a"), [(0, false), (1, false)]);
        assert_eq!(candidates("/b"), [(1, false)]);
    }
}
