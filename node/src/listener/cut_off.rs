//! Tells of connections that were cut off for a flood without becoming a flood of lines itself.

use std::{cell::Cell, fmt::Display};

/// The first is told at once, those after it as a number, now and then.
#[derive(Default)]
pub struct CutOff {
    is_told: Cell<bool>,
    untold: Cell<u64>,
}

impl CutOff {
    /// One was cut off.
    pub fn note(&self, client: &str, error: &dyn Display) {
        if self.is_told.replace(true) {
            self.untold.set(self.untold.get() + 1);
            tracing::debug!(%error, %client, "a connection was cut off");
        } else {
            tracing::warn!(%error, %client, "a connection was cut off");
        }
    }

    /// To be called now and then.
    pub fn tell(&self) {
        match self.untold.take() {
            0 => self.is_told.set(false),
            connections => tracing::warn!(connections, "more connections were cut off for floods"),
        }
    }
}
