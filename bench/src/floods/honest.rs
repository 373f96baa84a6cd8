//! Callers who do nothing wrong: 800 requests a second over HTTP/1.1, 200 over HTTP/2, with a token and three rules.

use std::{
    cell::RefCell,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{sleep_until, timeout},
};

use crate::{
    gateways::{DOMAIN, Node},
    soak,
};

const HTTP1_CALLERS: u32 = 16;
const HTTP2_CALLERS: u32 = 4;
/// Of each caller.
const EVERY: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(5);

/// What they saw.
#[derive(Default)]
pub struct Seen {
    latencies: Vec<Duration>,
    /// Requests without a good answer.
    pub failed: u64,
    fault: Option<String>,
}

impl Seen {
    /// Requests with a good answer.
    pub fn answered(&self) -> usize {
        self.latencies.len()
    }

    /// The latency that this share of requests doesn't exceed.
    pub fn quantile(&self, share: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get((last as f64 * share) as usize).copied().unwrap_or(Duration::MAX)
    }

    /// Why the first one failed.
    pub fn first_fault(&self) -> &str {
        self.fault.as_deref().unwrap_or_default()
    }
}

/// Calls until `until`.
pub async fn load(node: Rc<Node>, until: Instant) -> Result<Seen> {
    let seen = Rc::new(RefCell::new(Seen::default()));
    let callers = (0..HTTP1_CALLERS + HTTP2_CALLERS).map(|number| {
        let start = Instant::now() + EVERY * number / (HTTP1_CALLERS + HTTP2_CALLERS);
        let (node, seen) = (node.clone(), seen.clone());
        tokio::task::spawn_local(async move {
            match number < HTTP1_CALLERS {
                true => http1(&node, start, until, &seen).await,
                false => http2(&node, start, until, &seen).await,
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await?;
    }
    let mut seen = Rc::into_inner(seen).context("a caller still runs")?.into_inner();
    seen.latencies.sort();
    Ok(seen)
}

/// One request after the other, each at its time or as soon after it as the one before is answered.
async fn http1(node: &Node, start: Instant, until: Instant, seen: &RefCell<Seen>) {
    let request = format!(
        "GET /api/users HTTP/1.1\r\nHost: guarded.{DOMAIN}\r\nUser-Agent: honest\r\nAuthorization: Bearer {}\r\n\r\n",
        node.token
    );
    let mut stream = None;
    let mut due = start;
    while due < until {
        sleep_until(due.into()).await;
        let answered = timeout(PATIENCE, async {
            let mut open = match stream.take() {
                Some(open) => open,
                None => {
                    let open = TcpStream::connect(node.address).await?;
                    open.set_nodelay(true)?;
                    open
                }
            };
            open.write_all(request.as_bytes()).await?;
            let status = soak::answer(&mut open).await?;
            stream = Some(open);
            if status == 200 { Ok(()) } else { bail!("answered {status}") }
        });
        note(seen, due, answered.await.unwrap_or_else(|_| bail!("no answer in time")));
        due += EVERY;
    }
}

/// The same over HTTP/2, all on one connection.
async fn http2(node: &Node, start: Instant, until: Instant, seen: &RefCell<Seen>) {
    let mut client = None;
    let mut due = start;
    while due < until {
        sleep_until(due.into()).await;
        let answered = timeout(PATIENCE, async {
            let open = match client.take() {
                Some(open) => open,
                None => {
                    let stream = TcpStream::connect(node.address).await?;
                    stream.set_nodelay(true)?;
                    let (open, connection) = h2::client::handshake(stream).await?;
                    // Its end shows in the requests.
                    tokio::task::spawn_local(async { connection.await.ok() });
                    open
                }
            };
            let mut open = open.ready().await?;
            let request = http::Request::get(format!("http://guarded.{DOMAIN}/api/users"))
                .header("authorization", format!("Bearer {}", node.token))
                .body(())?;
            let mut response = open.send_request(request, true)?.0.await?;
            while let Some(data) = response.body_mut().data().await {
                let length = data?.len();
                response.body_mut().flow_control().release_capacity(length)?;
            }
            client = Some(open);
            if response.status() == 200 { Ok(()) } else { bail!("answered {}", response.status()) }
        });
        note(seen, due, answered.await.unwrap_or_else(|_| bail!("no answer in time")));
        due += EVERY;
    }
}

fn note(seen: &RefCell<Seen>, due: Instant, answered: Result<()>) {
    let mut seen = seen.borrow_mut();
    match answered {
        Ok(()) => seen.latencies.push(due.elapsed()),
        Err(error) => {
            seen.failed += 1;
            seen.fault.get_or_insert_with(|| format!("{error:#}"));
        }
    }
}
