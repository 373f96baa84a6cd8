//! Text to trees of nodes with positions, within limits that hold before anything is expanded.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map},
    rc::Rc,
};

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, Span, StrInput, Tag, options};

use super::{
    ERRORS_MAX, Limits,
    places::Mark,
    scalar::{quote, shorten},
};

/// What is wrong, and where.
#[derive(Debug)]
pub(super) struct Fault {
    pub at: Mark,
    pub path: String,
    pub message: String,
}

impl Fault {
    pub fn new(at: Mark, message: impl Into<String>) -> Self {
        Self { at, path: String::new(), message: message.into() }
    }
}

/// A value and its position. Aliases share the nodes that they refer to.
#[derive(Debug)]
pub(super) struct Node<'t> {
    pub at: Mark,
    pub content: Content<'t>,
    /// Nodes of this subtree, bytes of their scalars and levels, with aliases expanded.
    nodes: usize,
    bytes: usize,
    levels: usize,
}

#[derive(Debug)]
pub(super) enum Content<'t> {
    /// An unquoted scalar, whose type is open.
    Plain(Cow<'t, str>),
    /// Text for certain.
    Text(Cow<'t, str>),
    List(Vec<Rc<Node<'t>>>),
    Mapping(Vec<Entry<'t>>),
}

/// A member of a mapping.
#[derive(Debug, Clone)]
pub(super) struct Entry<'t> {
    pub key: Cow<'t, str>,
    pub at: Mark,
    pub value: Rc<Node<'t>>,
}

impl<'t> Node<'t> {
    fn scalar(at: Mark, content: Content<'t>) -> Self {
        let bytes = match &content {
            Content::Plain(text) | Content::Text(text) => text.len(),
            _ => 0,
        };
        Self { at, content, nodes: 1, bytes, levels: 0 }
    }

    pub fn list(at: Mark, items: Vec<Rc<Self>>) -> Self {
        let mut node = Self::collection(at, items.iter(), 0);
        node.content = Content::List(items);
        node
    }

    pub fn mapping(at: Mark, entries: Vec<Entry<'t>>) -> Self {
        let keys = entries.iter().map(|entry| entry.key.len()).sum();
        let mut node = Self::collection(at, entries.iter().map(|entry| &entry.value), keys);
        node.content = Content::Mapping(entries);
        node
    }

    fn collection<'n>(at: Mark, children: impl Iterator<Item = &'n Rc<Self>>, keys: usize) -> Self
    where
        't: 'n,
    {
        let mut node = Self { at, content: Content::List(Vec::new()), nodes: 1, bytes: keys, levels: 0 };
        for child in children {
            node.nodes = node.nodes.saturating_add(child.nodes);
            node.bytes = node.bytes.saturating_add(child.bytes);
            node.levels = node.levels.max(child.levels);
        }
        node.levels += 1;
        node
    }

    /// Whether nothing stands here: an empty value, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.content, Content::Plain(text) if matches!(&**text, "" | "~" | "null" | "Null" | "NULL"))
    }
}

/// One document: its tree, and what is wrong with it but doesn't keep the rest from being read.
#[derive(Debug)]
pub(super) struct Tree<'t> {
    pub root: Rc<Node<'t>>,
    pub faults: Vec<Fault>,
}

/// The documents of a text, one after another. After an error there are no more.
pub(super) struct Trees<'t> {
    parser: Parser<'t, StrInput<'t>>,
    limits: Limits,
    documents: usize,
    nodes: usize,
    bytes: usize,
    ended: bool,
}

