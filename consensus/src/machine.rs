//! What a node takes from the machine below it: tasks, threads for what blocks, the time since its start, random numbers.
//!
//! In a program these are the real ones. A task of a simulated machine (`simulation.rs`) gets others, by which a run can be
//! repeated; without the feature `simulation` there are none of these, and nothing is asked.

use std::{future::Future, io};

use tokio::task::JoinHandle;

#[cfg(feature = "simulation")]
use crate::simulation::Machine;

/// Whether this is a task of a simulated machine.
pub fn is_simulated() -> bool {
    #[cfg(feature = "simulation")]
    return Machine::current().is_some();
    #[cfg(not(feature = "simulation"))]
    false
}

/// Starts a task; whoever calls holds what ends it.
pub fn spawn<F: Future<Output: Send> + Send + 'static>(future: F) -> JoinHandle<F::Output> {
    #[cfg(feature = "simulation")]
    if let Some(machine) = Machine::current() {
        return machine.spawn(future);
    }
    #[allow(clippy::disallowed_methods, reason = "this is where the tasks of this room are started")]
    tokio::spawn(future)
}

/// Does what waits for the disk or computes for long, where it holds up nobody.
///
/// # Errors
/// If the work panicked.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    if is_simulated() {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

/// Nanoseconds since this machine started, its sleep included: a clock that nobody sets and that only goes forward.
pub fn boot_time_ns() -> u64 {
    #[cfg(feature = "simulation")]
    if let Some(machine) = Machine::current() {
        return machine.boot_time_ns();
    }
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or_default())
}

/// Fills bytes that nobody can guess.
///
/// # Errors
/// If the system has no random numbers.
pub fn fill_random(bytes: &mut [u8]) -> Result<(), aws_lc_rs::error::Unspecified> {
    #[cfg(feature = "simulation")]
    if let Some(machine) = Machine::current() {
        bytes.chunks_mut(8).for_each(|chunk| chunk.copy_from_slice(&machine.random().to_le_bytes()[..chunk.len()]));
        return Ok(());
    }
    aws_lc_rs::rand::fill(bytes)
}

/// A request id that nobody else makes.
pub fn request_id() -> String {
    #[cfg(feature = "simulation")]
    if let Some(machine) = Machine::current() {
        return format!("{:016x}{:016x}", machine.random(), machine.random());
    }
    uuid::Uuid::new_v4().to_string()
}
