//! Plugins of a configuration, in their order. What they ask of the request is evaluated at once, where its context is; what
//! may have to wait comes after.

pub mod local;
mod rate_limit;
mod schema;

use std::time::Duration;

use http::{HeaderValue, header};
use octelium_actors::{
    rate_limiter::CounterId,
    router::{
        Route,
        plugins::{Action, Answer, Plugin, whole_seconds},
    },
};
use octelium_http1::{Body, Response};
use octelium_policy::{Budget, Context};

pub use rate_limit::{Shown, answer};

use super::{
    Proxy,
    exchange::Exchange,
    respond::{Code, Rejection},
};

/// A plugin that runs for a request, and what it needs for that.
#[derive(Debug)]
pub struct Due {
    /// Its place in the list.
    index: usize,
    /// Of a rate limit: whose tokens it takes, and the same for people.
    counted: Option<(CounterId, String)>,
}

/// Which of the plugins run for this request.
///
/// A condition that can't be evaluated holds: a limit or a check that is skipped by mistake is none.
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
        let counted = match &plugin.action {
            Action::RateLimit(limit) => {
                Some(rate_limit::counter(plugin, limit, route, exchange, context, &mut budget)?)
            }
            Action::JsonSchema(_) | Action::Direct(_) => None,
        };
        due.push(Due { index, counted });
    }
    Ok(due)
}

/// Runs them, one after the other; the first that answers or refuses is the last.
///
/// # Errors
/// The refusal.
pub async fn run(
    proxy: &Proxy,
    exchange: &mut Exchange,
    route: &Route,
    plugins: &[Plugin],
    due: Vec<Due>,
) -> Result<Option<Response>, Rejection> {
    for Due { index, counted } in due {
        let Some(plugin) = plugins.get(index) else { continue };
        match &plugin.action {
            Action::RateLimit(limit) => {
                let (counter, key) =
                    counted.ok_or_else(|| Rejection::new(Code::RateLimitUnavailable, "not counted"))?;
                rate_limit::spend(proxy, exchange, route, plugin, limit, counter, &key).await?;
            }
            // Boxed: most requests have no such check, and need no room for it.
            Action::JsonSchema(schema) => Box::pin(schema::check(exchange, route, plugin, schema)).await?,
            Action::Direct(answer) => {
                exchange.own_answer = Some((answer.clone(), None));
                return Ok(Some(written(answer)));
            }
        }
    }
    Ok(None)
}

fn written(answer: &Answer) -> Response {
    let mut response = Response::new(answer.status);
    response.body = Body::full(answer.body.clone());
    for (name, value) in &answer.headers {
        response.headers.append(name, value);
    }
    response
}

/// The configured answer to a request that a plugin refused, in place of the usual one.
pub fn refusal(exchange: &Exchange, response: &mut Response) {
    let Some((answer, retry_after)) = &exchange.own_answer else { return };
    response.status = answer.status;
    response.body = Body::full(answer.body.clone());
    for (name, value) in &answer.headers {
        response.headers.append(name, value);
    }
    if let Some(retry_after) = retry_after
        && !response.headers.contains_key(header::RETRY_AFTER)
    {
        let seconds = whole_seconds((*retry_after).max(Duration::from_millis(1)));
        response.headers.append(&header::RETRY_AFTER, &HeaderValue::from(seconds));
    }
}