/// A collection that isn't complete yet.
enum Frame<'t> {
    List { at: Mark, anchor: usize, items: Vec<Rc<Node<'t>>> },
    Mapping { at: Mark, anchor: usize, entries: Vec<Entry<'t>>, seen: HashMap<Cow<'t, str>, Mark>, key: Key<'t> },
}

/// What a mapping waits for.
enum Key<'t> {
    Awaited,
    Given(Cow<'t, str>, Mark),
    /// The key is refused; its value is read and forgotten.
    Refused,
}

impl<'t> Trees<'t> {
    pub fn new(text: &'t str, limits: &Limits) -> Self {
        let options = options! { emit_comments: false };
        Self {
            parser: Parser::new_from_str_with_options(text, options),
            limits: limits.clone(),
            documents: 0,
            nodes: 0,
            bytes: 0,
            ended: false,
        }
    }

    fn document(&mut self) -> Option<Result<Tree<'t>, Fault>> {
        loop {
            match self.parser.next_event()? {
                Err(error) => return Some(Err(self.scan_fault(&error))),
                Ok((Event::StreamEnd, _)) => return None,
                Ok((Event::DocumentStart(..), span)) => {
                    self.documents += 1;
                    if self.documents > self.limits.documents_max {
                        let message = format!("more than {} documents", self.limits.documents_max);
                        return Some(Err(Fault::new(mark(&span), message)));
                    }
                    return Some(self.tree());
                }
                Ok(_) => {}
            }
        }
    }

    /// The tree after a document's start.
    fn tree(&mut self) -> Result<Tree<'t>, Fault> {
        let mut stack: Vec<Frame<'t>> = Vec::new();
        let mut anchors: HashMap<usize, Rc<Node<'t>>> = HashMap::new();
        let mut faults = Vec::new();
        loop {
            let (event, span) = match self.parser.next_event() {
                Some(Ok(next)) => next,
                Some(Err(error)) => return Err(self.scan_fault(&error)),
                None => return Err(Fault::new((0, 0), "the text ends within a document")),
            };
            let at = mark(&span);
            let (node, anchor, at) = match event {
                Event::Scalar(text, style, anchor, tag) => {
                    self.spend(at, 1, text.len())?;
                    let content =
                        content(text, style, tag.as_deref()).map_err(|message| Fault::new(tag_mark(&span), message))?;
                    (Rc::new(Node::scalar(at, content)), anchor, at)
                }
                Event::Alias(id) => {
                    let Some(node) = anchors.get(&id) else {
                        return Err(Fault::new(at, "this alias refers to what it is part of"));
                    };
                    // Spent before it is followed, so that aliases of aliases end here and not in memory.
                    self.spend(at, node.nodes, node.bytes)?;
                    self.deepen(at, stack.len() + node.levels)?;
                    (node.clone(), 0, at)
                }
                Event::SequenceStart(_, anchor, tag) => {
                    self.spend(at, 1, 0)?;
                    self.deepen(at, stack.len() + 1)?;
                    core_tag(tag.as_deref(), "seq").map_err(|message| Fault::new(tag_mark(&span), message))?;
                    stack.push(Frame::List { at, anchor, items: Vec::new() });
                    continue;
                }
                Event::MappingStart(_, anchor, tag) => {
                    self.spend(at, 1, 0)?;
                    self.deepen(at, stack.len() + 1)?;
                    core_tag(tag.as_deref(), "map").map_err(|message| Fault::new(tag_mark(&span), message))?;
                    stack.push(Frame::Mapping {
                        at,
                        anchor,
                        entries: Vec::new(),
                        seen: HashMap::new(),
                        key: Key::Awaited,
                    });
                    continue;
                }
                Event::SequenceEnd | Event::MappingEnd => match stack.pop() {
                    Some(Frame::List { at, anchor, items }) => (Rc::new(Node::list(at, items)), anchor, at),
                    Some(Frame::Mapping { at, anchor, entries, .. }) => {
                        (Rc::new(Node::mapping(at, entries)), anchor, at)
                    }
                    None => return Err(Fault::new(at, "a list or mapping ends that did not begin")),
                },
                Event::DocumentEnd => return Err(Fault::new(at, "the document ends without a value")),
                _ => continue,
            };
            if anchor > 0 {
                anchors.insert(anchor, node.clone());
            }
            match stack.last_mut() {
                None => return Ok(Tree { root: node, faults }),
                Some(Frame::List { items, .. }) => items.push(node),
                Some(Frame::Mapping { entries, seen, key, .. }) => {
                    if let Err(mut fault) = place(entries, seen, key, node, at)
                        && faults.len() <= ERRORS_MAX
                    {
                        fault.path = join(&path(&stack), &fault.path);
                        faults.push(fault);
                    }
                }
            }
        }
    }

    fn spend(&mut self, at: Mark, nodes: usize, bytes: usize) -> Result<(), Fault> {
        self.nodes = self.nodes.saturating_add(nodes);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.nodes > self.limits.nodes_max {
            return Err(Fault::new(at, format!("more than {} values, aliases expanded", self.limits.nodes_max)));
        }
        let bytes_max = self.limits.bytes_max.saturating_mul(2);
        if self.bytes > bytes_max {
            return Err(Fault::new(at, format!("more than {bytes_max} bytes, aliases expanded")));
        }
        Ok(())
    }

    fn deepen(&self, at: Mark, levels: usize) -> Result<(), Fault> {
        if levels > self.limits.depth_max { Err(self.too_deep(at)) } else { Ok(()) }
    }

    fn too_deep(&self, at: Mark) -> Fault {
        Fault::new(at, format!("nested deeper than {} levels", self.limits.depth_max))
    }

    fn scan_fault(&self, error: &granit_parser::ScanError) -> Fault {
        let at = (number(error.marker().line()), number(error.marker().col() + 1));
        match error.kind() {
            ErrorKind::RecursionLimitExceeded => self.too_deep(at),
            _ => Fault::new(at, error.info()),
        }
    }
}

