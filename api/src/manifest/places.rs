//! Where each member of a document stands.

/// A line and a column, both from 1; 0 is nowhere in particular.
pub(super) type Mark = (u32, u32);

/// The position of a member and those of its members; an item of a list goes by its index.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    pub at: Mark,
    children: Vec<(Box<str>, Places)>,
}

impl Places {
    pub fn new(at: Mark) -> Self {
        Self { at, children: Vec::new() }
    }

    pub fn add(&mut self, name: &str, places: Self) {
        self.children.push((name.into(), places));
    }

    /// The position of `path`, or of its closest known ancestor.
    pub fn find(&self, path: &str) -> Mark {
        let mut here = self;
        for name in path.split(['.', '[']).map(|name| name.trim_end_matches(']')).filter(|name| !name.is_empty()) {
            match here.children.iter().find(|(child, _)| **child == *name) {
                Some((_, places)) => here = places,
                None => break,
            }
        }
        here.at
    }
}
