//! Which parts of `ctx` a rule may read.

use std::ops::{BitOr, BitOrAssign};

macro_rules! reads {
    ($($(#[$doc:meta])* $field:ident),* $(,)?) => {
        /// Which parts of `ctx` may be read: never too few. [`Reads::body`] and [`Reads::body_map`] say whether a body must be
        /// buffered before the decision.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct Reads { $($(#[$doc])* pub $field: bool),* }

        impl BitOr for Reads {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                Self { $($field: self.$field | other.$field),* }
            }
        }

        impl Reads {
            /// Everything.
            pub const ALL: Self = Self { $($field: true),* };
        }
    };
}

reads! {
    /// Anything of `ctx.request`.
    request,
    /// Any header.
    headers,
    /// The body as bytes.
    body,
    /// The body as a JSON object.
    body_map,
    /// `ctx.session`.
    session,
    /// `ctx.user`.
    user,
    /// `ctx.groups`.
    groups,
    /// `ctx.device`.
    device,
    /// `ctx.service`.
    service,
    /// `ctx.namespace`.
    namespace,
    /// The time.
    now,
}

impl BitOrAssign for Reads {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}
