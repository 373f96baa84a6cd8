//! How much work one decision may cost.

use crate::EvalError;

/// What is left of the work that one decision may cost, in abstract units: about one per step of an expression and one per
/// 16 bytes that a string function looks at.
#[derive(Debug, Clone)]
pub struct Budget {
    left: u64,
}

impl Budget {
    /// What a whole decision may cost.
    pub const UNITS: u64 = 1_000_000;

    /// A full budget of [`Budget::UNITS`].
    pub fn new() -> Self {
        Self::of(Self::UNITS)
    }

    /// A budget of this many units.
    pub fn of(units: u64) -> Self {
        Self { left: units }
    }

    /// Units not spent yet.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Takes `units`, or everything and an error.
    pub(crate) fn spend(&mut self, units: u64) -> Result<(), EvalError> {
        match self.left.checked_sub(units) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(EvalError::Budget)
            }
        }
    }

    /// Takes `units` if that many are left; otherwise takes nothing and says no.
    pub(crate) fn spend_whole(&mut self, units: u64) -> bool {
        let left = self.left.checked_sub(units);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }

    /// Takes what looking at `bytes` bytes costs.
    pub(crate) fn spend_bytes(&mut self, bytes: usize) -> Result<(), EvalError> {
        self.spend(bytes as u64 / 16 + 1)
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new()
    }
}
