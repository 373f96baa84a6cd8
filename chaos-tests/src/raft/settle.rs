//! The end of a run: nothing fails any more, and soon all must be well.

use octelium_consensus::{Command, Outcome, Write};
use tokio::time::{Duration, Instant, sleep, timeout};

use super::{Shared, faults};

/// So long it may take until all is well.
const WITHIN: Duration = Duration::from_secs(60);
/// A write may take so long then.
const WRITE_WITHIN: Duration = Duration::from_secs(12);

pub async fn settle(world: &Shared) -> anyhow::Result<()> {
    let count = {
        let mut world = world.lock();
        world.heal();
        world.nodes.iter().filter_map(|node| node.machine.as_ref()).for_each(|machine| {
            machine.resume();
            machine.switch_off_at_call(u64::MAX);
        });
        world.nodes.len()
    };
    let ends = Instant::now() + WITHIN;
    let mut why = "nothing was looked at".to_owned();
    while Instant::now() < ends {
        faults::bury(world);
        for number in 0..count {
            faults::restart(world, number).await;
        }
        match all_is_well(world).await {
            Ok(()) => {
                world.lock().note("all is well");
                return Ok(());
            }
            Err(reason) => why = reason,
        }
        sleep(Duration::from_millis(500)).await;
    }
    world.lock().breaks(format!("heals: after {WITHIN:?} without faults {why}"));
    Ok(())
}

/// Every member writes, and then all have the same state.
async fn all_is_well(world: &Shared) -> Result<(), String> {
    world.lock().is_over = true;
    let nodes: Vec<_> = {
        let world = world.lock();
        let running = |(number, node): (usize, &super::Node)| {
            Some((number, node.machine.clone()?, node.replica.clone()?)).filter(|_| !node.is_gone)
        };
        world.nodes.iter().enumerate().filter_map(running).collect()
    };
    let (_, _, furthest) =
        nodes.iter().max_by_key(|(_, _, replica)| replica.state().index()).ok_or("nobody is there")?;
    let members: Vec<u64> = furthest.known_members().into_iter().map(|member| member.id).collect();
    let nodes: Vec<_> = nodes.into_iter().filter(|(_, _, replica)| members.contains(&replica.node_id())).collect();
    for (number, machine, replica) in &nodes {
        let replica = replica.clone();
        let write = Write::PutKey { name: "settled".to_owned(), sealed: vec![1] };
        let writing = machine.spawn(async move { replica.propose(Command::new(1, vec![write])).await });
        match timeout(WRITE_WITHIN, writing).await {
            Ok(Ok(Ok(Outcome::Applied { .. }))) => {}
            other => return Err(format!("n{number} doesn't write: {other:?}")),
        }
    }
    for _ in 0..50 {
        let states: Vec<_> = nodes.iter().map(|(_, _, replica)| replica.state()).collect();
        if states.iter().all(|state| state.index() == states[0].index()) {
            let hashes: Vec<_> = states.iter().map(|state| state.hash()).collect();
            return match hashes.windows(2).all(|pair| pair[0] == pair[1]) {
                true => Ok(()),
                false => Err("the nodes have different states at the same entry".to_owned()),
            };
        }
        sleep(Duration::from_millis(20)).await;
    }
    Err("the nodes don't reach the same entry".to_owned())
}
