//! Edits of headers, compiled: names and fixed values are made once, expressions are ready to run.

use http::{HeaderName, HeaderValue};
use octelium_api::core::service::spec::config::http::{Header, header};
use octelium_policy::{Expression, Reads};
use smallvec::SmallVec;

use super::compile::Problem;

/// The `header` block of a configuration. Laid out as [`super::Route`] is.
#[derive(Debug, Default)]
#[repr(C)]
pub struct HeaderRules {
    /// On responses to the caller.
    pub response: HeaderEdits,
    /// On requests to the upstream.
    pub request: HeaderEdits,
    /// The `Host` that the upstream gets.
    pub host: Host,
    /// What the upstream learns about where the request came from.
    pub forwarded: Forwarded,
    /// What happens to the caller's own `Authorization`.
    pub authorization: Authorization,
    /// Whether there are expressions.
    pub has_evals: bool,
    /// What the expressions read.
    pub reads: Reads,
}

/// Additions come first, then removals.
#[derive(Debug, Default)]
pub struct HeaderEdits {
    /// Set or appended, in this order.
    pub add: SmallVec<[AddHeader; 1]>,
    /// Taken away.
    pub remove: Box<[HeaderName]>,
}

/// One header that is set.
#[derive(Debug)]
pub struct AddHeader {
    /// The line as it is sent: name, colon, one space, value, line end. Without a value where an expression makes it.
    line: Box<str>,
    name_length: usize,
    /// What makes its value; `None`: it is written.
    pub eval: Option<Box<Expression>>,
    /// Beside the values that are there, instead of in their place.
    pub append: bool,
}

impl AddHeader {
    /// A header that is set to `value` as it is, which can stand in one.
    fn fixed(name: &HeaderName, value: &str, append: bool) -> Self {
        Self { line: format!("{name}: {value}\r\n").into(), name_length: name.as_str().len(), eval: None, append }
    }

    /// Its name, in lower case.
    pub fn name(&self) -> &str {
        self.line.get(..self.name_length).unwrap_or_default()
    }

    /// The whole line as it is sent.
    pub fn line(&self) -> &str {
        &self.line
    }
}

/// A text that is written or made for each request.
#[derive(Debug)]
pub enum Text {
    /// As written.
    Fixed(HeaderValue),
    /// By an expression.
    Eval(Box<Expression>),
}

/// The `Host` that the upstream gets.
#[derive(Debug, Default)]
pub enum Host {
    /// Host and port of its URL.
    #[default]
    Upstream,
    /// The Service's public host name.
    Public,
    /// This.
    Text(Box<Text>),
}

/// What happens to `Forwarded`, `X-Forwarded-*` and `X-Real-IP`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Forwarded {
    /// All are removed.
    #[default]
    Drop,
    /// All are replaced by ones that name nobody.
    Obfuscate,
    /// All stay as they came.
    Transparent,
}

/// What happens to the caller's own `Authorization`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Authorization {
    /// Kept where the Service is anonymous.
    #[default]
    Default,
    /// Kept, unless it is a token of the gateway.
    Pass,
    /// Removed.
    Delete,
}

impl HeaderRules {
    /// Compiles a block that stands at `path`; adds to `problems` what is wrong with it.
    pub fn compile(block: &Header, path: &str, problems: &mut Vec<Problem>) -> Self {
        use header::{AuthorizationMode, ForwardedMode};
        let mut compiler = Compiler { reads: Reads::default(), has_evals: false, problems };
        let request = compiler.edits(path, "Request", &block.add_request_headers, &block.remove_request_headers);
        let response = compiler.edits(path, "Response", &block.add_response_headers, &block.remove_response_headers);
        let host = match block.host.as_ref().and_then(|host| host.r#type.as_ref()) {
            None | Some(header::host::Type::Preserve(false)) => Host::Upstream,
            Some(header::host::Type::Preserve(true)) => Host::Public,
            Some(header::host::Type::Value(text)) => {
                let value = compiler.fixed(&format!("{path}.host.value"), text);
                value.map_or(Host::Upstream, |value| Host::Text(Box::new(Text::Fixed(value))))
            }
            Some(header::host::Type::Eval(text)) => {
                let eval = compiler.eval(&format!("{path}.host.eval"), text);
                eval.map_or(Host::Upstream, |eval| Host::Text(Box::new(Text::Eval(eval))))
            }
        };
        Self {
            request,
            response,
            forwarded: match block.forwarded_mode() {
                ForwardedMode::Unset | ForwardedMode::Drop => Forwarded::Drop,
                ForwardedMode::Obfuscate => Forwarded::Obfuscate,
                ForwardedMode::Transparent => Forwarded::Transparent,
            },
            authorization: match block.authorization_mode() {
                AuthorizationMode::Unset => Authorization::Default,
                AuthorizationMode::Pass => Authorization::Pass,
                AuthorizationMode::Delete => Authorization::Delete,
            },
            host,
            reads: compiler.reads,
            has_evals: compiler.has_evals,
        }
    }
}

struct Compiler<'p> {
    reads: Reads,
    has_evals: bool,
    problems: &'p mut Vec<Problem>,
}

impl Compiler<'_> {
    fn edits(&mut self, path: &str, side: &str, add: &[header::KeyValue], remove: &[String]) -> HeaderEdits {
        let add = add.iter().enumerate().filter_map(|(index, rule)| {
            let path = format!("{path}.add{side}Headers[{index}]");
            let name = self.name(&format!("{path}.key"), &rule.key)?;
            match &rule.r#type {
                Some(header::key_value::Type::Value(text)) => {
                    self.fixed(&format!("{path}.value"), text)?;
                    Some(AddHeader::fixed(&name, text, rule.append))
                }
                Some(header::key_value::Type::Eval(text)) => {
                    let eval = self.eval(&format!("{path}.eval"), text)?;
                    Some(AddHeader { eval: Some(eval), ..AddHeader::fixed(&name, "", rule.append) })
                }
                None => {
                    self.problem(path, "needs `value` or `eval`");
                    None
                }
            }
        });
        let add = add.collect();
        let remove = remove.iter().enumerate();
        let remove =
            remove.filter_map(|(index, name)| self.name(&format!("{path}.remove{side}Headers[{index}]"), name));
        HeaderEdits { add, remove: remove.collect() }
    }

    fn name(&mut self, path: &str, name: &str) -> Option<HeaderName> {
        let made = HeaderName::from_bytes(name.as_bytes()).ok();
        if made.is_none() {
            self.problem(path.to_owned(), "not the name of a header");
        }
        made
    }

    fn fixed(&mut self, path: &str, text: &str) -> Option<HeaderValue> {
        let made = HeaderValue::from_str(text).ok();
        if made.is_none() {
            self.problem(path.to_owned(), "can't stand in a header");
        }
        made
    }

    fn eval(&mut self, path: &str, text: &str) -> Option<Box<Expression>> {
        match Expression::compile_text(text, path) {
            Ok(expression) => {
                self.reads |= expression.reads();
                self.has_evals = true;
                Some(Box::new(expression))
            }
            Err(errors) => {
                self.problems.extend(errors.into_iter().map(Problem::from));
                None
            }
        }
    }

    fn problem(&mut self, path: String, message: &str) {
        self.problems.push(Problem { path, message: message.to_owned() });
    }
}
