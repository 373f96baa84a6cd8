//! From text to syntax tree, with the `cel` crate's parser.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cel::{IdedExpr, common::ast::SourceInfo, parser::ParseErrors};

use crate::{Error, scan};

/// What the parser and the walk over its tree may use: both recurse, the parser with up to 40 KiB per bracket in debug builds.
const STACK_BYTES: usize = 16 << 20;

/// Runs `compile` where the stack is deep enough for everything that `scan` admits.
///
/// # Errors
/// If no thread can be started, or `compile` panics.
pub(crate) fn on_deep_stack<T: Send>(
    path: &str,
    compile: impl FnOnce() -> Result<T, Vec<Error>> + Send,
) -> Result<T, Vec<Error>> {
    let failed = |message: &str| Err(vec![Error::at(path, message)]);
    std::thread::scope(|scope| {
        match std::thread::Builder::new()
            .name("policy-compile".into())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, compile)
        {
            Ok(thread) => thread.join().unwrap_or_else(|_| failed("the compiler failed on this expression")),
            Err(_) => failed("no thread could be started to compile this expression"),
        }
    })
}

/// A parsed expression that knows where its parts were written.
pub(crate) struct Parsed<'t> {
    pub root: IdedExpr,
    source: Source<'t>,
    info: SourceInfo,
}

/// A text and where it stands in a resource.
#[derive(Clone, Copy)]
pub(crate) struct Source<'t> {
    pub text: &'t str,
    pub path: &'t str,
}

impl Source<'_> {
    /// An error at this byte of the text.
    fn error(&self, offset: usize, message: impl Into<String>, hint: Option<String>) -> Error {
        let before = self.text.get(..offset).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Error { path: self.path.to_owned(), line: line as u32, column: column as u32, message: message.into(), hint }
    }
}

impl Parsed<'_> {
    /// The byte where the node begins; for calls of methods and selections that of the name, not of the punctuation before it.
    fn start(&self, id: u64, name: Option<&str>) -> usize {
        let start = self.info.offset_for(id).map_or(0, |(start, _)| start as usize);
        let (Some(name), Some((before, after))) = (name, self.source.text.split_at_checked(start)) else {
            return start;
        };
        match after.strip_prefix('.') {
            // A selection is placed at its dot: the name follows.
            Some(rest) => start + 1 + (rest.len() - rest.trim_start().len()),
            // A call is placed at its bracket: the name precedes.
            None if after.starts_with('(') => before.trim_end().len().saturating_sub(name.len()),
            None => start,
        }
    }

    /// An error at a node; `name` is what is selected or called there, if anything.
    pub(crate) fn error(&self, id: u64, name: Option<&str>, message: String, hint: Option<String>) -> Error {
        self.source.error(self.start(id, name), message, hint)
    }
}

/// Parses `source`; macros stay calls.
pub(crate) fn parse(source: Source<'_>) -> Result<Parsed<'_>, Vec<Error>> {
    scan::check(source.text).map_err(|refusal| vec![source.error(refusal.offset, refusal.message, None)])?;
    let parser = cel::Env::default().parser().enable_optional_syntax(false);
    // The parser visits what it could not parse, and may panic there.
    match catch_unwind(AssertUnwindSafe(|| parser.parse_with_source_info(source.text))) {
        Ok(Ok((root, info))) => Ok(Parsed { root, source, info }),
        Ok(Err(ParseErrors { errors })) => Err(first(source, errors)),
        Err(_) => Err(vec![source.error(0, "the expression can't be parsed", None)]),
    }
}

/// The first error only: the others mostly follow from it.
fn first(source: Source<'_>, errors: Vec<cel::ParseError>) -> Vec<Error> {
    const MESSAGE_CHARS_MAX: usize = 200;
    let Some(error) = errors.into_iter().next() else {
        return vec![source.error(0, "the expression can't be parsed", None)];
    };
    let message = error.msg.strip_prefix("Syntax error: ").unwrap_or(&error.msg);
    let message = if error.pos.0 < 1 { "the expression is nested too deeply" } else { message };
    vec![Error {
        path: source.path.to_owned(),
        line: u32::try_from(error.pos.0.max(1)).unwrap_or(1),
        column: u32::try_from(error.pos.1.max(1)).unwrap_or(1),
        message: message.chars().take(MESSAGE_CHARS_MAX).collect(),
        hint: None,
    }]
}
