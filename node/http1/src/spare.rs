//! Byte buffers that a thread keeps for its next messages, so that a message needs no new ones.

use std::cell::RefCell;

/// Buffers kept; more are given back to the allocator.
const KEPT_MAX: usize = 64;
/// Larger buffers aren't kept.
const KEPT_BYTES_MAX: usize = 8 * 1024;
/// Room of a new one.
const NEW_BYTES: usize = 2 * 1024;

thread_local! {
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer with some room.
pub(crate) fn take() -> Vec<u8> {
    KEPT.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(NEW_BYTES))
}

/// Takes a buffer back. Its bytes are forgotten.
pub(crate) fn give(mut buffer: Vec<u8>) {
    if buffer.capacity() == 0 || buffer.capacity() > KEPT_BYTES_MAX {
        return;
    }
    buffer.clear();
    // A thread that ends has no place for it any more; then it is freed.
    let _kept = KEPT.try_with(|kept| {
        let mut kept = kept.borrow_mut();
        if kept.len() < KEPT_MAX {
            kept.push(buffer);
        }
    });
}
