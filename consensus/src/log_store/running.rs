//! What drives the writer of the log: a thread, or a task of a simulated machine.

use std::thread;

use tokio::sync::mpsc;

use super::writer::{Job, Writer};
use crate::{error::Error, machine};

/// A writer at work. It ends when nobody can send it jobs any more.
pub enum Running {
    /// As in a program.
    Thread(thread::JoinHandle<()>),
    /// As in a simulation.
    #[cfg(feature = "simulation")]
    Task(tokio::task::JoinHandle<()>),
}

impl Running {
    /// Starts it.
    pub fn start(writer: Writer, jobs: mpsc::Receiver<Job>) -> std::io::Result<Self> {
        #[cfg(feature = "simulation")]
        if let Some(machine) = crate::simulation::Machine::current() {
            let of_writer = machine.clone();
            return Ok(Self::Task(machine.spawn(writer.run_on(of_writer, jobs))));
        }
        thread::Builder::new().name("raft-log".to_owned()).spawn(move || writer.run(jobs)).map(Self::Thread)
    }

    /// Waits for its end.
    pub async fn ended(self) -> Result<(), Error> {
        let panicked = || Error::Failed { reason: "the writer of the log panicked".to_owned() };
        match self {
            Self::Thread(thread) => machine::blocking(|| thread.join())
                .await
                .map_err(|error| Error::Failed { reason: error.to_string() })?
                .map_err(|_| panicked()),
            #[cfg(feature = "simulation")]
            Self::Task(task) => task.await.map_err(|_| panicked()),
        }
    }

    /// The same, for a thread that may wait. A task ends when the scheduler comes to it.
    pub fn join(self) -> thread::Result<()> {
        match self {
            Self::Thread(thread) => thread.join(),
            #[cfg(feature = "simulation")]
            Self::Task(task) => {
                task.abort();
                Ok(())
            }
        }
    }
}
