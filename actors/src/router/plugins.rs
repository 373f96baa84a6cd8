//! Plugins, compiled: when each runs, what it counts and checks, what it answers.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use octelium_api::core::service::spec::config::http::{
    Plugin as Block,
    plugin::{Direct as DirectBlock, JsonSchema as SchemaBlock, Phase, RateLimit as LimitBlock, Type},
    plugin::{direct, json_schema, rate_limit},
};
use octelium_policy::{Condition, Expression, Reads};

use super::{compile::Problem, schema::Schema};

/// A step of a request's way.
#[derive(Debug)]
pub struct Plugin {
    /// Unique within its configuration; for callers and the access log.
    pub name: Arc<str>,
    /// For which requests it runs.
    pub condition: Condition,
    /// What it does.
    pub action: Action,
}

/// What a plugin does.
#[derive(Debug)]
pub enum Action {
    /// Refuses callers that ask too often.
    RateLimit(Box<RateLimit>),
    /// Refuses bodies that don't fit.
    JsonSchema(Box<JsonSchema>),
    /// Answers by itself.
    Direct(Arc<Answer>),
}

/// A rate limit.
#[derive(Debug)]
pub struct RateLimit {
    /// What its counters are named after: the plugin.
    pub counter: Arc<str>,
    /// Admissions in each window.
    pub limit: u64,
    /// The length of a window.
    pub window: Duration,
    /// What is counted together.
    pub key: Key,
    /// Whether this node counts alone.
    pub is_local: bool,
    /// Whether requests go on while nobody can say if the limit is reached.
    pub allows_unavailable: bool,
    /// Its item of `RateLimit-Policy`.
    pub policy: HeaderValue,
    /// The answer to those who are refused.
    pub refusal: Arc<Answer>,
}

/// What bodies must fit.
#[derive(Debug)]
pub struct JsonSchema {
    /// The schema.
    pub schema: Arc<Schema>,
    /// The answer to those who are refused.
    pub refusal: Arc<Answer>,
}

/// What is counted together.
#[derive(Debug)]
pub enum Key {
    /// The requests of a Session.
    Session,
    /// The requests of a User.
    User,
    /// Those for which an expression makes the same text.
    Eval(Box<Expression>),
}

/// A configured answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Its body.
    pub body: Bytes,
}

impl Plugin {
    /// What its expressions read.
    pub fn reads(&self) -> Reads {
        match &self.action {
            Action::RateLimit(limit) => match &limit.key {
                Key::Eval(expression) => self.condition.reads() | expression.reads(),
                Key::Session | Key::User => self.condition.reads(),
            },
            Action::JsonSchema(_) | Action::Direct(_) => self.condition.reads(),
        }
    }

    /// Whether it looks into the body, of the requests for which it runs.
    pub fn needs_body(&self) -> bool {
        matches!(self.action, Action::JsonSchema(_))
    }

    /// Plugins of a lower rank come first.
    fn rank(&self) -> u8 {
        match self.action {
            Action::RateLimit(_) => 0,
            Action::JsonSchema(_) => 1,
            Action::Direct(_) => 2,
        }
    }
}

/// Those of `blocks` that run in a phase, in the order in which they run: by their type, and those of one type as they are
/// written. `is_pre_auth` says in which phase. Adds to `problems` what is wrong.
pub fn compile(blocks: &[Block], is_pre_auth: bool, path: &str, problems: &mut Vec<Problem>) -> Vec<Plugin> {
    let of_phase = |block: &Block| !block.is_disabled && (block.phase() == Phase::PreAuth) == is_pre_auth;
    let blocks = blocks.iter().enumerate().filter(|(_, block)| of_phase(block));
    let plugins = blocks.filter_map(|(index, block)| {
        let path = format!("{path}[{index}]");
        let plugin = plugin(block, &path).map_err(|errors| problems.extend(errors)).ok()?;
        let reads = plugin.reads();
        if is_pre_auth && (reads.body || reads.body_map || plugin.needs_body()) {
            let message = "reads the body, which isn't read for callers who aren't known yet; use phase POST_AUTH";
            problems.push(Problem { path, message: message.to_owned() });
            return None;
        }
        Some(plugin)
    });
    let mut plugins: Vec<Plugin> = plugins.collect();
    plugins.sort_by_key(Plugin::rank);
    plugins
}

fn plugin(block: &Block, path: &str) -> Result<Plugin, Vec<Problem>> {
    let of_policy = |errors: Vec<octelium_policy::Error>| errors.into_iter().map(Problem::from).collect::<Vec<_>>();
    let action = match &block.r#type {
        Some(Type::RateLimit(limit)) => {
            Action::RateLimit(Box::new(rate_limit(&block.name, limit, &format!("{path}.rateLimit"))?))
        }
        Some(Type::JsonSchema(schema)) => {
            Action::JsonSchema(Box::new(json_schema(schema, &format!("{path}.jsonSchema"))?))
        }
        Some(Type::Direct(block)) => Action::Direct(Arc::new(direct(block, &format!("{path}.direct"))?)),
        _ => {
            let message = "needs one of rateLimit, jsonSchema, direct".to_owned();
            return Err(vec![Problem { path: path.to_owned(), message }]);
        }
    };
    let condition = block.condition.clone().unwrap_or_default();
    Ok(Plugin {
        name: block.name.as_str().into(),
        condition: Condition::compile(&condition, &format!("{path}.condition")).map_err(of_policy)?,
        action,
    })
}

