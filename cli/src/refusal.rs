//! Answers of the server that are not what was asked for, and the details in them.

use std::{error::Error as _, fmt, sync::Arc};

use prost::Message;
use tonic::{Code, Status};

use crate::{connect, output::plain};

/// One thing in a request that the server refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Where, e.g. `changes[3].spec.config.upstream.url`; may be empty.
    pub field: String,
    /// What is wrong there.
    pub description: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => f.write_str(&self.description),
            field => write!(f, "{field}: {}", self.description),
        }
    }
}

/// A call that failed.
#[derive(Debug)]
pub struct Refusal {
    status: Status,
    violations: Vec<Violation>,
}

impl Refusal {
    /// What kind of failure it is.
    pub fn code(&self) -> Code {
        self.status.code()
    }

    /// Whether it says for certain that nothing was changed.
    pub fn is_settled(&self) -> bool {
        matches!(
            self.status.code(),
            Code::InvalidArgument
                | Code::NotFound
                | Code::AlreadyExists
                | Code::PermissionDenied
                | Code::FailedPrecondition
                | Code::OutOfRange
                | Code::ResourceExhausted
                | Code::Unimplemented
                | Code::Unauthenticated
        )
    }

    /// Whether an earlier attempt at the same call was sent and never answered: it may have done what was asked for.
    pub fn is_repeated(&self) -> bool {
        is_repeated(&self.status)
    }

    /// Whether there was no connection, so that the server can't have done anything.
    pub fn is_unsent(&self) -> bool {
        self.connection().is_some()
    }

    /// Why there was no connection, if there was none.
    pub fn connection(&self) -> Option<&connect::Error> {
        not_connected(&self.status)
    }

    /// Everything in the request that the server named as wrong, for whoever tells of it; empty where it named nothing.
    pub fn take_violations(&mut self) -> Vec<Violation> {
        std::mem::take(&mut self.violations)
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self { violations: violations(status.details()), status }
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without a connection there is no answer to show, only the reason.
        if let Some(error) = not_connected(&self.status) {
            write!(f, "{}", plain(&error.to_string()))?;
            let mut cause = error.source();
            while let Some(error) = cause {
                write!(f, ": {}", plain(&error.to_string()))?;
                cause = error.source();
            }
            return Ok(());
        }
        write!(f, "{}", words(self.status.code()))?;
        if !self.status.message().is_empty() {
            write!(f, ": {}", plain(self.status.message()))?;
        }
        Ok(())
    }
}

/// A call was sent before this attempt at it, and its answer was lost.
#[derive(Debug, thiserror::Error)]
#[error("an earlier attempt was not answered")]
struct Repeated;

/// The answer to a call that was sent before.
pub fn repeated(mut status: Status) -> Status {
    // What has a cause already is no answer of the server.
    if status.source().is_none() {
        status.set_source(Arc::new(Repeated));
    }
    status
}

/// Whether it is an answer to a call that was sent before.
pub fn is_repeated(status: &Status) -> bool {
    status.source().is_some_and(|cause| cause.is::<Repeated>())
}

/// Adds that it may be done, where the answer to a repeated call says only that there is nothing to do any more.
pub fn perhaps_done(error: anyhow::Error) -> anyhow::Error {
    let is_ambiguous = error.downcast_ref::<Refusal>().is_some_and(|refusal| {
        refusal.is_repeated() && matches!(refusal.code(), Code::AlreadyExists | Code::NotFound | Code::OutOfRange)
    });
    if is_ambiguous { error.context("an earlier attempt may have done it") } else { error }
}

/// Why there was no connection, if that is why the call failed.
pub fn not_connected(status: &Status) -> Option<&connect::Error> {
    let mut cause = status.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<connect::Error>() {
            return Some(error);
        }
        cause = error.source();
    }
    None
}

