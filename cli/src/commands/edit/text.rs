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

/// `body` below what to know about it.
pub fn with_header(body: &str, object: &Object, complaints: &[Complaint]) -> String {
    let mut lines = vec![
        format!("# {} {} as it is now. It is changed when the editor is closed;", object.kind(), object.name()),
        "# without any change, or with an empty text, it stays as it is.".to_owned(),
    ];
    if object.kind().has_data() {
        lines.push("# Its data is not shown and stays as it is, unless `data` is written here.".to_owned());
    }
    if !complaints.is_empty() {
        lines.push("#".to_owned());
        lines.push("# This could not be applied:".to_owned());
        let header = lines.len() + complaints.len() + 1;
        lines.extend(complaints.iter().map(|complaint| format!("# - {}", plain(&complaint.shown(header)))));
    }
    lines.push("#".to_owned());
    format!("{}\n{body}", lines.join("\n"))
}

/// The text below its header: what follows the comments at the top.
pub fn body(text: &str) -> &str {
    let mut rest = text;
    while rest.starts_with('#') {
        rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
    }
    rest
}

#[cfg(test)]
mod tests {
    use octelium_api::{Kind, core};

    use super::*;

    #[test]
    fn complaints_name_the_lines_that_the_editor_shows() {
        let object: Object = core::Group::default().into();
        let complaints = [Complaint::new(2, "spec", "is missing\nhere"), Complaint::new(0, "", "odd")];
        let text = with_header("kind: Group\nmetadata: {}\n", &object, &complaints);
        let line = 1 + text.lines().position(|line| line == "metadata: {}").unwrap();
        assert!(
            text.contains(&format!("\n# - line {line}: spec: is missing here\n# - odd\n#\nkind: Group\n")),
            "{text}"
        );
        assert_eq!(body(&text), "kind: Group\nmetadata: {}\n");
    }

    #[test]
    fn data_that_is_not_shown_is_mentioned() {
        let text = with_header("", &Kind::Secret.decode(&[]).unwrap(), &[]);
        assert!(text.contains("Its data is not shown"), "{text}");
        assert_eq!(body("# only\n# comments"), "");
        assert_eq!(body("a: 1\n# end\n"), "a: 1\n# end\n");
    }
}