impl<'t> Iterator for Trees<'t> {
    type Item = Result<Tree<'t>, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.document();
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

/// Puts a finished node into a mapping, as key or as value; a fault's path is relative to the mapping.
fn place<'t>(
    entries: &mut Vec<Entry<'t>>,
    seen: &mut HashMap<Cow<'t, str>, Mark>,
    key: &mut Key<'t>,
    node: Rc<Node<'t>>,
    at: Mark,
) -> Result<(), Fault> {
    let refused = |path: &str, message: String| Err(Fault { at, path: path.to_owned(), message });
    match std::mem::replace(key, Key::Refused) {
        Key::Given(name, at) => {
            entries.push(Entry { key: name, at, value: node });
            *key = Key::Awaited;
        }
        Key::Refused => *key = Key::Awaited,
        Key::Awaited => {
            let name = match &node.content {
                Content::Text(text) | Content::Plain(text) if !node.is_null() => text.clone(),
                _ => return refused("", "a key must be text".to_owned()),
            };
            if matches!(&node.content, Content::Plain(text) if text == "<<") {
                return refused("", "merge keys (`<<`) are not supported; write the members out".to_owned());
            }
            match seen.entry(name.clone()) {
                hash_map::Entry::Occupied(first) => {
                    let (line, column) = first.get();
                    return refused(&shorten(&name), format!("this key is given twice, first at {line}:{column}"));
                }
                hash_map::Entry::Vacant(free) => free.insert(at),
            };
            *key = Key::Given(name, at);
        }
    }
    Ok(())
}

/// The path of the innermost collection.
fn path(stack: &[Frame<'_>]) -> String {
    let mut path = String::new();
    for frame in stack.iter().rev().skip(1).rev() {
        match frame {
            Frame::List { items, .. } => path.push_str(&format!("[{}]", items.len())),
            Frame::Mapping { key: Key::Given(name, _), .. } => path = join(&path, &shorten(name)),
            Frame::Mapping { .. } => {}
        }
    }
    path
}

/// `path.name`, or the one that isn't empty.
fn join(path: &str, name: &str) -> String {
    match (path, name) {
        ("", name) => name.to_owned(),
        (path, "") => path.to_owned(),
        (path, name) => format!("{path}.{name}"),
    }
}

fn content<'t>(text: Cow<'t, str>, style: ScalarStyle, tag: Option<&Tag>) -> Result<Content<'t>, String> {
    let open = style == ScalarStyle::Plain;
    match tag {
        None if open => Ok(Content::Plain(text)),
        None => Ok(Content::Text(text)),
        Some(tag) => match tag.core_suffix() {
            Some("str" | "binary") => Ok(Content::Text(text)),
            Some("int" | "float" | "bool" | "null") => Ok(Content::Plain(text)),
            _ if tag.original() == "!" => Ok(Content::Text(text)),
            _ => Err(format!("the tag {} is not supported", quote(&tag.original()))),
        },
    }
}

fn core_tag(tag: Option<&Tag>, expected: &str) -> Result<(), String> {
    match tag {
        Some(tag) if tag.core_suffix() != Some(expected) && tag.original() != "!" => {
            Err(format!("the tag {} is not supported here", quote(&tag.original())))
        }
        _ => Ok(()),
    }
}

/// Where the tag of a value stands.
fn tag_mark(span: &Span) -> Mark {
    span.tag_start().map_or_else(|| mark(span), |marker| (number(marker.line()), number(marker.col() + 1)))
}

fn mark(span: &Span) -> Mark {
    (number(span.start.line()), number(span.start.col() + 1))
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// The same tree from JSON, without positions.
pub(super) fn from_json<'t>(value: &'t serde_json::Value, limits: &Limits) -> Result<Rc<Node<'t>>, Fault> {
    json_node(value, limits.depth_max)
        .ok_or_else(|| Fault::new((0, 0), format!("nested deeper than {} levels", limits.depth_max)))
}

fn json_node(value: &serde_json::Value, levels: usize) -> Option<Rc<Node<'_>>> {
    use serde_json::Value;
    let at = (0, 0);
    Some(Rc::new(match value {
        Value::Null => Node::scalar(at, Content::Plain("null".into())),
        Value::Bool(value) => Node::scalar(at, Content::Plain(value.to_string().into())),
        Value::Number(number) => Node::scalar(at, Content::Plain(number.to_string().into())),
        Value::String(text) => Node::scalar(at, Content::Text(text.into())),
        Value::Array(items) => {
            let levels = levels.checked_sub(1)?;
            Node::list(at, items.iter().map(|item| json_node(item, levels)).collect::<Option<_>>()?)
        }
        Value::Object(members) => {
            let levels = levels.checked_sub(1)?;
            let entries = members
                .iter()
                .map(|(key, value)| Some(Entry { key: key.into(), at, value: json_node(value, levels)? }))
                .collect::<Option<_>>()?;
            Node::mapping(at, entries)
        }
    }))
}
