//! What goes wrong, and when.

use std::sync::Arc;

use octelium_consensus::{Command, Start, Write, drained_key};
use tokio::time::{Duration, Instant, sleep};

use super::{Shared, World, node, spawn};

/// Breaks something every now and then until `ends`.
pub async fn until(world: &Shared, ends: Instant) -> anyhow::Result<()> {
    while Instant::now() < ends {
        let (wait, what) = {
            let mut world = world.lock();
            (100 + world.random.exponential(700), world.random.below(100))
        };
        sleep(Duration::from_millis(wait.min(4_000))).await;
        bury(world);
        let (number, lasts) = {
            let mut world = world.lock();
            world.report.faults += 1;
            let number = world.any_node();
            // Who leads is hit more often.
            let leader = world.nodes.iter().position(|node| node.replica.as_ref().is_some_and(|of| of.is_leader()));
            let number = leader.filter(|_| world.random.chance(40)).unwrap_or(number);
            (number, Duration::from_millis(50 + world.random.exponential(1_500).min(8_000)))
        };
        match what {
            0..22 => stop(world, number, true, lasts),
            22..30 => stop(world, number, false, lasts),
            30..34 => all_stop(world, lasts),
            34..46 => pause(world, number, lasts),
            46..56 => split(world),
            56..66 => one_way(world, number),
            66..76 => world.lock().slow(),
            76..88 => world.lock().heal(),
            88..92 => step_down(world, number),
            92..95 => drain(world, number),
            95..97 => remove(world, number),
            _ => take_in(world, number).await?,
        }
    }
    Ok(())
}

impl World {
    /// The network is as it should be.
    pub fn heal(&mut self) {
        (self.delay, self.lost) = (500, 0);
        self.cut.clear();
        self.note("the network is healed");
    }

    fn slow(&mut self) {
        self.delay = [2_000, 20_000, 200_000][self.random.below(3) as usize];
        self.lost = [0, 5, 30][self.random.below(3) as usize];
        self.note(&format!("the network takes {} µs and loses {} of 100", self.delay, self.lost));
    }
}

/// Machines that went off by themselves are dealt with.
pub fn bury(world: &Shared) {
    let count = world.lock().nodes.len();
    for number in 0..count {
        let is_off =
            world.lock().nodes[number].machine.as_ref().is_some_and(octelium_consensus::simulation::Machine::is_off);
        if is_off {
            off(world, number, true);
            restart_after(world, number, Duration::from_millis(500));
        }
    }
}

fn off(world: &Shared, number: usize, loses: bool) {
    let mut world = world.lock();
    world.nodes[number].switch_off();
    let random = world.random.next();
    let lost = match loses {
        true => world.nodes[number].drive.power_fails(random),
        false => Ok(0),
    };
    match lost {
        Ok(lost) => {
            world.report.lost += lost;
            world.note(&format!("n{number} is off; {lost} changes of its disk are lost"));
        }
        Err(error) => world.breaks(format!("the simulation can't go on: n{number}: {error}")),
    }
}

fn stop(world: &Shared, number: usize, loses: bool, lasts: Duration) {
    let calls = {
        let mut world = world.lock();
        let calls = 1 + world.random.below(30);
        world.random.chance(60).then_some(calls)
    };
    let machine = world.lock().nodes[number].machine.clone();
    match (machine, calls.filter(|_| loses)) {
        (Some(machine), Some(calls)) => {
            world.lock().note(&format!("n{number} goes off in {calls} calls of its disk"));
            machine.switch_off_at_call(calls);
        }
        (Some(_), None) => {
            off(world, number, loses);
            restart_after(world, number, lasts);
        }
        (None, _) => {}
    }
}

fn all_stop(world: &Shared, lasts: Duration) {
    let count = world.lock().nodes.len();
    for number in 0..count {
        if world.lock().nodes[number].machine.is_some() {
            off(world, number, true);
            restart_after(world, number, lasts);
        }
    }
}

