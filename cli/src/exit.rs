//! How a run ends: the codes that scripts read.

use tonic::Code;

use crate::{Usage, connect, refusal::Refusal};

/// Below the help of the program as a whole.
pub const HELP: &str = "\
Exit codes:
  0  everything that was asked for is done
  1  something failed or was refused
  2  the arguments, the environment or config.yaml ask for what can't be
  3  there is no such resource
  4  not logged in, or the Session or token is not accepted
  5  not allowed
  6  a conflict: the resource exists already, or somebody else changed it
  7  the server can't be reached or has no leader; trying later may help
  8  `apply --wait`: the change was made but isn't in effect everywhere yet

Results go to stdout, everything else to stderr. NO_COLOR=1 switches colours off.";

/// See [`HELP`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// No better word for it.
    Failed = 1,
    /// See [`Usage`].
    Usage = 2,
    /// There is no such resource.
    NotFound = 3,
    /// Nobody, or somebody unknown, calls.
    Unauthenticated = 4,
    /// The caller may not.
    Denied = 5,
    /// Something else came first.
    Conflict = 6,
    /// The server can't answer now.
    Unavailable = 7,
    /// Waited for as long as was asked.
    Timeout = 8,
}

/// A failure that is not an answer of the server, and that ends the run with a code of its own.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// The code.
    pub exit: Exit,
    /// What to say.
    pub text: String,
}

impl Failure {
    /// A failure that is said in one sentence.
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }
}

/// The code for a run that ended with `error`.
pub fn of(error: &anyhow::Error) -> Exit {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return failure.exit;
    }
    if error.is::<Usage>() {
        return Exit::Usage;
    }
    error.downcast_ref::<Refusal>().map_or(Exit::Failed, of_refusal)
}

fn of_refusal(refusal: &Refusal) -> Exit {
    match refusal.code() {
        // Whoever answers there is not the server, and waiting doesn't change that.
        _ if refusal.connection().is_some_and(|error| !is_unreachable(error)) => Exit::Failed,
        Code::NotFound => Exit::NotFound,
        Code::Unauthenticated => Exit::Unauthenticated,
        Code::PermissionDenied => Exit::Denied,
        Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition | Code::OutOfRange => Exit::Conflict,
        Code::Unavailable | Code::DeadlineExceeded => Exit::Unavailable,
        _ => Exit::Failed,
    }
}

fn is_unreachable(error: &connect::Error) -> bool {
    matches!(error, connect::Error::Tcp { .. } | connect::Error::Timeout { .. })
}

#[cfg(test)]
mod tests {
    use anyhow::Context;
    use tonic::Status;

    use super::*;

    #[test]
    fn answers_have_codes_also_below_their_context() {
        for (code, exit) in [
            (Code::NotFound, Exit::NotFound),
            (Code::Unauthenticated, Exit::Unauthenticated),
            (Code::PermissionDenied, Exit::Denied),
            (Code::AlreadyExists, Exit::Conflict),
            (Code::OutOfRange, Exit::Conflict),
            (Code::Unavailable, Exit::Unavailable),
            (Code::InvalidArgument, Exit::Failed),
            (Code::Unimplemented, Exit::Failed),
        ] {
            let answer: Result<(), Refusal> = Err(Status::new(code, "no").into());
            let error = answer.context("it did not work").unwrap_err();
            assert_eq!(of(&error), exit, "{code}");
        }
        assert_eq!(of(&Usage("no".into()).into()), Exit::Usage);
        assert_eq!(of(&Failure::new(Exit::Timeout, "too late").into()), Exit::Timeout);
        assert_eq!(of(&anyhow::anyhow!("no")), Exit::Failed);
    }

    #[test]
    fn the_help_names_every_code() {
        for exit in 1..=Exit::Timeout as u8 {
            assert!(HELP.contains(&format!("\n  {exit}  ")), "{exit}");
        }
    }
}
