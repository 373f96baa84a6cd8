//! "Did you mean": the known word nearest to an unknown one.

/// Longer words are not compared; no name of ours is as long.
const CHARS_MAX: usize = 64;

/// The word nearest to `word`, if one is near enough to be meant. Difference in case alone is nearest.
pub(super) fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    if word.chars().count() > CHARS_MAX {
        return None;
    }
    let lower = |text: &str| text.to_lowercase().replace(['_', '-'], "").chars().collect::<Vec<_>>();
    let word = lower(word);
    // One slip per three characters, and one in any case.
    let slips_max = (word.len() / 3).max(1);
    known
        .map(|candidate| (distance(&word, &lower(candidate)), candidate))
        .filter(|(slips, candidate)| *slips <= slips_max && *slips < candidate.chars().count())
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

/// `; did you mean …?`, or nothing.
pub(crate) fn did_you_mean<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> String {
    nearest(word, known).map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default()
}

/// Optimal string alignment: insertions, deletions, replacements and swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut best = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i - 1] == *y && b[j - 1] == *x {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised() {
        let known = ["isPublic", "isAnonymous", "port", "mode", "config", "dynamicConfig", "path"];
        for (word, meant) in [
            ("isPublc", Some("isPublic")),
            ("ispublic", Some("isPublic")),
            ("is_public", Some("isPublic")),
            ("prot", Some("port")),
            ("Mode", Some("mode")),
            ("dynamic-config", Some("dynamicConfig")),
            ("upstream", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known.into_iter()), meant, "{word}");
        }
        assert_eq!(nearest(&"p".repeat(1_000_000), known.into_iter()), None);
    }
}
