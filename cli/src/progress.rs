//! A sign of life while something takes long, on stderr and only where that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Between two pictures.
const TICK: Duration = Duration::from_millis(120);

/// Shown until dropped.
pub struct Progress(ProgressBar);

impl Progress {
    /// Shows `text` beside something that moves.
    pub fn start(text: String) -> Self {
        // Draws to stderr, and nothing where that isn't a terminal.
        let bar = ProgressBar::new_spinner().with_message(text);
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// Shows how much of `total` bytes is done.
    pub fn bytes(text: String, total: u64) -> Self {
        let bar = ProgressBar::new(total).with_message(text);
        // A template that can't be read would only look different.
        if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {bytes} of {total_bytes}") {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// Shows another text.
    pub fn say(&self, text: String) {
        self.0.set_message(text);
    }

    /// `done` more bytes are done.
    pub fn advance(&self, done: u64) {
        self.0.inc(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
