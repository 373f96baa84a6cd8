//! A Service's configurations: how a named one is laid over its parent.

use prost::Message;

use crate::core::service::{Spec, spec::Config};

/// The name of `spec.config`.
pub const DEFAULT: &str = "default";

/// `child` laid over `parent`, as Protocol Buffers merge: set scalars win, messages merge, lists are joined, parent first.
pub fn merge(parent: &Config, child: &Config) -> Config {
    let mut merged = parent.clone();
    merged
        .merge(child.encode_to_vec().as_slice())
        .expect("a message no deeper than one that was decoded is decoded again");
    merged.name.clone_from(&child.name);
    merged.parent.clone_from(&child.parent);
    merged
}

/// The configuration of this name as it takes effect: over its parent, if it has one that exists.
///
/// An empty name and `default` are `spec.config`. One level is merged; [`crate::validate::check`] refuses more.
pub fn effective(spec: &Spec, name: &str) -> Option<Config> {
    let config = find(spec, name)?;
    match config.parent.as_str() {
        "" => Some(config.clone()),
        parent => Some(find(spec, parent).map_or_else(|| config.clone(), |parent| merge(parent, config))),
    }
}

/// The configuration of this name as it is written.
pub fn find<'s>(spec: &'s Spec, name: &str) -> Option<&'s Config> {
    match name {
        "" | DEFAULT => spec.config.as_ref(),
        name => spec.dynamic_config.as_ref()?.configs.iter().find(|config| config.name == name),
    }
}
