//! What a rule reads is known before it is evaluated.

use octelium_policy::{Expression, Reads};

#[test]
fn reads_name_what_is_read_and_no_more() {
    let none = Reads::default();
    let request = Reads { request: true, ..none };
    for (text, reads) in [
        ("1 == 1", none),
        ("attrs.x", none),
        ("now()", Reads { now: true, ..none }),
        ("ctx.request.ip", request),
        ("ctx.request.http.path", request),
        ("ctx.request.http.queryParams.x", request),
        ("ctx.request.http.headers['x']", Reads { headers: true, ..request }),
        ("'x' in ctx.request.http.headersAll", Reads { headers: true, ..request }),
        ("ctx.request.http.headers[string(attrs.x)]", Reads { headers: true, ..request }),
        ("ctx.request.http.body", Reads { body: true, ..request }),
        ("has(ctx.request.http.body)", Reads { body: true, ..request }),
        ("ctx.request.grpc.http.bodyMap.x.y", Reads { body_map: true, ..request }),
        ("[1].exists(x, ctx.request.http.bodyMap[string(x)] == 1)", Reads { body_map: true, ..request }),
        ("cel.bind(h, ctx.request.http, h.path)", request),
        ("cel.bind(h, ctx.request.http, h.bodyMap)", Reads { body_map: true, ..request }),
        ("json.marshal(ctx.request)", Reads { headers: true, body: true, body_map: true, ..request }),
        ("ctx.request.http[string(attrs.x)]", Reads { headers: true, body: true, body_map: true, ..request }),
        ("[ctx.request].exists(r, r.ip == '')", Reads { headers: true, body: true, body_map: true, ..request }),
        ("ctx.user.spec.email == ctx.session.metadata.name", Reads { user: true, session: true, ..none }),
        ("ctx.groups.exists(g, g.metadata.name == '')", Reads { groups: true, ..none }),
        ("has(ctx.device)", Reads { device: true, ..none }),
        ("ctx.service.spec.port == 1 ? ctx.namespace.kind : ''", Reads { service: true, namespace: true, ..none }),
        ("json.marshal(ctx)", Reads { now: false, ..Reads::ALL }),
    ] {
        let expression = Expression::compile(text, "at").unwrap_or_else(|errors| panic!("{text}: {errors:?}"));
        assert_eq!(expression.reads(), reads, "{text}");
    }
}

#[test]
fn what_is_compiled_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<octelium_policy::Policy>();
    shared::<octelium_policy::Condition>();
    shared::<Expression>();
    shared::<octelium_policy::Value>();
}
