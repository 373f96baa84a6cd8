//! The text in the editor: what is wrong with it stands above it, as comments.

use octelium_api::Object;

use crate::output::plain;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// In the text without its header, from 1; 0: as a whole.
    line: u32,
    text: String,
}

impl Complaint {
    /// `path` may be empty.
    pub fn new(line: u32, path: &str, what: &str) -> Self {
        // The comment must not end before it does.
        let what = what.replace(['\n', '\r'], " ");
        Self { line, text: if path.is_empty() { what } else { format!("{path}: {what}") } }
    }

    /// With its line in a text below a header of so many lines.
    pub fn shown(&self, header: usize) -> String {
        match self.line {
            0 => self.text.clone(),
            line => format!("line {}: {}", line as usize + header, self.text),
        }
    }
}

/// All of them as one sentence.
pub fn list(complaints: &[Complaint]) -> String {
    complaints.iter().map(|complaint| complaint.text.as_str()).collect::<Vec<_>>().join("; ")
}

/// What to know about the text, to stand above it.
pub fn header(object: &Object, complaints: &[Complaint]) -> String {
    let mut lines = vec![
        format!("# {} {} as it is now. It is changed when the editor is closed;", object.kind(), object.name()),
        "# without any change, or with an empty text, it stays as it is.".to_owned(),
    ];
    if object.kind().has_data() {
        let kind = object.kind().name().to_ascii_lowercase();
        lines.push("# Its data is not shown and stays as it is; this replaces it:".to_owned());
        lines.push(format!("#   octeliumctl update {kind} {} --file -", object.name()));
    }
    if !complaints.is_empty() {
        lines.push("#".to_owned());
        lines.push("# This could not be applied:".to_owned());
        let header = lines.len() + complaints.len() + 1;
        lines.extend(complaints.iter().map(|complaint| format!("# - {}", plain(&complaint.shown(header)))));
    }
    lines.push("#".to_owned());
    format!("{}\n", lines.join("\n"))
}

/// The text below the header that was offered with it. Who removed some of the header's lines keeps their own comments.
pub fn body<'a>(text: &'a str, header: &str) -> &'a str {
    let mut offered = header.lines();
    let mut rest = text;
    while let Some((line, below)) = rest.split_once('\n').or((!rest.is_empty()).then_some((rest, ""))) {
        // An editor may have its own opinion of blanks at the end.
        if !offered.any(|offered| offered.trim_end() == line.trim_end()) {
            break;
        }
        rest = below;
    }
    rest
}

/// Whether nothing but comments is left, so that there is nothing to apply.
pub fn is_all_comments(body: &str) -> bool {
    body.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#'))
}

#[cfg(test)]
mod tests {
    use octelium_api::{Kind, core};

    use super::*;

    #[test]
    fn complaints_name_the_lines_that_the_editor_shows() {
        let object: Object = core::Group::default().into();
        let complaints = [Complaint::new(2, "spec", "is missing\nhere"), Complaint::new(0, "", "odd")];
        let above = header(&object, &complaints);
        let text = format!("{above}kind: Group\nmetadata: {{}}\n");
        let line = 1 + text.lines().position(|line| line == "metadata: {}").unwrap();
        assert!(
            text.contains(&format!("\n# - line {line}: spec: is missing here\n# - odd\n#\nkind: Group\n")),
            "{text}"
        );
        assert_eq!(body(&text, &above), "kind: Group\nmetadata: {}\n");
    }

    #[test]
    fn data_that_is_not_shown_is_mentioned() {
        let mut secret = Kind::Secret.decode(&[]).unwrap();
        secret.metadata_mut().name = "key".to_owned();
        let text = header(&secret, &[]);
        assert!(text.contains("not shown") && text.contains("octeliumctl update secret key --file -"), "{text}");
    }

    #[test]
    fn only_the_header_is_taken_off_again() {
        let above = header(&core::Group::default().into(), &[]);
        let own = "# my own\n#\nkind: Group\n# end\n";
        assert_eq!(body(&format!("{above}{own}"), &above), own);
        assert_eq!(body(own, &above), own);
        assert_eq!(body(&above.replace('\n', "\r\n"), &above), "");
        let (_, without_first) = above.split_once('\n').unwrap();
        assert_eq!(body(&format!("{without_first}kind: Group\n"), &above), "kind: Group\n");
        assert_eq!(body(above.trim_end(), &above), "");
        assert_eq!(body("", &above), "");
        assert!(is_all_comments("# a\n\n  # b") && !is_all_comments("# a\nkind: Group\n"));
    }
}
