//! Chooses the configuration: the first rule of dynamicConfig that holds, else the default one.

use std::sync::Arc;

use octelium_actors::router::{EffectiveConfig, Route};
use octelium_policy::{Budget, Context};

/// A rule that fails is passed over, as a rule that doesn't hold; the request was allowed before.
pub fn choose(route: &Route, context: &Context<'_>) -> Option<Arc<EffectiveConfig>> {
    let mut budget = Budget::default();
    for rule in &route.rules {
        match rule.condition.evaluate(context, None, &mut budget) {
            Ok(true) => return rule.config.clone(),
            Ok(false) => {}
            Err(error) => tracing::debug!(service = route.reference.name, %error, "a rule of dynamicConfig failed"),
        }
    }
    route.config.clone()
}
