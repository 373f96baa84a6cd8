//! Tells in one step that a name is surely not among those seen: most of the names that are asked for aren't there.

/// Which names were seen, one bit for each of 64 classes of them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen(u64);

impl Seen {
    pub(super) fn add(&mut self, name: &[u8]) {
        self.0 |= class(name);
    }

    pub(super) fn join(&mut self, others: Self) {
        self.0 |= others.0;
    }

    /// Whether this name may have been seen; false is certain.
    #[inline]
    pub(super) fn may_have(self, name: &[u8]) -> bool {
        self.0 & class(name) != 0
    }
}

/// By length, first and last byte, which the compiler knows where the name is a literal.
#[inline]
fn class(name: &[u8]) -> u64 {
    let end = |byte: Option<&u8>| byte.map_or(0, |byte| u32::from(*byte));
    let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
    1 << ((length.wrapping_mul(5) ^ end(name.first()).wrapping_mul(3) ^ end(name.last())) % 64)
}
