//! What pages of other origins may do, compiled.

use std::collections::HashSet;

use http::HeaderValue;
use octelium_api::{core::service::spec::config::http as model, origin::Origin};

use super::compile::Problem;

/// The `cors` block of the default configuration.
#[derive(Debug, Default)]
pub struct Cors {
    /// Every origin is allowed.
    pub any_origin: bool,
    /// These are.
    pub origins: HashSet<Origin>,
    /// So are https ones under the cluster's domain, with credentials.
    pub cluster_services: bool,
    /// Pages of allowed origins may send cookies.
    pub credentials: bool,
    /// `Access-Control-Allow-Methods`, if it isn't what was asked for.
    pub methods: Option<HeaderValue>,
    /// `Access-Control-Allow-Headers`, if it isn't what was asked for.
    pub headers: Option<HeaderValue>,
    /// `Access-Control-Expose-Headers`
    pub expose: Option<HeaderValue>,
    /// `Access-Control-Max-Age`
    pub max_age: Option<HeaderValue>,
}

impl Cors {
    /// Compiles a block that stands at `path`; adds to `problems` what is wrong with it.
    pub fn compile(block: &model::Cors, path: &str, problems: &mut Vec<Problem>) -> Self {
        let mut problem = |member: &str, message: &str| {
            problems.push(Problem { path: format!("{path}.{member}"), message: message.to_owned() });
        };
        let mut origins = HashSet::new();
        let mut any_origin = false;
        for text in &block.allow_origin_string_match {
            match Origin::parse(text) {
                Some(origin) => drop(origins.insert(origin)),
                None if text == "*" => any_origin = true,
                None => problem("allowOriginStringMatch", "not an origin, nor `*`"),
            }
        }
        let mut value = |member: &str, text: &str| {
            let made = HeaderValue::from_str(text);
            if made.is_err() {
                problem(member, "can't stand in a header");
            }
            made.ok().filter(|value| !value.is_empty())
        };
        Self {
            any_origin,
            origins,
            cluster_services: block.allow_cluster_services,
            credentials: block.allow_credentials,
            methods: value("allowMethods", &block.allow_methods),
            headers: value("allowHeaders", &block.allow_headers),
            expose: value("exposeHeaders", &block.expose_headers),
            max_age: value("maxAge", &block.max_age),
        }
    }
}
