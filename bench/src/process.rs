//! A measured process: started on core 0, its CPU time read from the scheduler, stopped when dropped.

use std::{
    fs,
    process::{Child, Command},
    time::Duration,
};

use anyhow::{Context, Result};

/// See the module.
pub struct Process(Child);

impl Process {
    /// Starts `program` on core 0.
    pub fn start(program: &str, arguments: &[&str]) -> Result<Self> {
        let child = Command::new("taskset").args(["-c", "0", program]).args(arguments).spawn();
        Ok(Self(child.with_context(|| format!("starting {program}"))?))
    }

    /// The program's process: taskset becomes what it starts.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// CPU time of all threads of the process and its children so far.
    pub fn cpu(&self) -> Result<Duration> {
        let mut total = 0;
        for process in family(self.0.id())? {
            for thread in fs::read_dir(format!("/proc/{process}/task"))? {
                let text = fs::read_to_string(thread?.path().join("schedstat"))?;
                let used = text.split_whitespace().next().context("schedstat has no first field")?;
                total += used.parse::<u64>()?;
            }
        }
        Ok(Duration::from_nanos(total))
    }
}

fn family(parent: u32) -> Result<Vec<u32>> {
    let mut found = vec![parent];
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    for child in children.split_whitespace() {
        found.extend(family(child.parse()?)?);
    }
    Ok(found)
}

impl Drop for Process {
    fn drop(&mut self) {
        let pid = self.0.id().to_string();
        // SIGTERM, so that nginx takes its worker along.
        Command::new("kill").arg(&pid).status().ok();
        self.0.wait().ok();
    }
}
