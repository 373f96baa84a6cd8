//! A node: its disk, and the machine that runs on it just now.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context;
use octelium_consensus::{
    Error, Options, Peers, Replica, Start,
    simulation::{Drive, Machine},
};
use tokio::{
    task::JoinHandle,
    time::{Duration, sleep},
};

use super::{Shared, network::Port};

/// A seat is given away after this silence.
const VOTER_GRACE: Duration = Duration::from_secs(3);
/// What ended has let go of the directory after so many tries.
const TRIES: usize = 1_000;

pub struct Node {
    pub directory: PathBuf,
    pub drive: Drive,
    pub machine: Option<Machine>,
    pub replica: Option<Replica>,
    pub id: u64,
    /// Counts its starts.
    pub starts: u64,
    /// The last index that was seen.
    pub seen: u64,
    /// It was removed from the group, and isn't started any more.
    pub is_gone: bool,
    pub panics: u64,
}

impl Node {
    pub fn is_running(&self) -> bool {
        self.machine.as_ref().is_some_and(|machine| !machine.is_off())
    }

    /// Ends its process; what it wrote stays with the system.
    pub fn switch_off(&mut self) {
        if let Some(machine) = self.machine.take() {
            machine.switch_off();
            self.panics += machine.panics();
        }
        self.replica = None;
    }
}

pub fn address(number: usize) -> String {
    format!("n{number}")
}

/// A founder and two to four others.
pub async fn found(world: &Shared) -> anyhow::Result<()> {
    add(world)?;
    start(world, 0, Start::Found).await?;
    let others = 2 + world.lock().random.below(3);
    for _ in 0..others {
        let number = add(world)?;
        start(world, number, Start::Join).await?;
        join(world, number, 0).await;
    }
    Ok(())
}

/// A new disk.
pub fn add(world: &Shared) -> anyhow::Result<usize> {
    let mut world = world.lock();
    let number = world.nodes.len();
    let directory = world.directory.join(address(number));
    let drive = Drive::new(world.directory.join(format!("graves-{number}")))?;
    world.nodes.push(Node {
        directory,
        drive,
        machine: None,
        replica: None,
        id: 0,
        starts: 0,
        seen: 0,
        is_gone: false,
        panics: 0,
    });
    Ok(number)
}

/// Asks one node to take another in.
pub async fn join(world: &Shared, new: usize, old: usize) -> bool {
    let (id, asked) = {
        let world = world.lock();
        let (Some(machine), Some(replica)) = (&world.nodes[old].machine, &world.nodes[old].replica) else {
            return false;
        };
        let (replica, id) = (replica.clone(), world.nodes[new].id);
        (id, machine.spawn(async move { replica.add_member(id, &address(new)).await }))
    };
    let joined = tokio::time::timeout(Duration::from_secs(20), asked).await;
    let is_joined = matches!(joined, Ok(Ok(Ok(()))));
    world.lock().note(&format!("n{new} ({id:x}) is taken in: {is_joined}"));
    is_joined
}

/// Starts a node; if its machine is switched off meanwhile, it isn't running afterwards.
pub async fn start(world: &Shared, number: usize, start: Start) -> anyhow::Result<()> {
    for _ in 0..TRIES {
        let (machine, options) = boot(world, number, start);
        let created = machine.spawn(async move { Replica::create(options).await }).await;
        match created {
            Ok(Ok(replica)) => {
                let readying = take(world, number, &machine, replica);
                if start == Start::Found {
                    readying.await.context("the founder ended")??;
                }
                return Ok(());
            }
            Ok(Err(Error::Locked { .. })) => {
                world.lock().nodes[number].switch_off();
                sleep(Duration::from_millis(1)).await;
            }
            Ok(Err(error)) => {
                refuse(world, number, &machine, error);
                return Ok(());
            }
            Err(_) => {
                world.lock().nodes[number].switch_off();
                return Ok(());
            }
        }
    }
    world.lock().breaks(format!("starts again: n{number} still holds its directory"));
    Ok(())
}

fn boot(world: &Shared, number: usize, start: Start) -> (Machine, Options) {
    let mut held = world.lock();
    let (random, mistake) = (held.random.next(), held.mistake);
    let node = &mut held.nodes[number];
    node.starts += 1;
    let machine = Machine::new(node.drive.clone(), random, mistake);
    node.machine = Some(machine.clone());
    let peers = Peers {
        link: Arc::new(Port { world: Arc::downgrade(world), from: number }),
        address: address(number),
        seats: 5,
        voter_grace: VOTER_GRACE,
    };
    let directory = Options::new(&node.directory);
    (machine, Options { snapshot_after: 40, segment_bytes: 4_096, peers: Some(peers), start, ..directory })
}

fn take(world: &Shared, number: usize, machine: &Machine, replica: Replica) -> JoinHandle<Result<(), Error>> {
    let mut world = world.lock();
    world.note(&format!("n{number} started as {:x}", replica.node_id()));
    let node = &mut world.nodes[number];
    node.id = replica.node_id();
    // It may have been switched off meanwhile.
    if node.is_running() {
        node.replica = Some(replica.clone());
    }
    machine.spawn(async move { replica.ready().await })
}

fn refuse(world: &Shared, number: usize, machine: &Machine, error: Error) {
    let mut world = world.lock();
    let is_off = machine.is_off();
    if !is_off {
        world.nodes[number].is_gone = true;
        let error = anyhow::Error::from(error);
        world.breaks(format!("starts again: n{number} doesn't: {error:#}"));
    }
    world.nodes[number].switch_off();
}
