//! Callers: each asks one node after the other to write and read registers, and for leases of a rate limit.

use std::sync::Arc;

use octelium_consensus::{
    Ask, Command, Error, Outcome, Replica, Want, Write, simulation::Machine, state::grants::Term,
};
use tokio::{
    task::JoinHandle,
    time::{Duration, sleep, timeout},
};

use super::{Shared, spawn};
use crate::invariants::register::{Does, Operation};

const CLIENTS: u64 = 4;
const REGISTERS: u64 = 3;
/// A caller waits no longer.
const PATIENCE: Duration = Duration::from_secs(15);

pub fn begin(world: &Shared) -> Vec<JoinHandle<()>> {
    let client = |number| {
        let client = Client { world: Arc::clone(world), number, written: 0, asked: 0, last: None };
        spawn(client.run())
    };
    (1..=CLIENTS).map(client).collect()
}

struct Client {
    world: Shared,
    number: u64,
    written: u64,
    asked: u64,
    /// The last request that was acknowledged.
    last: Option<Command>,
}

/// What became of a request.
enum Became {
    Done(u64),
    /// It changed nothing, and won't.
    Nothing,
    Unknown,
}

impl Client {
    async fn run(mut self) {
        loop {
            let (wait, what) = {
                let mut world = self.world.lock();
                (world.random.exponential(60_000), world.random.below(100))
            };
            sleep(Duration::from_micros(wait)).await;
            if self.world.lock().is_over {
                return;
            }
            match what {
                0..55 => self.write().await,
                55..85 => self.read().await,
                85..93 => self.repeat().await,
                _ => self.ask().await,
            }
        }
    }

    /// A node that is there.
    fn pick(&self) -> Option<(Machine, Replica)> {
        let mut world = self.world.lock();
        let number = world.any_node();
        let node = &world.nodes[number];
        node.machine.clone().zip(node.replica.clone())
    }

    async fn propose(&self, command: Command) -> Became {
        let Some((machine, replica)) = self.pick() else { return Became::Nothing };
        let (request, at) = (command.request_id.clone(), replica.node_id());
        let proposing = machine.spawn(async move { replica.propose(command).await });
        let became = match timeout(PATIENCE, proposing).await {
            Ok(Ok(Ok(Outcome::Applied { index }))) => Became::Done(index),
            Ok(Ok(Ok(Outcome::Conflict { .. }) | Err(Error::NotLeader | Error::Invalid { .. }))) => Became::Nothing,
            _ => Became::Unknown,
        };
        let mut world = self.world.lock();
        let told = match became {
            Became::Done(index) => {
                if !request.is_empty() {
                    world.one_effect.acknowledged(&request, index);
                }
                format!("done at {index}")
            }
            Became::Nothing => "nothing changed".to_owned(),
            Became::Unknown => "unknown".to_owned(),
        };
        world.note(&format!("client {} at {at:x}: {request}: {told}", self.number));
        became
    }

    async fn write(&mut self) {
        self.written += 1;
        let value = self.number << 32 | self.written;
        let (register, began, has_id) = {
            let mut world = self.world.lock();
            (world.random.below(REGISTERS), world.now(), world.random.chance(70))
        };
        let write = Write::PutKey { name: format!("register/{register}"), sealed: value.to_be_bytes().to_vec() };
        let mut command = Command::new(1, vec![write]);
        if has_id {
            command.request_id = format!("{}-{}", self.number, self.written);
        }
        // Noted at once: the run may end before the answer comes.
        let operation = Operation { does: Does::Write(value), began, ended: None };
        self.world.lock().operations.entry(register).or_default().push(operation);
        let mut became = self.propose(command.clone()).await;
        let mut may_have = matches!(became, Became::Unknown);
        for _ in 0..3 {
            if !has_id || matches!(became, Became::Done(_)) {
                break;
            }
            became = self.propose(command.clone()).await;
            may_have |= matches!(became, Became::Unknown);
        }
        let is_done = matches!(became, Became::Done(_));
        let mut world = self.world.lock();
        let now = world.now();
        let operations = world.operations.entry(register).or_default();
        if is_done {
            operations.iter_mut().filter(|of| **of == operation).for_each(|of| of.ended = Some(now));
        } else if !may_have {
            operations.retain(|of| *of != operation);
        }
        world.report.writes += u64::from(is_done);
        if is_done && has_id {
            self.last = Some(command);
        }
    }

    /// Asks again for what was done: the answer must be the same, and nothing may happen.
    async fn repeat(&self) {
        if let Some(command) = self.last.clone() {
            self.propose(command).await;
        }
    }

    async fn read(&self) {
        let Some((machine, replica)) = self.pick() else { return };
        let (register, began) = {
            let mut world = self.world.lock();
            (world.random.below(REGISTERS), world.now())
        };
        let reading = machine.spawn(async move {
            replica.confirm().await?;
            let state = replica.state();
            let value = state.key(&format!("register/{register}")).map(|value| value.to_vec());
            Ok::<_, Error>(value)
        });
        let Ok(Ok(Ok(value))) = timeout(PATIENCE, reading).await else { return };
        let value = value.map_or(0, |value| value.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)));
        let mut world = self.world.lock();
        let ended = Some(world.now());
        world.report.reads += 1;
        world.note(&format!("client {} reads {value:x} in {register}", self.number));
        world.operations.entry(register).or_default().push(Operation { does: Does::Read(value), began, ended });
    }

    async fn ask(&mut self) {
        let Some((machine, replica)) = self.pick() else { return };
        self.asked += 1;
        let want = Want { counter: [1; 16], limit: 1_000, revision: 0, window: 1 << 32, want: 3, term: Term::Short };
        let ask = Ask {
            node: replica.node_id(),
            incarnation: self.number,
            sequence: self.asked,
            at: 0,
            asks: vec![want],
            returns: Vec::new(),
        };
        let asking = machine.spawn(async move { replica.ask(ask).await.is_ok() });
        let is_done = matches!(timeout(PATIENCE, asking).await, Ok(Ok(true)));
        self.world.lock().note(&format!("client {} asks: {is_done}", self.number));
    }
}
