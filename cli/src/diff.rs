//! What an update changes, line by line.

use octelium_api::Object;
use similar::{ChangeTag, TextDiff};

use crate::{
    output::{Colour, paint, plain},
    portable,
};

/// Unchanged lines around a change.
const CONTEXT: usize = 3;

/// The changes from `before` to `after`, without what the server keeps itself; empty if there are none.
pub fn objects(before: &Object, after: &Object, coloured: bool) -> String {
    unified(&portable::yaml(before), &portable::yaml(after), coloured)
}

/// A unified diff, two spaces in.
pub fn unified(before: &str, after: &str, coloured: bool) -> String {
    let diff = TextDiff::from_lines(before, after);
    let mut out = String::new();
    for hunk in diff.unified_diff().context_radius(CONTEXT).iter_hunks() {
        out.push_str(&format!("  {}\n", paint(&hunk.header().to_string(), Colour::Cyan, coloured)));
        for change in hunk.iter_changes() {
            let line = plain(change.value().trim_end_matches('\n'));
            out.push_str("  ");
            out.push_str(&match change.tag() {
                ChangeTag::Equal => format!(" {line}"),
                ChangeTag::Delete => paint(&format!("-{line}"), Colour::Red, coloured),
                ChangeTag::Insert => paint(&format!("+{line}"), Colour::Green, coloured),
            });
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use octelium_api::{core, meta};

    use super::*;

    #[test]
    fn changes_are_shown_with_their_surroundings() {
        let before = "a\nb\nc\nd\ne\nf\ng\nh\n";
        let after = "a\nb\nc\nd\nE\nf\ng\nh\n";
        assert_eq!(
            unified(before, after, false),
            "  @@ -2,7 +2,7 @@\n   b\n   c\n   d\n  -e\n  +E\n   f\n   g\n   h\n"
        );
        assert_eq!(unified(before, before, false), "");
    }

    #[test]
    fn colours_mark_what_comes_and_goes() {
        let text = unified("a\n", "b\n", true);
        assert!(text.contains("\u{1b}[31m-a\u{1b}[0m\n") && text.contains("\u{1b}[32m+b\u{1b}[0m\n"), "{text:?}");
    }

    fn service(port: u32, version: &str) -> Object {
        core::Service {
            metadata: Some(meta::Metadata {
                name: "api.default".into(),
                resource_version: version.into(),
                ..Default::default()
            }),
            spec: Some(core::service::Spec { port, ..Default::default() }),
            ..Default::default()
        }
        .into()
    }

    #[test]
    fn what_the_server_keeps_is_no_change() {
        assert_eq!(objects(&service(80, "1"), &service(80, "2"), false), "");
        let text = objects(&service(80, "1"), &service(8080, "2"), false);
        assert!(text.contains("-  port: 80\n") && text.contains("+  port: 8080\n"), "{text}");
        assert!(!text.contains("resourceVersion"), "{text}");
    }
}
