//! What people and programs read: results on stdout, everything else on stderr.

use std::{
    borrow::Cow,
    env,
    io::{self, ErrorKind, IsTerminal, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use octelium_api::{Object, manifest};
use serde_json::Value;

/// Tables aren't squeezed into fewer columns than these.
const WIDTH_MIN: u16 = 40;

/// A form for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON document.
    Json,
    /// One YAML document.
    #[value(alias = "yml")]
    Yaml,
}

/// A colour of the terminal's palette.
#[derive(Debug, Clone, Copy)]
pub enum Colour {
    /// Gone, failed.
    Red,
    /// New.
    Green,
    /// Noteworthy.
    Yellow,
    /// Places.
    Cyan,
}

/// `text` in a colour, or as it is where colours aren't wanted.
pub fn paint(text: &str, colour: Colour, coloured: bool) -> String {
    let code = match colour {
        Colour::Red => 31,
        Colour::Green => 32,
        Colour::Yellow => 33,
        Colour::Cyan => 36,
    };
    if coloured { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// Whether stdout shows colours.
pub fn coloured() -> bool {
    io::stdout().is_terminal() && colours_wanted()
}

fn colours_wanted() -> bool {
    env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes a result. A reader that went away is no failure of the command.
///
/// # Errors
/// If stdout can't be written for another reason.
pub fn result(text: &str) -> io::Result<()> {
    part(text).map(|_| ())
}

/// Writes a part of a result. Whether anybody still reads.
///
/// # Errors
/// If stdout can't be written for another reason.
pub fn part(text: &str) -> io::Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// From now on nothing goes to stderr: a shell that completes a line shows it in the midst of that.
pub fn hush() {
    HUSHED.store(true, Ordering::Relaxed);
}

static HUSHED: AtomicBool = AtomicBool::new(false);

/// Tells of a failure.
pub fn error(text: &str) {
    tell("error", text, Colour::Red);
}

/// Tells of something that may surprise.
pub fn warning(text: &str) {
    tell("warning", text, Colour::Yellow);
}

/// Tells of something that is good to know.
pub fn note(text: &str) {
    tell("note", text, Colour::Cyan);
}

/// Tells of what is wrong at a place, in the form that editors read: `file:line:column: what`.
pub fn place(text: &str) {
    writeln!(io::stderr(), "{}", plain(text)).ok();
}

fn tell(label: &str, text: &str, colour: Colour) {
    if HUSHED.load(Ordering::Relaxed) {
        return;
    }
    let coloured = io::stderr().is_terminal() && colours_wanted();
    // There is nowhere left to tell of a stderr that can't be written.
    writeln!(io::stderr(), "{}: {}", paint(label, colour, coloured), plain(text)).ok();
}

/// `text` without characters that steer a terminal, which could come from anybody who may name a resource.
pub fn plain(text: &str) -> Cow<'_, str> {
    let steers = |c: char| (c.is_control() && c != '\n' && c != '\t') || is_bidi_override(c);
    if !text.contains(steers) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if steers(c) {
            out.extend(c.escape_unicode())
        } else {
            out.push(c)
        }
        out
    }))
}

/// Text of any content: as it is for programs, and for terminals without what steers them.
pub fn any(text: &str) -> Cow<'_, str> {
    if io::stdout().is_terminal() { plain(text) } else { Cow::Borrowed(text) }
}

/// Characters that show the text after them in another order than it is.
fn is_bidi_override(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `value` in `format`, ending with a line break.
///
/// # Errors
/// If the value has no such form.
pub fn document(value: &Value, format: Format) -> anyhow::Result<String> {
    let mut text = match format {
        Format::Json => serde_json::to_string_pretty(value)?,
        Format::Yaml => serde_saphyr::to_string(value)?,
    };
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// A resource as a document, never with secret data.
pub fn object(object: &Object) -> Value {
    manifest::to_json(&without_secrets(object))
}

/// A resource in `format`, its members in declared order as far as the format has one; never with secret data.
///
/// # Errors
/// See [`document`].
pub fn resource(object: &Object, format: Format) -> anyhow::Result<String> {
    match format {
        Format::Json => document(&self::object(object), format),
        Format::Yaml => Ok(manifest::to_yaml(&without_secrets(object))),
    }
}

/// A copy without the data of a Secret or Config: the server doesn't send it, and if it did, it isn't for the screen.
pub fn without_secrets(object: &Object) -> Object {
    let mut object = object.clone();
    match &mut object {
        Object::Secret(secret) => secret.data = None,
        Object::Config(config) => config.data = None,
        _ => {}
    }
    object
}

/// Lines without boxes, which may go on for ever: cells with two blanks between them.
pub fn line(cells: &[String]) -> String {
    let cells: Vec<_> = cells.iter().map(|cell| plain(&cell.replace('\n', ",")).into_owned()).collect();
    format!("{}\n", cells.join("  ").trim_end())
}

/// A boxed table.
pub fn table(columns: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    // Some terminals say that they have no width, into which nothing fits.
    if io::stdout().is_terminal() && table.width().is_some_and(|width| width >= WIDTH_MIN) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table.set_header(columns.iter().map(|column| column.to_uppercase()));
    for row in rows {
        table.add_row(row.iter().map(|cell| plain(cell).into_owned()));
    }
    format!("{}\n", table.trim_fmt())
}

#[cfg(test)]
mod tests {
    use octelium_api::core;

    use super::*;

    #[test]
    fn terminals_are_not_steered() {
        assert_eq!(plain("naïve ✓\n\tx"), "naïve ✓\n\tx");
        assert_eq!(plain("a\u{1b}[31mb\r\u{7}\u{9b}"), "a\\u{1b}[31mb\\u{d}\\u{7}\\u{9b}");
        assert_eq!(plain("a\u{202e}b"), "a\\u{202e}b");
    }

    #[test]
    fn tables_are_boxed_with_upper_case_headers() {
        let text = table(&["Name", "Expires In"], vec![vec!["ann".into(), "5m10s".into()]]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert!(lines[0].starts_with('┌') && lines[4].starts_with('└'), "{text}");
        assert!(lines[1].contains("NAME") && lines[1].contains("EXPIRES IN"), "{text}");
        assert!(lines[3].contains("ann") && lines[3].contains("5m10s"), "{text}");
    }

    #[test]
    fn a_secret_value_is_never_shown() {
        let secret = core::Secret {
            data: Some(core::secret::Data { r#type: Some(core::secret::data::Type::Value("hunter2".into())) }),
            ..Default::default()
        };
        assert!(!object(&secret.into()).to_string().contains("hunter2"));
    }

    #[test]
    fn documents_end_with_a_line_break() {
        let value = serde_json::json!({"items": [], "kind": "ServiceList"});
        assert_eq!(document(&value, Format::Json).unwrap(), "{\n  \"items\": [],\n  \"kind\": \"ServiceList\"\n}\n");
        assert_eq!(document(&value, Format::Yaml).unwrap(), "items: []\nkind: ServiceList\n");
    }

    #[test]
    fn colours_wrap_only_where_wanted() {
        assert_eq!(paint("x", Colour::Red, true), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(paint("x", Colour::Red, false), "x");
    }
}
