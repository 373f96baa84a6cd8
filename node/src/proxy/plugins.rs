//! Plugins of a configuration, in their order. What they ask of the request is evaluated at once, where its context is; what
//! may have to wait comes after.

pub mod local;
mod rate_limit;

use octelium_actors::router::{
    Route,
    plugins::{Action, Plugin},
};
use octelium_policy::{Budget, Context};

pub use rate_limit::{Shown, answer, refusal, spend};

use super::{exchange::Exchange, respond::Rejection};

/// A plugin that runs for a request, and what it needs for that.
#[derive(Debug)]
pub struct Due {
    /// Its place in the list.
    index: usize,
    /// Whose tokens it takes.
    counter: octelium_actors::rate_limiter::CounterId,
    /// The same for people.
    key: String,
}

/// Which of the plugins run for this request.
///
/// A condition that can't be evaluated holds: a limit that is skipped by mistake is none.
///
/// # Errors
/// If a key can't be made: the request can't be counted.
pub fn due(
    plugins: &[Plugin],
    route: &Route,
    exchange: &Exchange,
    context: &Context<'_>,
) -> Result<Vec<Due>, Rejection> {
    let mut due = Vec::new();
    if plugins.is_empty() {
        return Ok(due);
    }
    let mut budget = Budget::default();
    for (index, plugin) in plugins.iter().enumerate() {
        match plugin.condition.evaluate(context, None, &mut budget) {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => {
                tracing::debug!(service = route.reference.name, plugin = %plugin.name, %error, "a plugin's condition failed, and so holds");
            }
        }
        let Action::RateLimit(limit) = &plugin.action;
        let (counter, key) = rate_limit::counter(plugin, limit, route, exchange, context, &mut budget)?;
        due.push(Due { index, counter, key });
    }
    Ok(due)
}
