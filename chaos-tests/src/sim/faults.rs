//! What breaks, and how it is mended.

use super::{MS, SECOND, World, event::Event};

impl World {
    pub(super) fn fault(&mut self) {
        let next = SECOND / 5 + self.random.below(2 * SECOND);
        self.later(next, Event::Fault);
        self.faults += 1;
        let (now, count) = (self.now, self.nodes.len() as u64);
        let lasts = 50 * MS + self.random.below(4 * SECOND);
        let id = self.random.below(count) as usize;
        match self.random.below(8) {
            0 | 1 => self.crash(id, lasts),
            2 | 3 => {
                let members = self.random.next();
                for (at, node) in self.nodes.iter_mut().enumerate() {
                    node.group = u8::from(members >> at & 1 == 1);
                }
                self.later(lasts, Event::Heal);
            }
            4 => {
                let node = &mut self.nodes[id];
                node.paused_until = node.paused_until.max(now + lasts);
            }
            5 => {
                // The leader is put aside, or just voted out: it goes on until it hears of it.
                if let Some(leader) = self.leader {
                    if self.random.chance(50) {
                        let node = &mut self.nodes[leader];
                        node.paused_until = node.paused_until.max(now + lasts);
                    } else {
                        self.elect();
                    }
                }
            }
            6 => self.nodes[id].clock.set_wall(&mut self.random),
            _ => {
                let node = &mut self.nodes[id];
                node.clock.drift(now, &mut self.random);
                self.arm(id);
            }
        }
    }

    fn crash(&mut self, id: usize, lasts: u64) {
        if self.nodes[id].up {
            self.nodes[id].up = false;
            self.later(lasts, Event::Restart { node: id });
        }
    }

    pub(super) fn heal(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.group = 0);
    }

    /// A node starts again, with what it had applied, or with all before a crash of its leader.
    pub(super) fn restart(&mut self, id: usize) {
        let mistake = self.mistake;
        self.nodes[id].start_anew(&mut self.random, mistake);
        if self.leader == Some(id) {
            // It doesn't lead the reign in which it crashed any more; what it had appended is on its disk, and lost if
            // another one is elected. Nobody else has been.
            self.elect();
        }
    }
}