fn words(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown error",
        Code::InvalidArgument => "invalid argument",
        Code::DeadlineExceeded => "deadline exceeded",
        Code::NotFound => "not found",
        Code::AlreadyExists => "already exists",
        Code::PermissionDenied => "permission denied",
        Code::ResourceExhausted => "resource exhausted",
        Code::FailedPrecondition => "failed precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out of range",
        Code::Unimplemented => "not implemented by the server",
        Code::Internal => "internal error",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

/// `google.rpc.Status`
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// `google.rpc.BadRequest`
#[derive(Clone, PartialEq, Message)]
struct BadRequest {
    #[prost(message, repeated, tag = "1")]
    field_violations: Vec<FieldViolation>,
}

/// `google.rpc.BadRequest.FieldViolation`
#[derive(Clone, PartialEq, Message)]
struct FieldViolation {
    #[prost(string, tag = "1")]
    field: String,
    #[prost(string, tag = "2")]
    description: String,
}

/// The violations in a status's details; details that can't be read only make the answer shorter.
fn violations(details: &[u8]) -> Vec<Violation> {
    let Ok(status) = RpcStatus::decode(details) else { return Vec::new() };
    status
        .details
        .into_iter()
        .filter(|any| any.type_url.rsplit('/').next() == Some("google.rpc.BadRequest"))
        .filter_map(|any| BadRequest::decode(any.value.as_slice()).ok())
        .flat_map(|request| request.field_violations)
        .map(|violation| Violation { field: violation.field, description: violation.description })
        .collect()
}

/// Splits `changes[3].spec.port` into the change's index and the path in its resource.
pub fn change_of(field: &str) -> Option<(usize, &str)> {
    let (index, path) = field.strip_prefix("changes[")?.split_once(']')?;
    let index = index.parse().ok()?;
    match path.strip_prefix('.') {
        Some(path) => Some((index, path)),
        None if path.is_empty() => Some((index, "")),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details(type_url: &str) -> Vec<u8> {
        let violation =
            |field: &str, description: &str| FieldViolation { field: field.into(), description: description.into() };
        let request =
            BadRequest { field_violations: vec![violation("changes[0].spec", "is missing"), violation("", "odd")] };
        let any = prost_types::Any { type_url: type_url.into(), value: request.encode_to_vec() };
        let other = prost_types::Any { type_url: "type.googleapis.com/google.rpc.Help".into(), value: vec![0xff] };
        RpcStatus { code: 3, message: "refused".into(), details: vec![other, any] }.encode_to_vec()
    }

    #[test]
    fn field_violations_are_found_among_the_details() {
        let found = violations(&details("type.googleapis.com/google.rpc.BadRequest"));
        let expected = [("changes[0].spec", "is missing"), ("", "odd")];
        assert_eq!(found, expected.map(|(f, d)| Violation { field: f.into(), description: d.into() }));
        assert_eq!(violations(&details("type.googleapis.com/google.rpc.Other")), []);
        assert_eq!(violations(b"\xff\xff"), []);
        assert_eq!(violations(b""), []);
    }

    #[test]
    fn a_field_names_the_change_and_the_path_in_it() {
        for (field, expected) in [
            ("changes[3].spec.config.upstream.url", Some((3, "spec.config.upstream.url"))),
            ("changes[12]", Some((12, ""))),
            ("changes[0].spec.rules[1].effect", Some((0, "spec.rules[1].effect"))),
            ("changes[x].spec", None),
            ("changes[-1].spec", None),
            ("changes[1]spec", None),
            ("spec.port", None),
            ("", None),
        ] {
            assert_eq!(change_of(field), expected, "{field}");
        }
    }

    #[test]
    fn what_an_earlier_attempt_may_have_done_is_told() {
        let told = |status: Status| format!("{:#}", perhaps_done(Refusal::from(status).into()));
        assert_eq!(told(Status::not_found("no")), "not found: no");
        assert_eq!(told(repeated(Status::not_found("no"))), "an earlier attempt may have done it: not found: no");
        assert_eq!(told(repeated(Status::invalid_argument("no"))), "invalid argument: no");
    }

    #[test]
    fn what_the_server_says_cannot_steer_the_terminal() {
        let refusal = Refusal::from(Status::not_found("no \u{1b}[2Jsuch\nthing"));
        assert_eq!(refusal.to_string(), "not found: no \\u{1b}[2Jsuch\nthing");
    }
}
