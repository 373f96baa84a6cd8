//! One counter: what was spent and when it comes back, and what nodes hold.

use std::num::NonZeroU16;

use thin_vec::ThinVec;

use super::rules::{Term, grain_ns, surely, validity_ns};

/// So many moments of spending are told apart, or half as many as the limit has tokens if that is less, but at least these
/// few; further ones are put together, to the later time.
const SPENT_MAX: u64 = 128;
const SPENT_MIN: u64 = 8;

/// The time from a grant to its recall is kept in this unit, rounded up: up to some four minutes, twice the longest term.
const RECALL_UNIT_NS: u64 = 1 << 22;

/// Tokens that one start of one node may spend: see [`super::Grants::is_of_now`]. There are many of them, so it is kept small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Unique in this log.
    pub id: u64,
    /// Who holds it.
    pub node: u64,
    /// The log time of the grant, in nanoseconds.
    pub given_at: u64,
    /// The ask that it answers, the low half of its number; its validity counts from the sending of that.
    pub sequence: u32,
    /// So many tokens were given.
    pub granted: u32,
    /// So many of them are known to be spent.
    pub reported: u32,
    /// How long after the grant it was asked back, in units.
    pub(super) recalled_after: Option<NonZeroU16>,
    /// How long it is valid.
    pub term: Term,
    /// The counter was reset since: what is spent of it counts no more.
    pub is_forgiven: bool,
}

const _: () = assert!(size_of::<Lease>() == 40);

impl Lease {
    /// The log time from which on it should be returned, or a little later.
    pub fn recalled_at(&self) -> Option<u64> {
        let after = u64::from(self.recalled_after?.get()) * RECALL_UNIT_NS;
        Some(self.given_at.saturating_add(after))
    }

    /// Asks it back, if that wasn't done before.
    pub(super) fn recall(&mut self, now: u64) {
        let units = now.saturating_sub(self.given_at).div_ceil(RECALL_UNIT_NS);
        let units = u16::try_from(units)
            .ok()
            .map_or(NonZeroU16::MAX, |units| NonZeroU16::new(units).unwrap_or(NonZeroU16::MIN));
        self.recalled_after.get_or_insert(units);
    }

    /// What may be unspent.
    pub fn left(&self) -> u64 {
        u64::from(self.granted.saturating_sub(self.reported))
    }

    /// The log time from which on no token of it was spent within the last window.
    fn back_at(&self, window: u64) -> u64 {
        self.given_at.saturating_add(surely(window.saturating_add(validity_ns(window, self.term))))
    }

    /// The log time from which on nobody can spend it any more.
    pub(super) fn over_at(&self, window: u64) -> u64 {
        self.given_at.saturating_add(surely(validity_ns(window, self.term)))
    }
}

/// Tokens that were spent at about one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// The log time at which they may be granted again.
    pub back_at: u64,
    /// The earliest such time of those that were put together here.
    pub from: u64,
    /// How many.
    pub tokens: u64,
}

/// See [`Counter::standing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Tokens that were spent within the last window.
    pub spent: u64,
    /// Tokens that nodes hold, and may have spent without having told so.
    pub held: u64,
    /// The log time at which some of it comes back by time alone.
    pub back_at: Option<u64>,
}

/// A limit's counter. There are many of them, so it is kept small.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    /// The limit's window, in nanoseconds.
    pub window: u64,
    /// Tokens of one window.
    pub limit: u64,
    /// The version of the limit; the highest counts.
    pub revision: u64,
    /// Tokens that are spent or held: they can't be granted.
    pub used: u64,
    /// When the counter is to be looked at next, to see whether it can go.
    pub look_at: u64,
    /// By the time at which they come back.
    pub spent: ThinVec<Spent>,
    /// Oldest first.
    pub leases: ThinVec<Lease>,
}

const _: () = assert!(size_of::<Counter>() == 56);

impl Counter {
    pub(super) fn new(window: u64, limit: u64, revision: u64) -> Self {
        Self { window, limit, revision, used: 0, look_at: 0, spent: ThinVec::new(), leases: ThinVec::new() }
    }

    /// What can be granted.
    pub fn free(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.spent.is_empty() && self.leases.is_empty()
    }

    /// The log time of the next change by time alone.
    pub fn next_back_at(&self) -> Option<u64> {
        let leases = self.leases.iter().map(|lease| lease.back_at(self.window));
        leases.chain(self.spent.first().map(|spent| spent.back_at)).min()
    }