fn rate_limit(name: &str, block: &LimitBlock, path: &str) -> Result<RateLimit, Vec<Problem>> {
    let problem = |member: &str, message: String| vec![Problem { path: format!("{path}.{member}"), message }];
    let limit = u64::try_from(block.limit).ok().filter(|limit| *limit > 0);
    let limit = limit.ok_or_else(|| problem("limit", "must be 1 or more".to_owned()))?;
    let window = block.window.as_ref().ok_or_else(|| problem("window", "missing".to_owned()))?;
    let window = octelium_api::duration::checked(window).map_err(|error| problem("window", error.to_string()))?;
    let key = match block.key.as_ref().and_then(|key| key.r#type.as_ref()) {
        None | Some(rate_limit::key::Type::PerSession(_)) => Key::Session,
        Some(rate_limit::key::Type::PerUser(_)) => Key::User,
        Some(rate_limit::key::Type::Eval(text)) => {
            let expression = Expression::compile_text(text, &format!("{path}.key.eval"));
            Key::Eval(Box::new(expression.map_err(|errors| errors.into_iter().map(Problem::from).collect::<Vec<_>>())?))
        }
    };
    // Structured fields have integers of at most 15 digits (RFC 9651 §3.3.1).
    let shown = limit.min(999_999_999_999_999);
    let policy = format!("\"{name}\";q={shown};w={}", whole_seconds(window));
    Ok(RateLimit {
        counter: name.into(),
        limit,
        window,
        key,
        is_local: block.mode() == rate_limit::Mode::Local,
        allows_unavailable: block.on_unavailable() == rate_limit::OnUnavailable::Allow,
        policy: HeaderValue::from_str(&policy).map_err(|_| problem("limit", "can't stand in a header".to_owned()))?,
        refusal: Arc::new(refusal(block, path)?),
    })
}

/// Rounded up: whoever waits as long is not too early.
pub fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

fn refusal(block: &LimitBlock, path: &str) -> Result<Answer, Vec<Problem>> {
    let headers = block.headers.iter().map(|header| (header.key.as_str(), header.value.as_str()));
    let body = block.body.as_ref().and_then(|body| body.r#type.as_ref()).map(|body| match body {
        rate_limit::body::Type::Inline(text) => Bytes::from(text.clone()),
        rate_limit::body::Type::InlineBytes(bytes) => Bytes::from(bytes.to_vec()),
    });
    answer(block.status_code, StatusCode::TOO_MANY_REQUESTS, headers, body, path)
}

fn json_schema(block: &SchemaBlock, path: &str) -> Result<JsonSchema, Vec<Problem>> {
    let Some(json_schema::Type::Inline(text)) = &block.r#type else {
        return Err(vec![Problem { path: path.to_owned(), message: "needs `inline`".to_owned() }]);
    };
    let problem = |message| vec![Problem { path: format!("{path}.inline"), message }];
    let headers = block.headers.iter().map(|header| (header.key.as_str(), header.value.as_str()));
    let body = block.body.as_ref().and_then(|body| body.r#type.as_ref()).map(|body| match body {
        json_schema::body::Type::Inline(text) => Bytes::from(text.clone()),
        json_schema::body::Type::InlineBytes(bytes) => Bytes::from(bytes.to_vec()),
    });
    Ok(JsonSchema {
        schema: Schema::of(text).map_err(problem)?,
        refusal: Arc::new(answer(block.status_code, StatusCode::BAD_REQUEST, headers, body, path)?),
    })
}

fn direct(block: &DirectBlock, path: &str) -> Result<Answer, Vec<Problem>> {
    let headers = block.headers.iter().map(|header| (header.key.as_str(), header.value.as_str()));
    let body = block.body.as_ref().and_then(|body| body.r#type.as_ref()).map(|body| match body {
        direct::body::Type::Inline(text) => Bytes::from(text.clone()),
        direct::body::Type::InlineBytes(bytes) => Bytes::from(bytes.to_vec()),
    });
    answer(block.status_code, StatusCode::OK, headers, body, path)
}

/// `code`: 0 stands for `default`.
fn answer<'h>(
    code: i32,
    default: StatusCode,
    headers: impl Iterator<Item = (&'h str, &'h str)>,
    body: Option<Bytes>,
    path: &str,
) -> Result<Answer, Vec<Problem>> {
    let status = u16::try_from(code).ok().filter(|code| (200..=599).contains(code));
    let status = if code == 0 { Some(default) } else { status.and_then(|code| StatusCode::from_u16(code).ok()) };
    let problem =
        |member: String, message: &str| vec![Problem { path: format!("{path}.{member}"), message: message.to_owned() }];
    let headers = headers.enumerate().map(|(index, (name, value))| {
        let (name, value) = (HeaderName::from_bytes(name.as_bytes()).ok(), HeaderValue::from_str(value).ok());
        name.zip(value).ok_or_else(|| problem(format!("headers[{index}]"), "can't be a header"))
    });
    Ok(Answer {
        status: status.ok_or_else(|| problem("statusCode".to_owned(), "not the status of an answer"))?,
        headers: headers.collect::<Result<_, _>>()?,
        body: body.unwrap_or_default(),
    })
}
