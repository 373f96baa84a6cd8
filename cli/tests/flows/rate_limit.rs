use octelium_api::control::RateLimit;
use serde_json::Value;

use crate::{log_in, server::Server};

fn server() -> Server {
    let server = Server::start();
    log_in(&server);
    let counter = |service: &str, key: &str, used: u64| RateLimit {
        id: format!("{used:032x}"),
        service: service.to_owned(),
        plugin: "per-user".to_owned(),
        key: key.to_owned(),
        limit: 100,
        window_milliseconds: 60_000,
        used,
        held: 1,
        back_in_milliseconds: Some(1_500),
    };
    server.put_rate_limit(counter("api.default", "user:alice", 99));
    server.put_rate_limit(counter("api.default", "user:bob", 50));
    server.put_rate_limit(counter("llm.default", "eval:\u{1b}[31mx", 3));
    server.put_rate_limit(RateLimit { plugin: String::new(), ..counter("", "", 2) });
    server
}

#[test]
fn counters_are_shown_to_people_and_programs() {
    let server = server();
    let text = server.run(&["ratelimit", "get"]).out;
    for part in ["SERVICE", "api.default", "user:alice", "99", "100 in 60s", "1s", "00000000000000000000000000000002"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains('\u{1b}'), "{text:?}");
    let run = server.run(&["ratelimit", "get", "--limit", "1"]);
    assert!(
        run.out.contains("alice") && !run.out.contains("bob") && run.err.contains("3 more are less full"),
        "{run:?}"
    );
    let json: Value =
        serde_json::from_str(&server.run(&["ratelimit", "get", "api.default", "--key", "user:bob", "-o", "json"]).out)
            .unwrap();
    assert_eq!((&json["total"], &json["rateLimits"][0]["used"]), (&1.into(), &50.into()));
    assert_eq!(server.run(&["ratelimit", "get", "--plugin", "other"]).out, "No counter is in use\n");
}

#[test]
fn counters_are_reset_when_it_is_said_which() {
    let server = server();
    let run = server.run(&["ratelimit", "reset"]);
    assert!(run.code == 2 && run.err.contains("say which counters"), "{run:?}");
    assert_eq!(server.run(&["ratelimit", "reset", "api.default", "--all"]).code, 2);
    let reset = server.run(&["ratelimit", "reset", "api.default", "--key", "user:alice"]);
    assert_eq!(reset.out, "1 counter reset\n");
    assert!(reset.err.contains("1 counter can't be told apart now"), "{}", reset.err);
    assert_eq!(
        server.run(&["ratelimit", "reset", "api.default", "--key", "user:alice"]).out,
        "No counter was in use\n"
    );
    assert_eq!(server.run(&["ratelimit", "reset", "--all"]).out, "3 counters reset\n");
}
