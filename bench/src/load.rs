//! The load: keep-alive connections, one request at a time on each.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::LocalSet,
};

use crate::gateways::Gateway;

/// Requests answered with 200 and a whole body within `window`.
pub async fn run(gateway: &Gateway, connections: usize, window: Duration) -> Result<u64> {
    let answered = Rc::new(Cell::new(0));
    let until = Instant::now() + window;
    let local = LocalSet::new();
    let tasks: Vec<_> = (0..connections)
        .map(|_| local.spawn_local(connection(gateway.address, gateway.request.clone(), answered.clone(), until)))
        .collect();
    local.await;
    for task in tasks {
        task.await??;
    }
    Ok(answered.get())
}

/// The request gets what the scenario promises, and without its credential it doesn't.
pub async fn check(gateway: &Gateway) -> Result<()> {
    let (status, length) = once(gateway, &gateway.request).await?;
    if (status, length) != (200, 1024) {
        bail!("answered {status} with {length} bytes");
    }
    if let Some(refused) = &gateway.refused {
        let (status, _) = once(gateway, refused).await?;
        if !(401..=403).contains(&status) {
            bail!("a request that should be refused got {status}");
        }
    }
    Ok(())
}

async fn once(gateway: &Gateway, request: &str) -> Result<(u16, usize)> {
    let mut stream = TcpStream::connect(gateway.address).await?;
    stream.write_all(request.as_bytes()).await?;
    read_response(&mut stream, &mut vec![0; 64 << 10]).await
}

async fn connection(
    address: std::net::SocketAddr,
    request: Rc<str>,
    answered: Rc<Cell<u64>>,
    until: Instant,
) -> Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 64 << 10];
    while Instant::now() < until {
        stream.write_all(request.as_bytes()).await?;
        let (status, _) = read_response(&mut stream, &mut buffer).await?;
        if status != 200 {
            bail!("answered {status} under load");
        }
        answered.set(answered.get() + 1);
    }
    Ok(())
}

async fn read_response(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<(u16, usize)> {
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            bail!("closed within a response");
        }
        filled += read;
        let Some(head) = buffer[..filled].windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let text = std::str::from_utf8(&buffer[..head])?.to_ascii_lowercase();
        let status = text.split(' ').nth(1).context("no status")?.parse()?;
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:")).context("no length")?;
        let length: usize = length.trim().parse()?;
        while filled < head + 4 + length {
            let read = stream.read(&mut buffer[filled..]).await?;
            if read == 0 {
                bail!("closed within a body");
            }
            filled += read;
        }
        return Ok((status, length));
    }
}
