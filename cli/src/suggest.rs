//! "Did you mean": the known word nearest to an unknown one.

/// Longer words are not compared; no name of ours is as long.
const CHARS_MAX: usize = 128;

/// `; did you mean …?`, or nothing where no word is near.
pub fn did_you_mean<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> String {
    nearest(word, known).map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default()
}

/// The word nearest to `word`, if one is near enough to be meant.
fn nearest<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let length = word.chars().count();
    if length > CHARS_MAX {
        return None;
    }
    // One slip per three characters, and one in any case.
    let slips_max = (length / 3).max(1);
    known
        .into_iter()
        .filter(|candidate| candidate.chars().count() <= CHARS_MAX)
        .map(|candidate| (strsim::osa_distance(word, candidate), candidate))
        .filter(|(slips, candidate)| *slips <= slips_max && *slips < candidate.chars().count())
        .min_by_key(|(slips, _)| *slips)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised() {
        let known = ["service", "user", "policy", "secret"];
        for (word, meant) in [
            ("servcie", Some("service")),
            ("polcy", Some("policy")),
            ("usr", Some("user")),
            ("pod", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), meant, "{word}");
        }
        assert_eq!(nearest(&"s".repeat(100_000), known), None);
        assert_eq!(did_you_mean("usre", known), "; did you mean `user`?");
        assert_eq!(did_you_mean("pod", known), "");
    }
}
