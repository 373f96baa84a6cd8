//! Whole clusters under faults: a seed sets their size, the faults and the load, and the invariants watch.
//!
//! [`sim`] runs the code that decides rate limits on many nodes in one process, on simulated clocks and a simulated network;
//! it reads no clock and no random numbers, so that a seed is all that is needed to see a run again. [`raft`] does the same with Raft and its
//! disks. [`real`] starts the program itself, several times, and does to it what happens to programs.

pub mod bench;
pub mod digest;
mod invariants;
pub mod raft;
pub mod real;
pub mod sim;
