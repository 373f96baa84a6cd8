//! Why a call is refused, and how gRPC says so.

use std::fmt::{self, Write as _};

use octelium_api::Kind;
use prost::Message;
use tonic::{Code, Status};

/// Trailers must stay below what clients accept as headers (16 KiB), base64 and percent-encoding included.
const TEXT_BYTES_MAX: usize = 2 * 1024;
const DETAILS_BYTES_MAX: usize = 6 * 1024;

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// How gRPC classifies it.
    pub code: Code,
    /// The field, e.g. `spec.port`; empty where it isn't about one.
    pub path: String,
    /// A sentence.
    pub message: String,
}

impl Violation {
    /// Bad input at `path`.
    pub fn at(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: Code::InvalidArgument, path: path.into(), message: message.into() }
    }

    /// Another reason at `path`.
    pub fn coded(code: Code, path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code, path: path.into(), message: message.into() }
    }

    fn text(&self) -> String {
        match self.path.as_str() {
            "" => self.message.clone(),
            path => format!("{path}: {}", self.message),
        }
    }
}

/// All reasons why a call is refused; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// At least one.
    pub violations: Vec<Violation>,
}

impl Refusal {
    /// One reason that isn't about a field.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { violations: vec![Violation::coded(code, "", message)] }
    }

    /// Bad input at one field.
    pub fn at(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { violations: vec![Violation::at(path, message)] }
    }

    /// There is no such resource.
    pub fn not_found(kind: Kind, which: &str) -> Self {
        Self::new(Code::NotFound, format!("there is no {kind} `{which}`"))
    }

    /// Bad input outweighs all else: a caller corrects that first.
    pub fn code(&self) -> Code {
        let codes = || self.violations.iter().map(|violation| violation.code);
        codes().find(|code| *code == Code::InvalidArgument).or_else(|| codes().next()).unwrap_or(Code::InvalidArgument)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Violation { path, message, .. }) in self.violations.iter().enumerate() {
            let (between, colon) = (if index > 0 { "; " } else { "" }, if path.is_empty() { "" } else { ": " });
            write!(f, "{between}{path}{colon}{message}")?;
        }
        Ok(())
    }
}

impl From<Vec<Violation>> for Refusal {
    fn from(violations: Vec<Violation>) -> Self {
        Self { violations }
    }
}

impl From<Violation> for Refusal {
    fn from(violation: Violation) -> Self {
        Self { violations: vec![violation] }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let code = refusal.code();
        let mut text = String::new();
        for (index, violation) in refusal.violations.iter().enumerate() {
            let sentence = violation.text();
            let separator = if index == 0 { "" } else { "; " };
            if index > 0 && text.len() + separator.len() + sentence.len() > TEXT_BYTES_MAX {
                let rest = refusal.violations.len() - index;
                write!(text, "; and {rest} more").expect("writing to a String can't fail");
                break;
            }
            text.push_str(separator);
            text.push_str(&sentence);
        }
        cut(&mut text, TEXT_BYTES_MAX + 32);
        if code != Code::InvalidArgument {
            return Self::new(code, text);
        }
        let mut bad = BadRequest::default();
        let mut bytes = 0;
        for violation in &refusal.violations {
            let mut field = FieldViolation { field: violation.path.clone(), description: violation.message.clone() };
            cut(&mut field.description, TEXT_BYTES_MAX);
            cut(&mut field.field, 512);
            bytes += field.encoded_len() + 4;
            if bytes > DETAILS_BYTES_MAX {
                break;
            }
            bad.field_violations.push(field);
        }
        let any = prost_types::Any {
            type_url: "type.googleapis.com/google.rpc.BadRequest".to_owned(),
            value: bad.encode_to_vec(),
        };
        let details = RpcStatus { code: code as i32, message: text.clone(), details: vec![any] };
        Self::with_details(code, text, details.encode_to_vec().into())
    }
}

/// Shortens to at most `bytes_max`, at a character's end.
fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RpcStatus {
    /// As in the trailer.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// As in the trailer.
    #[prost(string, tag = "2")]
    pub message: String,
    /// One `google.rpc.BadRequest`.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<prost_types::Any>,
}

/// `google.rpc.BadRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BadRequest {
    /// Every field that is wrong.
    #[prost(message, repeated, tag = "1")]
    pub field_violations: Vec<FieldViolation>,
}

/// `google.rpc.BadRequest.FieldViolation`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FieldViolation {
    /// Its path.
    #[prost(string, tag = "1")]
    pub field: String,
    /// What is wrong with it.
    #[prost(string, tag = "2")]
    pub description: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_input_names_every_field() {
        let refusal =
            Refusal::from(vec![Violation::at("spec.port", "is too large"), Violation::at("spec.mode", "is required")]);
        let status = Status::from(refusal);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "spec.port: is too large; spec.mode: is required");
        let details = RpcStatus::decode(status.details()).unwrap();
        let bad = BadRequest::decode(details.details[0].value.as_slice()).unwrap();
        let fields: Vec<_> = bad.field_violations.iter().map(|field| field.field.as_str()).collect();
        assert_eq!(fields, ["spec.port", "spec.mode"]);
    }

    #[test]
    fn very_many_reasons_fit_into_trailers() {
        let violations: Vec<_> =
            (0..10_000).map(|n| Violation::at(format!("changes[{n}].spec"), "ä".repeat(100))).collect();
        let status = Status::from(Refusal::from(violations));
        assert!(status.message().len() < 2_200 && status.message().contains("more"), "{}", status.message().len());
        assert!(status.details().len() < 10_000, "{}", status.details().len());
        let one = Status::from(Refusal::at("spec", "x".repeat(100_000)));
        assert!(one.message().len() < 2_200 && one.details().len() < 5_000);
    }

    #[test]
    fn bad_input_outweighs_other_reasons() {
        let violations = vec![
            Violation::coded(Code::PermissionDenied, "", "is part of the system"),
            Violation::at("spec", "is missing"),
        ];
        assert_eq!(Refusal::from(violations).code(), Code::InvalidArgument);
    }
}
