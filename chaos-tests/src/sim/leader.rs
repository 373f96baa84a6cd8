//! Raft as far as it matters here: one order of entries, leaders that come and go, and what they lose with it.

use octelium_consensus::{Ask, Command, Reign, state::apply};

use super::{Entry, MS, Mistake, World, event::Event};

impl World {
    /// Whether a node can talk to a majority that is awake.
    fn has_quorum(&self, id: usize) -> bool {
        let awake = |id: usize| self.nodes[id].up && self.nodes[id].paused_until <= self.now;
        let reached = (0..self.nodes.len()).filter(|other| awake(*other) && self.connected(id, *other)).count();
        awake(id) && reached * 2 > self.nodes.len()
    }

    pub(super) fn election_due(&mut self) {
        if !self.leader.is_some_and(|leader| self.has_quorum(leader)) {
            self.elect();
        } else {
            self.later(150 * MS, Event::Elect);
        }
    }

    /// A new leader, if there can be one. What the one before appended, another node may have, up to some entry.
    pub(super) fn elect(&mut self) {
        let after = 150 * MS + self.random.below(150 * MS);
        self.later(after, Event::Elect);
        let candidates: Vec<usize> = (0..self.nodes.len()).filter(|id| self.has_quorum(*id)).collect();
        let former = self.leader.take();
        if candidates.is_empty() {
            self.leader = former; // it may come back before anybody else can lead
            return;
        }
        let elected = candidates[self.random.below(candidates.len() as u64) as usize];
        if let Some(former) = former {
            let pending = &self.nodes[former].pending;
            let shared = pending.iter().take_while(|(_, shared)| *shared).count() as u64;
            let survive = self.random.below(shared + 1) as usize;
            let survivors: Vec<Entry> = pending.iter().take(survive).map(|(entry, _)| entry.clone()).collect();
            self.log.extend(survivors);
        }
        self.reign += 1;
        let reign: Reign = (self.reign, elected as u64);
        self.log.push(Entry { reign, ask: None });
        self.leader = Some(elected);
        let node = &mut self.nodes[elected];
        node.pending.clear();
        node.commit_due = false;
        node.leads = Some(reign);
        node.follows = Some(elected);
        if self.reign == 1 {
            self.later(20 * MS, Event::Heartbeat);
        }
        self.apply_committed(elected);
        self.tell_all();
    }

    /// An ask reaches a node: it appends it if it takes itself for the leader, right or wrong.
    pub(super) fn ask_arrives(&mut self, id: usize, ask: Ask, hops: u8) {
        let now = self.now;
        let node = &mut self.nodes[id];
        if !node.up {
            return;
        }
        let Some(reign) = node.leads else {
            let next = node.follows.filter(|next| *next != id && hops == 0);
            if let Some(next) = next.filter(|next| self.connected(id, *next)) {
                let after = self.travel();
                return self.later(after, Event::AskArrives { node: next, ask, hops: 1 });
            }
            return self.reply(id, &ask, false);
        };
        let clock = node.clock.monotonic(now);
        let at = match self.mistake {
            Some(Mistake::WallClock) => node.clock.wall(now),
            Some(Mistake::FormerReign) => {
                let log_time = node.state.grants().log_time();
                let (since, base) = *node.first_clock.get_or_insert((clock, log_time));
                base + (clock - since)
            }
            _ => match node.log_clock.stamp(reign, clock) {
                Some(at) => at,
                None => return self.reply(id, &ask, false),
            },
        };
        let entry = Entry { reign, ask: Some(Ask { at, ..ask }) };
        let shared = (0..self.nodes.len()).any(|other| other != id && self.connected(id, other));
        let node = &mut self.nodes[id];
        node.pending.push_back((entry, shared));
        if !node.commit_due {
            node.commit_due = true;
            let after = 2 * MS + self.travel() + self.travel();
            self.later(after, Event::Commit { node: id, reign });
        }
    }

    /// Tells the asker what became of its ask, if the message gets there.
    fn reply(&mut self, from: usize, ask: &Ask, applied: bool) {
        let to = ask.node as usize;
        if from == to || self.connected(from, to) {
            let after = if from == to { 1 } else { self.travel() };
            let (incarnation, sequence) = (ask.incarnation, ask.sequence);
            self.later(after, Event::Answer { node: to, incarnation, sequence, applied });
        }
    }

    pub(super) fn commit(&mut self, id: usize, reign: Reign) {
        if !self.nodes[id].up || self.nodes[id].leads != Some(reign) {
            return;
        }
        if self.leader != Some(id) || self.nodes[id].leads != Some((self.reign, id as u64)) || !self.has_quorum(id) {
            return self.later(20 * MS, Event::Commit { node: id, reign });
        }
        self.nodes[id].commit_due = false;
        let pending: Vec<Entry> = self.nodes[id].pending.drain(..).map(|(entry, _)| entry).collect();
        self.log.extend(pending.iter().cloned());
        self.apply_committed(id);
        for entry in pending {
            if let Some(ask) = entry.ask {
                self.reply(id, &ask, true);
            }
        }
        self.tell_all();
    }

    fn tell_all(&mut self) {
        let Some(leader) = self.leader else { return };
        for id in 0..self.nodes.len() {
            if id != leader && self.connected(leader, id) {
                let after = self.travel();
                self.later(after, Event::Deliver { node: id });
            }
        }
    }

    pub(super) fn heartbeat(&mut self) {
        self.later(50 * MS, Event::Heartbeat);
        if self.leader.is_some_and(|leader| self.nodes[leader].paused_until <= self.now) {
            self.tell_all();
        }
    }

    /// A node hears the leader: it follows it from now on, and knows what is committed.
    pub(super) fn deliver(&mut self, id: usize) {
        let Some(leader) = self.leader else { return };
        if !self.connected(leader, id) {
            return;
        }
        let node = &mut self.nodes[id];
        node.follows = Some(leader);
        if leader != id {
            node.leads = None;
            node.pending.clear();
            node.commit_due = false;
        }
        self.apply_committed(id);
    }

    /// Applies on a node what is committed.
    pub(super) fn apply_committed(&mut self, id: usize) {
        let now = self.now;
        let before = self.nodes[id].applied;
        for index in before..self.log.len() {
            let Entry { reign, mut ask } = self.log[index].clone();
            let node = &mut self.nodes[id];
            let clock = node.clock.monotonic(now);
            if self.mistake == Some(Mistake::OwnTime)
                && id == 1
                && let Some(ask) = &mut ask
            {
                ask.at += clock % MS;
            }
            if let Some(ask) = ask {
                apply(&mut node.state, index as u64 + 1, &Command::of_ask(ask));
            }
            node.log_clock.applied(reign, clock, node.state.grants().log_time());
            node.applied = index + 1;
            let entry = self.log[index].ask.as_ref();
            self.invariants.applied(id, index, entry, &self.nodes[id].state);
        }
        if self.nodes[id].applied > before {
            self.absorb(id);
        }
    }
}
