//! What must hold in every run: each promise in a file of its own, each shown by a test to catch a mistake. `answered`,
//! `answered_window`, `register` and `revoked` judge real nodes by what their callers saw, the others see into simulated ones.

pub(crate) mod answered;
pub(crate) mod answered_window;
mod credited_once;
pub(crate) mod equal_states;
mod load_admitted;
pub(crate) mod log_time;
pub(crate) mod one_effect;
pub(crate) mod one_reign;
pub(crate) mod register;
pub(crate) mod revoked;
mod sequential_client;
mod spent_of_granted;
mod window;

use octelium_consensus::{Ask, State};

use crate::sim::Scenario;

/// A request that was admitted.
#[derive(Debug, Clone, Copy)]
pub struct Admitted {
    /// Real time, in nanoseconds.
    pub at: u64,
    /// Where.
    pub node: usize,
    /// The start of that node.
    pub incarnation: u64,
    /// The number of the limit.
    pub limit: usize,
}

/// Sentences about what was broken; after the first few of a sort nothing new comes.
#[derive(Debug, Default)]
pub(crate) struct Broken(pub(crate) Vec<String>);

impl Broken {
    fn add(&mut self, sentence: impl FnOnce() -> String) {
        if self.0.len() < 3 {
            self.0.push(sentence());
        }
    }
}

/// All that watch a run.
pub(crate) struct Invariants {
    window: window::Window,
    spent_of_granted: spent_of_granted::SpentOfGranted,
    credited_once: credited_once::CreditedOnce,
    equal_states: equal_states::EqualStates,
    load_admitted: Option<load_admitted::LoadAdmitted>,
    sequential_client: Option<sequential_client::SequentialClient>,
    /// So many entries the furthest node has applied.
    furthest: usize,
}

impl Invariants {
    pub(crate) fn new(scenario: Scenario, limits: &[crate::sim::Limit], nodes: usize) -> Self {
        let load = || load_admitted::LoadAdmitted::new(limits[0].rule.limit, limits[0].window());
        let client = || sequential_client::SequentialClient::new(limits[0].rule.limit, limits[0].window());
        Self {
            window: window::Window::new(limits),
            spent_of_granted: spent_of_granted::SpentOfGranted::new(limits),
            credited_once: credited_once::CreditedOnce::default(),
            equal_states: equal_states::EqualStates::new(nodes),
            load_admitted: (scenario == Scenario::Load).then(load),
            sequential_client: (scenario == Scenario::Hop).then(client),
            furthest: 0,
        }
    }

    pub(crate) fn admitted(&mut self, admitted: Admitted) {
        self.window.admitted(admitted);
        self.spent_of_granted.admitted(admitted);
        if let Some(load) = &mut self.load_admitted {
            load.admitted(admitted.at);
        }
        if let Some(client) = &mut self.sequential_client {
            client.admitted(admitted.at);
        }
    }

    pub(crate) fn refused(&mut self, at: u64, limit: usize) {
        if limit != 0 {
            return;
        }
        if let Some(load) = &mut self.load_admitted {
            load.refused(at);
        }
        if let Some(client) = &mut self.sequential_client {
            client.refused(at);
        }
    }

    /// A node applied the entry after `index` others.
    pub(crate) fn applied(&mut self, node: usize, index: usize, ask: Option<&Ask>, state: &State) {
        self.equal_states.applied(node, index, state);
        if index < self.furthest {
            return;
        }
        self.furthest = index + 1;
        if let Some(ask) = ask {
            self.spent_of_granted.applied(ask, state);
            self.credited_once.applied(ask, state);
        }
    }

    pub(crate) fn broken(self) -> Vec<String> {
        let all = [
            Some(self.window.broken),
            Some(self.spent_of_granted.broken),
            Some(self.credited_once.broken),
            Some(self.equal_states.broken),
            self.load_admitted.map(|load| load.broken),
            self.sequential_client.map(|client| client.broken),
        ];
        all.into_iter().flatten().flat_map(|broken| broken.0).collect()
    }
}
