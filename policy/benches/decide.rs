//! What one decision costs, in nanoseconds, for 1, 3 and 20 realistic rules. Run with `cargo bench -p octelium-policy`.

use std::{borrow::Cow, hint::black_box, sync::Arc, time::Instant};

use octelium_api::core;
use octelium_policy::{Context, Decision, Effect, Grpc, Origin, Plan, Policy, Request, Value, decide};

const BASE: &str =
    r#"ctx.request.http.method == "GET" && ctx.request.http.path.startsWith("/api/") && "dev" in ctx.user.spec.groups"#;

fn rule(text: String) -> core::policy::spec::Rule {
    core::policy::spec::Rule {
        effect: core::policy::spec::rule::Effect::Allow as i32,
        condition: Some(core::Condition { r#type: Some(core::condition::Type::Match(text)) }),
        ..Default::default()
    }
}

fn policy(rules: Vec<core::policy::spec::Rule>) -> Policy {
    let spec = core::policy::Spec { rules, ..Default::default() };
    Policy::compile(&spec, Origin::BuiltIn(String::new()), "spec").expect("the rules are valid")
}

/// Rules that all are evaluated; only the last matches.
fn rules(count: usize) -> Vec<core::policy::spec::Rule> {
    let mut rules: Vec<_> = (1..count)
        .map(|index| match index % 4 {
            0 => {
                format!(r#"ctx.request.http.path == "/admin/{index}" && ctx.user.spec.email.endsWith("@example.com")"#)
            }
            1 => format!(r#"ctx.request.http.headers["x-team"] == "team-{index}""#),
            2 => format!(r#"ctx.request.http.method in ["POST", "PUT"] && "group-{index}" in ctx.user.spec.groups"#),
            _ => {
                format!(r#"ctx.request.http.path.matches("^/reports/{index}/[0-9]+$") && ctx.session.status.isBrowser"#)
            }
        })
        .map(rule)
        .collect();
    rules.push(rule(BASE.to_owned()));
    rules
}

fn measure(name: &str, decide: impl Fn() -> Decision) {
    const ROUNDS: u32 = 5;
    let iterations = if cfg!(debug_assertions) { 20_000 } else { 300_000 };
    assert_eq!(decide().effect, Effect::Allow);
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        for _ in 0..iterations {
            black_box(decide());
        }
        best = best.min(begin.elapsed().as_nanos() as f64 / f64::from(iterations));
    }
    println!("{name:<32} {best:>9.1} ns");
}

fn main() {
    let user = core::User {
        metadata: Some(octelium_api::meta::Metadata { name: "john".into(), ..Default::default() }),
        spec: Some(core::user::Spec {
            email: "john@example.org".into(),
            groups: ["ops", "support", "dev"].map(String::from).to_vec(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let user = Value::from_object(&user.into());
    let session = core::Session { status: Some(core::session::Status::default()), ..Default::default() };
    let session = Value::from_object(&session.into());
    let request = Api::default();
    let ctx = Context { request: Some(&request), user: Some(&user), session: Some(&session), ..Context::new(0) };

    println!("size of Value: {} bytes", size_of::<Value>());
    for count in [1, 3, 20] {
        let policies = [Arc::new(policy(rules(count)))];
        let plan = Plan::new(policies.iter(), &ctx);
        let plain = || decide(black_box(&policies).iter().map(AsRef::as_ref), black_box(&ctx));
        measure(&format!("{count} rules, one policy"), plain);
        measure(&format!("{count} rules, planned ({} left)", plan.steps()), || {
            black_box(&plan).decide(black_box(&ctx))
        });
    }
    let many: Vec<Arc<Policy>> = rules(20).into_iter().map(|rule| Arc::new(policy(vec![rule]))).collect();
    measure("20 rules, 20 policies", || decide(black_box(&many).iter().map(AsRef::as_ref), black_box(&ctx)));
    measure("making a plan of them", || Plan::new(black_box(&many).iter(), black_box(&ctx)).decide(&ctx));

    let begin = Instant::now();
    policy(rules(20));
    println!("{:<32} {:>9.1} µs", "compiling 20 rules", begin.elapsed().as_nanos() as f64 / 1000.0);
}

struct Api {
    empty: Value,
}

impl Default for Api {
    fn default() -> Self {
        Self { empty: Value::map::<&str>([]) }
    }
}

impl Request for Api {
    fn ip(&self) -> &str {
        "192.0.2.1"
    }
    fn method(&self) -> &str {
        "GET"
    }
    fn path(&self) -> &str {
        "/api/users/17"
    }
    fn uri(&self) -> &str {
        "/api/users/17"
    }
    fn host(&self) -> &str {
        "my-api.example.com"
    }
    fn scheme(&self) -> &str {
        "https"
    }
    fn protocol(&self) -> &str {
        "HTTP/2"
    }
    fn size(&self) -> i64 {
        0
    }
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        (name == "x-team").then_some(Cow::Borrowed("blue"))
    }
    fn headers(&self) -> &Value {
        &self.empty
    }
    fn headers_all(&self) -> &Value {
        &self.empty
    }
    fn query_param(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }
    fn query_params(&self) -> &Value {
        &self.empty
    }
    fn query_params_all(&self) -> &Value {
        &self.empty
    }
    fn shows_body(&self) -> bool {
        true
    }
    fn body(&self) -> Option<&[u8]> {
        None
    }
    fn body_map(&self) -> Option<&Value> {
        None
    }
    fn grpc(&self) -> Option<Grpc<'_>> {
        None
    }
}
