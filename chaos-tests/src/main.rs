//! Runs clusters under faults.

fn main() {}
