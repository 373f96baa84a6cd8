//! A value that must not be printed.

use std::fmt;

use zeroize::Zeroize;

/// Holds a secret: `Debug` and `Display` print `[redacted]`, and the memory is overwritten when it is dropped.
///
/// A `Vec` or `String` that grew before it came here may have left copies behind; build it with its final capacity.
#[derive(Clone, Default)]
pub struct Redacted<T: Zeroize>(T);

impl<T: Zeroize> Redacted<T> {
    /// Takes the secret.
    pub fn new(secret: T) -> Self {
        Self(secret)
    }

    /// The secret, for the moment of its use.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> From<T> for Redacted<T> {
    fn from(secret: T) -> Self {
        Self(secret)
    }
}

impl<T: Zeroize> Drop for Redacted<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<T: Zeroize> fmt::Display for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;

    #[test]
    fn nothing_is_printed() {
        let secret = Redacted::new("hunter2".to_owned());
        assert_eq!(
            format!("{secret} {secret:?} {:#?}", Some(&secret)),
            "[redacted] [redacted] Some(\n    [redacted],\n)"
        );
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn dropping_overwrites() {
        struct Probe(Rc<RefCell<bool>>);
        impl Zeroize for Probe {
            fn zeroize(&mut self) {
                *self.0.borrow_mut() = true;
            }
        }
        let seen = Rc::new(RefCell::new(false));
        drop(Redacted::new(Probe(seen.clone())));
        assert!(*seen.borrow());
    }
}
