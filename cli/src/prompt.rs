//! Questions to whoever sits at the terminal, and never to a program.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::output::plain;

/// Whether somebody is there to answer: both the question and the answer go by the terminal.
pub fn possible() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks; anything but `y` or `yes` is a no.
///
/// # Errors
/// If the terminal can't be read.
pub fn confirmed(question: &str) -> io::Result<bool> {
    let mut stderr = io::stderr().lock();
    write!(stderr, "{} [y/N] ", plain(question))?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
