//! Chooses the configuration: the first rule of dynamicConfig that holds, else the default one.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use octelium_actors::router::{Choice, EffectiveConfig, Route, compile};
use octelium_api::Object;
use octelium_policy::{Budget, Context};

use super::respond::{Code, Rejection};

/// Made configurations that one worker keeps.
const GENERATED_MAX: usize = 1024;
/// Longer ones are made anew each time.
const KEPT_BYTES_MAX: usize = 8 << 10;

/// The configurations that expressions made, of one worker: the same value is checked and compiled once.
#[derive(Default)]
pub struct Generated(RefCell<HashMap<Made, Arc<EffectiveConfig>>>);

/// A version of a Service, and what its expression made, as JSON.
type Made = (String, String);

/// The configuration that applies; `None`: there is no default one.
///
/// A condition that fails counts as one that doesn't hold. An expression that was chosen and fails is another matter: the next
/// rule or the default could be an upstream that this request was never meant for.
///
/// # Errors
/// If the chosen expression makes no valid configuration.
pub fn choose(
    route: &Route,
    context: &Context<'_>,
    generated: &Generated,
) -> Result<Option<Arc<EffectiveConfig>>, Rejection> {
    if route.rules.is_empty() {
        return Ok(route.config.clone());
    }
    let mut budget = Budget::default();
    let path = context.request.map_or("", |request| request.path());
    for candidate in route.rule_index.candidates(path) {
        let Some(rule) = route.rules.get(candidate.number) else { continue };
        // Where the path says it all, nothing else has to be looked at. Of a gRPC request rules have no path.
        let holds = if candidate.holds && context.request.is_some_and(|request| request.grpc().is_none()) {
            Ok(true)
        } else {
            rule.condition.evaluate(context, None, &mut budget)
        };
        match holds {
            Ok(true) => {}
            Ok(false) => continue,
            Err(error) => {
                tracing::debug!(service = route.reference.name, %error, "a condition of dynamicConfig failed");
                continue;
            }
        }
        return match &rule.choice {
            Choice::Named(config) => Ok(config.clone()),
            Choice::Generated(expression) => {
                let invalid = |cause: String| Rejection::new(Code::ConfigInvalid, cause);
                let value =
                    expression.evaluate(context, None, &mut budget).map_err(|error| invalid(error.to_string()))?;
                generated.get(route, &value.to_json()).map(Some).map_err(invalid)
            }
        };
    }
    Ok(route.config.clone())
}

impl Generated {
    fn get(&self, route: &Route, value: &serde_json::Value) -> Result<Arc<EffectiveConfig>, String> {
        let key = (route.reference.resource_version.clone(), value.to_string());
        if let Some(config) = self.0.borrow().get(&key) {
            return Ok(config.clone());
        }
        let Object::Service(service) = &route.service.stored().object else { return Err("not a Service".into()) };
        let config = Arc::new(compile::generated(service, value)?);
        if key.1.len() > KEPT_BYTES_MAX {
            return Ok(config);
        }
        let mut kept = self.0.borrow_mut();
        if kept.len() >= GENERATED_MAX {
            kept.clear();
        }
        kept.insert(key, config.clone());
        Ok(config)
    }
}