fn restart_after(world: &Shared, number: usize, after: Duration) {
    let world = Arc::clone(world);
    spawn(async move {
        sleep(after).await;
        restart(&world, number).await;
    });
}

/// Starts a node that is to run and doesn't.
pub async fn restart(world: &Shared, number: usize) {
    let is_wanted = {
        let world = world.lock();
        let node = &world.nodes[number];
        node.machine.is_none() && !node.is_gone
    };
    if is_wanted && let Err(error) = node::start(world, number, Start::Join).await {
        world.lock().breaks(format!("starts again: n{number}: {error:#}"));
    }
}

fn pause(world: &Shared, number: usize, lasts: Duration) {
    let Some(machine) = world.lock().nodes[number].machine.clone() else { return };
    machine.pause();
    world.lock().note(&format!("n{number} pauses for {lasts:?}"));
    spawn(async move {
        sleep(lasts).await;
        machine.resume();
    });
}

fn split(world: &Shared) {
    let mut world = world.lock();
    let sides: Vec<bool> = (0..world.nodes.len()).map(|_| world.random.chance(50)).collect();
    for from in 0..sides.len() {
        world.cut.extend((0..sides.len()).filter(|to| sides[from] != sides[*to]).map(|to| (from, to)));
    }
    world.note(&format!("the network is split: {sides:?}"));
}

fn one_way(world: &Shared, number: usize) {
    let mut world = world.lock();
    let is_deaf = world.random.chance(50);
    for other in (0..world.nodes.len()).filter(|other| *other != number) {
        if world.random.chance(70) {
            world.cut.insert(if is_deaf { (other, number) } else { (number, other) });
        }
    }
    world.note(&format!("n{number} is {}", if is_deaf { "deaf" } else { "mute" }));
}

fn step_down(world: &Shared, number: usize) {
    let mut world = world.lock();
    let (Some(machine), Some(replica)) = (&world.nodes[number].machine, world.nodes[number].replica.clone()) else {
        return;
    };
    machine.spawn(async move { replica.step_down().await });
    world.note(&format!("n{number} is to step down"));
}

fn drain(world: &Shared, number: usize) {
    let mut world = world.lock();
    let (Some(machine), Some(replica)) = (&world.nodes[number].machine, world.nodes[number].replica.clone()) else {
        return;
    };
    let name = drained_key(replica.node_id());
    let write = match replica.state().key(&name).is_some() {
        true => Write::DeleteKey { name },
        false => Write::PutKey { name, sealed: vec![1] },
    };
    machine.spawn(async move { replica.propose(Command::new(1, vec![write])).await });
    world.note(&format!("n{number} is to be drained, or not any more"));
}

/// Asks a node to remove the next one.
fn remove(world: &Shared, number: usize) {
    let removing = {
        let mut world = world.lock();
        let present: Vec<usize> = (0..world.nodes.len()).filter(|of| !world.nodes[*of].is_gone).collect();
        let Some(leaving) = present.iter().copied().find(|of| *of > number) else { return };
        if present.len() <= 3 {
            return;
        }
        let (Some(machine), Some(replica)) = (&world.nodes[number].machine, world.nodes[number].replica.clone()) else {
            return;
        };
        let id = world.nodes[leaving].id;
        let removing = machine.spawn(async move { replica.remove_member(id).await.is_ok() });
        world.note(&format!("n{leaving} is to be removed"));
        (leaving, removing)
    };
    let world = Arc::clone(world);
    spawn(async move {
        let (leaving, removing) = removing;
        if matches!(removing.await, Ok(true)) {
            let mut world = world.lock();
            world.nodes[leaving].is_gone = true;
            world.nodes[leaving].switch_off();
            world.note(&format!("n{leaving} was removed"));
        }
    });
}

async fn take_in(world: &Shared, by: usize) -> anyhow::Result<()> {
    if world.lock().nodes.len() >= 8 {
        return Ok(());
    }
    let number = node::add(world)?;
    node::start(world, number, Start::Join).await?;
    let world = Arc::clone(world);
    spawn(async move { node::join(&world, number, by).await });
    Ok(())
}
