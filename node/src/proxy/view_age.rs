//! How old the views may be. A node that hears no leader doesn't learn whom it may not let in any more.

use std::time::Duration;

use octelium_consensus::Freshness;

use super::respond::{Code, Rejection};

/// The age of this node's views, and its bound.
#[derive(Clone)]
pub struct ViewAge {
    /// When a leader was last heard.
    pub freshness: Freshness,
    /// `viewAgeMax`.
    pub max: Duration,
}

impl ViewAge {
    /// Whether nobody can say any more which Sessions still count.
    pub fn is_too_old(&self) -> bool {
        self.freshness.age() > self.max
    }

    /// The same as a refusal.
    ///
    /// # Errors
    /// `VIEW_TOO_OLD`.
    pub fn check(&self) -> Result<(), Rejection> {
        if self.is_too_old() {
            return Err(Rejection::new(Code::ViewTooOld, "no leader was heard within viewAgeMax"));
        }
        Ok(())
    }
}
