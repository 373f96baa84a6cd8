//! A sliding window in Redis, asked for each request, as gateways do that keep their counters there.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep},
};

use super::{cpu, spread};

const PORT: u16 = 16_379;
const WINDOW: Duration = Duration::from_secs(4);

/// A sorted set of the admissions of the last minute.
const SCRIPT: &str = "local now = redis.call('TIME') local at = now[1] * 1000000 + now[2] \
    redis.call('ZREMRANGEBYSCORE', KEYS[1], 0, at - 60000000) \
    if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end \
    redis.call('ZADD', KEYS[1], at, at .. ':' .. redis.call('INCR', 'seq')) redis.call('PEXPIRE', KEYS[1], 60000) return 1";

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok(); // it may have ended by itself
        self.0.wait().ok();
    }
}

pub async fn measure() -> Result<()> {
    let port = PORT.to_string();
    let arguments = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
    let child = Command::new("redis-server").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let server = match child {
        Ok(child) => Server(child),
        Err(error) => {
            println!("  left out: redis-server can't be started: {error}");
            return Ok(());
        }
    };
    let mut stream = connect().await?;
    let sha = call(&mut stream, &["SCRIPT", "LOAD", SCRIPT]).await?;
    for keys in [1_u64, 1_000, 100_000] {
        let (mut took, mut admitted) = (Vec::new(), 0);
        let (began, before) = (Instant::now(), cpu(server.0.id())?);
        let own = cpu(std::process::id())?;
        for turn in 0_u64.. {
            if began.elapsed() >= WINDOW {
                break;
            }
            let asked = Instant::now();
            let key = format!("k{}", turn % keys);
            admitted += u64::from(call(&mut stream, &["EVALSHA", &sha, "1", &key, "1000000"]).await? == "1");
            took.push(asked.elapsed());
        }
        let (server, own) = (cpu(server.0.id())? - before, cpu(std::process::id())? - own);
        let each = |of: Duration| of.as_secs_f64() * 1e6 / took.len() as f64;
        println!(
            "  {keys:>6} keys: {:.1} µs of Redis's CPU and {:.1} µs of its caller's a decision, {admitted} admitted; {}",
            each(server),
            each(own),
            spread(took.clone())
        );
    }
    Ok(())
}

async fn connect() -> Result<TcpStream> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match TcpStream::connect(("127.0.0.1", PORT)).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) if Instant::now() >= deadline => return Err(error).context("connecting to Redis"),
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// A command, and the one line of its answer.
async fn call(stream: &mut TcpStream, words: &[&str]) -> Result<String> {
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            bail!("Redis closed the connection");
        }
        let text = String::from_utf8_lossy(&answer);
        let mut lines = text.split("\r\n");
        match text.as_bytes().first() {
            Some(b'-') => bail!("Redis: {text}"),
            Some(b':') if text.ends_with("\r\n") => return Ok(lines.next().unwrap_or_default()[1..].to_owned()),
            Some(b'$') if text.matches("\r\n").count() >= 2 => return Ok(lines.nth(1).unwrap_or_default().to_owned()),
            _ => {}
        }
    }
}