    /// The log time at which nothing of the present is left.
    pub(super) fn last_back_at(&self) -> u64 {
        let leases = self.leases.iter().map(|lease| lease.back_at(self.window));
        leases.chain(self.spent.last().map(|spent| spent.back_at)).max().unwrap_or_default()
    }

    /// Takes back what has left the window, and gives the leases that are gone by that.
    pub(super) fn refresh(&mut self, now: u64) -> Vec<Lease> {
        let due = self.spent.partition_point(|spent| spent.back_at <= now);
        let spent: u64 = self.spent.drain(..due).map(|spent| spent.tokens).sum();
        let window = self.window;
        let gone: Vec<Lease> = self.leases.extract_if(.., |lease| lease.back_at(window) <= now).collect();
        let left: u64 = gone.iter().map(Lease::left).sum();
        self.used = self.used.saturating_sub(spent).saturating_sub(left);
        gone
    }

    pub(super) fn lend(&mut self, lease: Lease) {
        self.used = self.used.saturating_add(lease.left());
        self.leases.reserve_exact(1);
        self.leases.push(lease);
    }

    /// Books what a holder tells: of the lease `id`, `spent` tokens are spent in all, at `now` or before; `done`: it won't
    /// spend more. Returns the lease, if it is over. What is known already, or of a lease that is gone, changes nothing.
    pub(super) fn settle(&mut self, id: u64, spent: u64, done: bool, now: u64) -> Option<Lease> {
        let place = self.leases.iter().position(|lease| lease.id == id)?;
        let lease = &mut self.leases[place];
        let news = u32::try_from(spent).unwrap_or(u32::MAX).min(lease.granted).saturating_sub(lease.reported);
        lease.reported += news;
        let news = u64::from(news);
        let is_forgiven = lease.is_forgiven;
        let back_at = lease.back_at(self.window).min(now.saturating_add(surely(self.window)));
        let over = done || lease.left() == 0;
        let removed = over.then(|| self.leases.remove(place));
        if let Some(lease) = &removed {
            self.used = self.used.saturating_sub(lease.left());
        }
        if news > 0 {
            match is_forgiven {
                true => self.used = self.used.saturating_sub(news),
                false => self.note(back_at, news),
            }
        }
        removed
    }

    /// Forgets what was spent so far, whether it was told or not. What is held stays held until it comes back.
    pub(super) fn reset(&mut self) {
        let spent: u64 = self.spent.drain(..).map(|spent| spent.tokens).sum();
        self.used = self.used.saturating_sub(spent);
        for lease in &mut self.leases {
            lease.is_forgiven = true;
        }
    }

    /// How it stands at a log time, for showing it.
    pub fn standing(&self, now: u64) -> Standing {
        let spent = self.spent.iter().filter(|spent| spent.back_at > now).map(|spent| spent.tokens).sum();
        let leases = self.leases.iter().filter(|lease| lease.back_at(self.window) > now);
        let held = leases.clone().map(Lease::left).sum();
        let leases = leases.map(|lease| lease.back_at(self.window));
        let spent_back = self.spent.iter().map(|spent| spent.back_at).filter(|at| *at > now);
        Standing { spent, held, back_at: leases.chain(spent_back).min() }
    }

    /// Keeps `tokens` until `back_at` or a little later.
    fn note(&mut self, back_at: u64, tokens: u64) {
        let grain = grain_ns(self.window);
        let place = self.spent.partition_point(|spent| spent.back_at < back_at);
        if let Some(next) = self.spent.get_mut(place)
            && next.back_at - back_at <= grain
        {
            next.from = next.from.min(back_at);
            next.tokens += tokens;
            return;
        }
        if let Some(last) = place.checked_sub(1).and_then(|before| self.spent.get_mut(before))
            && back_at - last.from <= grain
        {
            last.back_at = back_at;
            last.tokens += tokens;
            return;
        }
        self.spent.insert(place, Spent { back_at, from: back_at, tokens });
        if self.spent.len() as u64 > (self.limit / 2).clamp(SPENT_MIN, SPENT_MAX) {
            self.join_cheapest();
        }
    }

    /// Puts those two neighbours together which lose the least by it: the earlier's tokens wait for the later's.
    fn join_cheapest(&mut self) {
        let cost = |pair: &[Spent]| u128::from(pair[1].back_at - pair[0].back_at) * u128::from(pair[0].tokens);
        let Some((place, _)) = self.spent.windows(2).enumerate().min_by_key(|(_, pair)| cost(pair)) else { return };
        let earlier = self.spent.remove(place);
        let later = &mut self.spent[place];
        later.tokens += earlier.tokens;
        later.from = earlier.from;
    }
}
