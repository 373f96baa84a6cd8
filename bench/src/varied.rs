//! An upstream that answers as the path says: at once, late, with much, never, with a WebSocket that echoes, or not at all.

use std::{io, net::SocketAddr, sync::LazyLock, thread, time::Duration};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::sleep,
};

/// Of an answer under `/large/`.
const LARGE_BYTES: usize = 4 << 20;
/// All answers are of this letter.
static BODY: LazyLock<Vec<u8>> = LazyLock::new(|| vec![b'x'; LARGE_BYTES]);

/// Starts on a free port, on a thread of its own, so that its callers' work doesn't hold it up.
///
/// By path prefix: `/socket` upgrades and echoes, `/sluggish` waits, `/broken` closes, `/silent` reads and says nothing, `/large`
/// gets 4 MiB; all else gets 1 KiB.
/// `nice` is how far its thread stands back (0–19).
pub fn start(nice: i32) -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        // Of this thread only.
        rustix::process::nice(nice)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(accept(listener))
    });
    Ok(address)
}

async fn accept(listener: std::net::TcpListener) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(serve(stream));
    }
}

async fn serve(mut stream: TcpStream) {
    let mut bytes = Vec::new();
    loop {
        match stream.read_buf(&mut bytes).await {
            Ok(1..) => {}
            _ => return,
        }
        while let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head: Vec<u8> = bytes.drain(..end + 4).collect();
            let wrote = if head.starts_with(b"GET /socket/") {
                let switch = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
                if stream.write_all(switch.as_bytes()).await.is_ok() {
                    let (mut read, mut write) = stream.split();
                    // The caller's leaving is how it ends.
                    tokio::io::copy(&mut read, &mut write).await.ok();
                }
                return;
            } else if head.starts_with(b"GET /broken/") {
                return;
            } else if head.starts_with(b"POST /silent/") {
                while matches!(stream.read(&mut [0; 4096]).await, Ok(1..)) {}
                return;
            } else {
                if head.starts_with(b"GET /sluggish/") {
                    sleep(Duration::from_millis(200)).await;
                }
                let length = if head.starts_with(b"GET /large/") { LARGE_BYTES } else { 1024 };
                let mut start = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
                let at_once = length.min(1024);
                start.extend_from_slice(&BODY[..at_once]);
                match stream.write_all(&start).await {
                    Ok(()) => stream.write_all(&BODY[at_once..length]).await,
                    failed => failed,
                }
            };
            if wrote.is_err() {
                return;
            }
        }
    }
}
