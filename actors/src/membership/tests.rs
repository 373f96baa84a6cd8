//! Real sockets on this machine, real time.

use std::net::UdpSocket;

use super::{
    envelope::{ClusterKey, Dropped},
    *,
};

const PATIENCE: Duration = Duration::from_secs(40);
const CLUSTER: [u8; 16] = [3; 16];

struct Node {
    args: Args,
    actor: ActorRef<Msg>,
}

fn ring(byte: u8) -> Keyring {
    Keyring { keys: vec![ClusterKey { id: 1, secret: [byte; 32].into() }], sealing: 1 }
}

impl Node {
    async fn start(node: u64, incarnation: u64, at: Option<SocketAddr>, members: &[SocketAddr], key: u8) -> Self {
        let socket = UdpSocket::bind(at.unwrap_or_else(|| ([127, 0, 0, 1], 0).into())).unwrap();
        socket.set_nonblocking(true).unwrap();
        let advertised = socket.local_addr().unwrap();
        let members: Vec<_> = members.iter().map(ToString::to_string).collect();
        let args = Args {
            node,
            cluster: CLUSTER,
            incarnation: Arc::new(AtomicU64::new(incarnation)),
            socket: Arc::new(socket),
            address: advertised.to_string(),
            advertised,
            seeds: Vec::new(),
            facts: Arc::new(move || Facts { is_ready: true, applied: 40 + node, load: 1, members: members.clone() }),
            keys: Arc::new(move || ring(key)),
            peers: Arc::default(),
        };
        let (actor, _) = Actor::spawn(None, MembershipActor, args.clone()).await.unwrap();
        Self { args, actor }
    }

    fn hears(&self, node: u64) -> Option<Peer> {
        self.args.peers.all().get(&node).filter(|peer| peer.is_live).cloned()
    }

    async fn stop(self) -> SocketAddr {
        self.actor.stop_and_wait(None, None).await.unwrap();
        self.args.advertised
    }
}

async fn until(what: &str, probe: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !probe() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn nodes_find_each_other_and_notice_who_goes_and_who_comes_back() {
    let first = Node::start(1, 10, None, &[], 1).await;
    let known = [first.args.advertised];
    let second = Node::start(2, 10, None, &known, 1).await;
    let third = Node::start(3, 10, None, &known, 1).await;
    until("all to hear all", || {
        second.hears(3).is_some() && third.hears(2).is_some() && first.hears(2).is_some() && first.hears(3).is_some()
    })
    .await;
    let seen = first.hears(3).unwrap();
    assert!(seen.is_ready && seen.applied == 43 && seen.load == 1, "{seen:?}");
    assert_eq!((seen.address, seen.version.as_str()), (third.args.address.clone(), env!("CARGO_PKG_VERSION")));

    let place = third.stop().await;
    until("the others to notice that one is gone", || first.hears(3).is_none() && second.hears(3).is_none()).await;
    let third = Node::start(3, 20, Some(place), &known, 1).await;
    until("the others to hear it again", || first.hears(3).is_some_and(|peer| peer.incarnation > 20)).await;
    for node in [first, second, third] {
        node.stop().await;
    }
}

#[tokio::test]
async fn strangers_and_garbage_change_nothing() {
    let first = Node::start(1, 10, None, &[], 1).await;
    let known = [first.args.advertised];
    let stranger = Node::start(9, 10, None, &known, 2).await;
    let flood = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = first.args.advertised;
    let stopped = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flooding = std::thread::spawn({
        let stopped = stopped.clone();
        move || {
            let mut garbage = [0_u8; 600];
            for turn in 0_u64.. {
                garbage[..8].copy_from_slice(&turn.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
                garbage[0] = u8::from(turn % 2 == 0);
                flood.send_to(&garbage[..(turn % 600) as usize], to).ok(); // the queue may be full
                if turn % 50 == 0 {
                    std::thread::sleep(Duration::from_millis(5));
                }
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
            }
        }
    });
    let second = Node::start(2, 10, None, &known, 1).await;
    until("those with the key to hear each other", || first.hears(2).is_some() && second.hears(1).is_some()).await;
    until("the stranger and the garbage to be counted", || {
        let counts = first.args.peers.counts();
        counts.dropped(Dropped::Forged) > 0 && counts.dropped(Dropped::Malformed) > 0
    })
    .await;
    stopped.store(true, Ordering::Relaxed);
    flooding.join().unwrap();
    assert!(first.args.peers.all().keys().eq([&2]), "{:?}", first.args.peers.all());
    assert!(stranger.args.peers.all().is_empty());
    for node in [first, second, stranger] {
        node.stop().await;
    }
}
