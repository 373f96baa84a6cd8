use octelium_api::control::{Node, node::Role};
use serde_json::Value;

use crate::{log_in, server::Server};

fn server() -> Server {
    let server = Server::start();
    log_in(&server);
    let node = |id: &str, role: Role| Node {
        id: id.to_owned(),
        address: "10.0.0.1:7443".to_owned(),
        role: role.into(),
        log_index: 42,
        is_reachable: true,
        version: "0.1.0".to_owned(),
        applied_index: 41,
        up_seconds: 90,
        ..Node::default()
    };
    server.put_node(node("00000000000000a1", Role::Leader));
    server.put_node(Node { is_heard: Some(true), is_ready: true, ..node("00000000000000b2", Role::Voter) });
    let gone = Node {
        is_reachable: false,
        silent_milliseconds: Some(65_000),
        lag: 7,
        is_heard: Some(false),
        ..node("00000000000000b3", Role::Learner)
    };
    server.put_node(gone);
    server
}

#[test]
fn the_nodes_are_shown_to_people_and_programs() {
    let server = server();
    let text = server.run(&["cluster", "status"]).out;
    for part in
        ["NODE", "00000000000000a1", "leader", "ok", "silent for 65s", "learner", "90s", "GOSSIP", "ready", "silent "]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json: Value = serde_json::from_str(&server.run(&["cluster", "status", "-o", "json"]).out).unwrap();
    assert_eq!((&json["nodes"][0]["role"], &json["nodes"][2]["lag"]), (&"LEADER".into(), &7.into()));
    assert_eq!(json["nodes"][2]["isReachable"], false);
}

#[test]
fn nodes_are_drained_and_removed_by_the_beginning_of_their_ids() {
    let server = server();
    let run = server.run(&["cluster", "drain", "00000000000000a"]);
    assert!(run.out.starts_with("Node 00000000000000a1 drained: others lead"), "{}{}", run.out, run.err);
    assert!(server.run(&["cluster", "status"]).out.contains("drained"));
    assert_eq!(
        server.run(&["cluster", "undrain", "00000000000000a1"]).out,
        "Node 00000000000000a1 is drained no more\n"
    );
    for (name, expected) in
        [("00000000000000b", "begins the ids of 2 nodes"), ("x", "there is no node `x`; the nodes are")]
    {
        let run = server.run(&["cluster", "remove", name]);
        assert_eq!((run.code, run.err.contains(expected)), (2, true), "{}", run.err);
    }
    for id in ["00000000000000b2", "00000000000000b3"] {
        assert!(server.run(&["cluster", "remove", id]).out.starts_with(&format!("Node {id} removed")));
    }
    let run = server.run(&["cluster", "remove", "00000000000000a1"]);
    assert!(run.code != 0 && run.err.contains("it is the last one: stop it instead"), "{}", run.err);
}
