//! Rate limits: whose requests are counted together, whether this one may go on, and what its caller is told.

use std::{fmt::Write, net::IpAddr};

use http::{HeaderName, HeaderValue};
use octelium_actors::{
    rate_limiter::{Admission, CounterId, Name, Refused, Rule},
    router::{
        Route,
        plugins::{Key, Plugin, RateLimit, whole_seconds},
    },
};
use octelium_http1::Headers;
use octelium_policy::{Budget, Context, Value};

use crate::proxy::{
    Proxy,
    exchange::Exchange,
    respond::{Code, Rejection},
};

/// IETF draft-ietf-httpapi-ratelimit-headers.
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// See [`POLICY`].
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// What the caller is told of one limit.
#[derive(Debug)]
pub struct Shown {
    policy: HeaderValue,
    limit: HeaderValue,
}

/// The counter of a request: of the Service, the plugin and the key. Keys of different kinds never meet.
pub(super) fn counter(
    plugin: &Plugin,
    limit: &RateLimit,
    route: &Route,
    exchange: &Exchange,
    context: &Context<'_>,
    budget: &mut Budget,
) -> Result<(CounterId, String), Rejection> {
    let mut key = String::new();
    if let Key::Eval(expression) = &limit.key {
        let failed = |cause: &dyn std::fmt::Display| {
            Rejection::new(
                Code::RateLimitUnavailable,
                format!("plugin `{}`: its key can't be made: {cause}", plugin.name),
            )
        };
        match expression.evaluate(context, None, budget) {
            Ok(Value::String(text)) if text.is_empty() => {}
            Ok(Value::String(text)) => {
                key.push_str("eval:");
                key.push_str(&text);
            }
            Ok(_) => return Err(failed(&"it isn't text")),
            Err(error) => return Err(failed(&error)),
        }
    }
    if key.is_empty() {
        let written = match (&exchange.session, &limit.key) {
            (Some(session), Key::User) => write!(key, "user:{}", session.user.reference.uid),
            (Some(session), _) => write!(key, "session:{:032x}", session.uid),
            (None, _) => write!(key, "address:{}", network(&exchange.peer.ip)),
        };
        written.expect("writing to a String can't fail");
    }
    Ok((CounterId::new(&route.reference.uid, &limit.counter, &key, limit.window), key))
}

/// An IPv4 address, or the /64 of an IPv6 address, of which one subscriber has all.
fn network(ip: &str) -> String {
    match ip.parse() {
        Ok(IpAddr::V6(ip)) => {
            let [a, b, c, d, ..] = ip.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        _ => ip.to_owned(),
    }
}

/// Takes a token of a limit.
///
/// # Errors
/// The refusal.
pub(super) async fn spend(
    proxy: &Proxy,
    exchange: &mut Exchange,
    route: &Route,
    plugin: &Plugin,
    limit: &RateLimit,
    counter: CounterId,
    key: &str,
) -> Result<(), Rejection> {
    let result = match limit.is_local {
        true => proxy.local_limits.spend(counter, limit.limit, limit.window),
        false => {
            let rule = Rule { limit: limit.limit, window: limit.window, revision: route.revision };
            match proxy.views.limiter.try_spend(counter, rule) {
                Some(admission) => Ok(admission),
                // Boxed: few requests wait, and none of the others needs the room.
                None => {
                    let name = || Name::new(&route.uid, &limit.counter, key);
                    Box::pin(proxy.views.limiter.spend(counter, rule, proxy.rate_limit_wait, name)).await
                }
            }
        }
    };
    match result {
        Ok(admission) => exchange.limits.push(shown(plugin, limit, admission)),
        Err(Refused::Unavailable) if limit.allows_unavailable => {}
        Err(Refused::Unavailable) => {
            let cause = format!("plugin `{}`: it isn't known whether the limit is reached", plugin.name);
            return Err(Rejection::new(Code::RateLimitUnavailable, cause));
        }
        Err(Refused::Exceeded { retry_after }) => {
            let admission = Admission { remaining: 0, reset: retry_after };
            exchange.limits.push(shown(plugin, limit, admission));
            exchange.own_answer = Some((limit.refusal.clone(), Some(retry_after)));
            let cause = format!("plugin `{}`: {} in {:?} are reached", plugin.name, limit.limit, limit.window);
            return Err(Rejection::new(Code::RateLimited, cause));
        }
    }
    Ok(())
}

fn shown(plugin: &Plugin, limit: &RateLimit, admission: Admission) -> Shown {
    let item = format!("\"{}\";r={};t={}", plugin.name, admission.remaining, whole_seconds(admission.reset));
    // Names of plugins are checked when they are applied; one that can't stand in a header isn't told.
    let limit_of = HeaderValue::try_from(item).unwrap_or_else(|_| HeaderValue::from_static(""));
    Shown { policy: limit.policy.clone(), limit: limit_of }
}

/// Tells the caller of its limits, unless the refusal's own headers do.
pub fn answer(exchange: &Exchange, headers: &mut Headers) {
    if exchange.limits.is_empty() {
        return;
    }
    let is_own = |name: &HeaderName| {
        let own = exchange.own_answer.as_ref().map(|(refusal, _)| &refusal.headers);
        own.is_some_and(|own| own.iter().any(|(own, _)| own == name))
    };
    let (tells_policy, tells_limit) = (!is_own(&POLICY), !is_own(&LIMIT));
    for shown in &exchange.limits {
        if tells_policy {
            headers.append(&POLICY, &shown.policy);
        }
        if tells_limit {
            headers.append(&LIMIT, &shown.limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::network;

    #[test]
    fn one_subscriber_is_counted_once() {
        assert_eq!(network("192.0.2.7"), "192.0.2.7");
        assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
    }
}
