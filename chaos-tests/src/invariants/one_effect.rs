//! A request id has one effect: however often it is asked for, and of whomever, the answer names the same entry of the log.

use std::collections::BTreeMap;

use super::Broken;

#[derive(Default)]
pub struct OneEffect {
    entries: BTreeMap<String, u64>,
    pub broken: Broken,
}

impl OneEffect {
    /// The request was acknowledged as the entry at `index`.
    pub fn acknowledged(&mut self, request: &str, index: u64) {
        let known = *self.entries.entry(request.to_owned()).or_insert(index);
        if known != index {
            self.broken.add(|| format!("one effect: the request {request} took effect at {known} and at {index}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_effect_is_seen() {
        let mut effects = OneEffect::default();
        for (request, index) in [("a", 1), ("b", 2), ("a", 1)] {
            effects.acknowledged(request, index);
        }
        assert!(effects.broken.0.is_empty());
        effects.acknowledged("b", 3);
        assert_eq!(effects.broken.0.len(), 1);
    }
}
