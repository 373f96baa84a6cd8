//! A minimal forwarder (`serve` + `Pool::send`) under load over loopback: requests per second and CPU time per request
//! of the forwarder's thread, HTTP/1.1 keep-alive, 1 KiB responses.
//!
//! `cargo bench -p octelium-http1 --bench forward -- [seconds] [connections]`

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use octelium_http1::{Body, Connect, Drain, Handler, Limits, Pool, PoolLimits, Refusal, Request, Response, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

const REQUEST: &[u8] = b"GET /some/path?with=query HTTP/1.1\r\nHost: service.example\r\nUser-Agent: bench/1\r\n\
    Accept: */*\r\nAccept-Encoding: gzip, br\r\nX-Request-Id: 0123456789abcdef\r\n\r\n";
const BODY_BYTES: usize = 1024;

struct Dial(u16);

impl Connect for Dial {
    type Io = TcpStream;

    async fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", self.0)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

struct Origin(Bytes);

impl Handler for Origin {
    async fn handle(&self, _: Request) -> Response {
        let mut response = Response::new(StatusCode::OK);
        response.body = Body::full(self.0.clone());
        response
    }

    fn refused(&self, refusal: &Refusal, _: &[u8]) {
        panic!("refused: {refusal:?}");
    }
}

struct Forwarder {
    pool: Pool,
    dial: Dial,
    served: Rc<Cell<u64>>,
}

impl Handler for Forwarder {
    async fn handle(&self, request: Request) -> Response {
        self.served.set(self.served.get() + 1);
        self.pool.send("upstream", &self.dial, request).await.unwrap_or_else(|error| {
            eprintln!("{error}");
            Response::new(StatusCode::BAD_GATEWAY)
        })
    }

    fn refused(&self, refusal: &Refusal, _: &[u8]) {
        panic!("refused: {refusal:?}");
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, future)
}

async fn accept<H: Handler + 'static>(listener: TcpListener, handler: Rc<H>) {
    loop {
        let (stream, _) = listener.accept().await.expect("accept");
        stream.set_nodelay(true).expect("nodelay");
        let handler = handler.clone();
        spawn_local(async move {
            let _ = serve(stream, &Limits::default(), &*handler, &Drain::new()).await;
        });
    }
}

/// Runs a server on its own thread; gives its port.
fn server<H: Handler + 'static>(make: impl FnOnce() -> H + Send + 'static) -> u16 {
    let (tell, told) = mpsc::sync_channel(1);
    thread::spawn(move || {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
            tell.send(listener.local_addr().expect("bound").port()).expect("the main thread waits");
            accept(listener, Rc::new(make())).await;
        });
    });
    told.recv().expect("the server's port")
}

/// Like [`server`], and reports requests and CPU time each time it is asked.
fn forwarder(upstream: u16) -> (u16, impl Fn() -> (u64, Duration)) {
    let (tell, told) = mpsc::sync_channel(1);
    let (ask, mut asked) = tokio::sync::mpsc::channel::<mpsc::SyncSender<(u64, Duration)>>(1);
    thread::spawn(move || {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
            tell.send(listener.local_addr().expect("bound").port()).expect("the main thread waits");
            let served = Rc::new(Cell::new(0));
            let pool = Pool::new(PoolLimits { idle_per_key_max: 256, ..PoolLimits::default() });
            let handler = Rc::new(Forwarder { pool, dial: Dial(upstream), served: served.clone() });
            spawn_local(accept(listener, handler));
            while let Some(reply) = asked.recv().await {
                reply.send((served.get(), cpu_time())).expect("the main thread waits");
            }
        });
    });
    let port = told.recv().expect("the forwarder's port");
    let report = move || {
        let (reply, replied) = mpsc::sync_channel(1);
        ask.try_send(reply).expect("the forwarder runs");
        replied.recv().expect("a report")
    };
    (port, report)
}

/// CPU time of this thread so far; zero where the system doesn't tell.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|field| field.parse().ok()).unwrap_or_default())
}

/// Requests answered within `time` on `connections` connections.
async fn load(port: u16, connections: usize, time: Duration) -> u64 {
    let end = Instant::now() + time;
    let clients: Vec<_> = (0..connections)
        .map(|_| {
            spawn_local(async move {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("connect");
                stream.set_nodelay(true).expect("nodelay");
                let mut buffer = vec![0; 4096];
                let mut count = 0u64;
                while Instant::now() < end {
                    stream.write_all(REQUEST).await.expect("write");
                    let mut filled = 0;
                    let mut whole = None;
                    while whole.is_none_or(|whole| filled < whole) {
                        let read = stream.read(&mut buffer[filled..]).await.expect("read");
                        assert!(read > 0, "closed");
                        filled += read;
                        let head = buffer[..filled].windows(4).position(|part| part == b"\r\n\r\n");
                        whole = head.map(|head| head + 4 + BODY_BYTES);
                    }
                    count += 1;
                }
                count
            })
        })
        .collect();
    let mut all = 0;
    for client in clients {
        all += client.await.expect("a client");
    }
    all
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` runs this too, without the flag: then there is nothing to measure.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let mut numbers = arguments.iter().filter_map(|argument| argument.parse::<u64>().ok());
    let time = Duration::from_secs(numbers.next().unwrap_or(5));
    let connections = numbers.next().unwrap_or(32) as usize;

    let origin = server(|| Origin(Bytes::from(vec![b'x'; BODY_BYTES])));
    let (port, report) = forwarder(origin);
    run(async {
        load(port, connections, Duration::from_millis(500)).await;
        let direct = load(origin, connections, time).await;
        println!("direct:    {:>8.0} requests/s", direct as f64 / time.as_secs_f64());
        let (served_before, cpu_before) = report();
        let forwarded = load(port, connections, time).await;
        let (served, cpu) = report();
        let per_request = (cpu - cpu_before).as_secs_f64() * 1e6 / (served - served_before).max(1) as f64;
        println!("forwarded: {:>8.0} requests/s", forwarded as f64 / time.as_secs_f64());
        println!("forwarder: {per_request:>8.2} µs of CPU per request");
    });
}
