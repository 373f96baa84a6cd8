//! Both sides together: a plain forwarder between real sockets.

use std::rc::Rc;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Method, StatusCode};
use octelium_http1::{Body, Drain, Limits, Pool, PoolLimits, Request, Response, SendError, ServeError, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, spawn_local};

use crate::client::Dial;
use crate::support::{act, read_head, read_rest, read_until, run, text};

const LARGE: usize = 16 * 1024 * 1024;

/// A forwarder for one downstream connection: the client's end, the listener that stands for the upstream, the pool,
/// and how serving ended.
struct Forwarder {
    client: TcpStream,
    upstream: TcpListener,
    pool: Pool,
    ended: JoinHandle<Result<(), ServeError>>,
}

async fn forwarder() -> Forwarder {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (downstream, _) = listener.accept().await.unwrap();
    let pool = Pool::new(PoolLimits::default());
    let (dial, used) = (Dial(upstream.local_addr().unwrap().port()), pool.clone());
    let ended = spawn_local(async move {
        let handler = act(async |mut request: Request| {
            request.headers.remove("connection");
            match used.send("upstream", &dial, request).await {
                Ok(response) => response,
                Err(error) => Response::new(match error {
                    SendError::RequestBody(_) => StatusCode::BAD_REQUEST,
                    _ => StatusCode::BAD_GATEWAY,
                }),
            }
        });
        serve(downstream, &Limits::default(), &handler, &Drain::new()).await
    });
    Forwarder { client, upstream, pool, ended }
}

/// Serves upstream connections with our own server side, echoing bodies.
async fn echo(listener: TcpListener) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        spawn_local(async move {
            let handler = act(async |request: Request| text(request.body));
            let _ = serve(stream, &Limits::default(), &handler, &Drain::new()).await;
        });
    }
}

#[test]
fn large_bodies_and_trailers_pass_in_both_directions() {
    run(async {
        let Forwarder { mut client, upstream, pool, ended } = forwarder().await;
        spawn_local(echo(upstream));
        let body: Rc<[u8]> = (0..LARGE).map(|at| (at % 251) as u8).collect();
        let (mut read, mut write) = client.split();
        let sender = async {
            write
                .write_all(format!("PUT /1 HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n").as_bytes())
                .await
                .unwrap();
            write.write_all(&body).await.unwrap();
            write.write_all(b"PUT /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
            for piece in body.chunks(100_000) {
                write.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.unwrap();
                write.write_all(piece).await.unwrap();
                write.write_all(b"\r\n").await.unwrap();
            }
            write.write_all(b"0\r\nGrpc-Status: 0\r\nHost: b\r\n\r\n").await.unwrap();
        };
        let receiver = async {
            let head = read_head(&mut read).await;
            assert!(head.contains(&format!("content-length: {LARGE}\r\n")), "{head}");
            let mut echoed = vec![0; LARGE];
            read.read_exact(&mut echoed).await.unwrap();
            assert!(echoed[..] == body[..]);

            let head = read_head(&mut read).await;
            assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
            echoed.clear();
            loop {
                let size = read_until(&mut read, |text| text.ends_with("\r\n")).await;
                let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
                if size == 0 {
                    break;
                }
                let start = echoed.len();
                echoed.resize(start + size, 0);
                read.read_exact(&mut echoed[start..]).await.unwrap();
                assert_eq!(read.read_u16().await.unwrap(), u16::from_be_bytes(*b"\r\n"));
            }
            assert!(echoed[..] == body[..]);
            assert_eq!(read_head(&mut read).await, "grpc-status: 0\r\n\r\n");
        };
        tokio::join!(sender, receiver);
        assert_eq!(pool.idle(), 1);
        drop(client);
        ended.await.unwrap().unwrap();
    });
}

#[test]
fn a_client_that_sends_all_before_it_reads_is_served() {
    // More than the sockets of both hops hold: 4 MiB to send and 6 MiB received each.
    const TOO_LARGE: usize = 40 * 1024 * 1024;
    run(async {
        let Forwarder { mut client, upstream, .. } = forwarder().await;
        // Answers at once with more than the sockets hold, and reads the request meanwhile.
        spawn_local(async move {
            let (mut stream, _) = upstream.accept().await.unwrap();
            read_head(&mut stream).await;
            let (mut read, mut write) = stream.split();
            let answer = vec![b'y'; TOO_LARGE];
            let mut taken = vec![0; TOO_LARGE];
            let (wrote, taken) = tokio::join!(
                async {
                    write
                        .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {TOO_LARGE}\r\n\r\n").as_bytes())
                        .await
                        .unwrap();
                    write.write_all(&answer).await
                },
                read.read_exact(&mut taken),
            );
            wrote.and(taken.map(drop)).unwrap();
        });
        client
            .write_all(format!("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {TOO_LARGE}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        client.write_all(&vec![b'x'; TOO_LARGE]).await.unwrap();
        assert!(read_head(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"));
        let mut answer = vec![0; TOO_LARGE];
        client.read_exact(&mut answer).await.unwrap();
        assert!(answer.iter().all(|byte| *byte == b'y'));
    });
}

#[test]
fn a_client_that_leaves_closes_the_upstream_connection() {
    run(async {
        let Forwarder { mut client, upstream, pool, ended } = forwarder().await;
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let (mut stream, _) = upstream.accept().await.unwrap();
        read_head(&mut stream).await;
        drop(client);
        assert_eq!(read_rest(&mut stream).await, "");
        assert!(matches!(ended.await.unwrap(), Err(ServeError::Aborted)));
        assert_eq!(pool.idle(), 0);
    });
}

#[test]
fn a_client_that_leaves_within_its_body_closes_the_upstream_connection() {
    run(async {
        let Forwarder { mut client, upstream, pool, ended } = forwarder().await;
        client.write_all(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc").await.unwrap();
        let (mut stream, _) = upstream.accept().await.unwrap();
        read_until(&mut stream, |text| text.ends_with("abc")).await;
        client.shutdown().await.unwrap();
        assert_eq!(read_rest(&mut stream).await, "");
        assert!(read_head(&mut client).await.starts_with("HTTP/1.1 400 "));
        ended.await.unwrap().unwrap();
        assert_eq!(pool.idle(), 0);
    });
}

#[test]
fn an_upstream_that_breaks_off_breaks_off_the_response() {
    run(async {
        for framing in ["Content-Length: 9\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"] {
            let Forwarder { mut client, upstream, ended, .. } = forwarder().await;
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            let (mut stream, _) = upstream.accept().await.unwrap();
            read_head(&mut stream).await;
            stream.write_all(format!("HTTP/1.1 200 OK\r\n{framing}").as_bytes()).await.unwrap();
            drop(stream);
            let output = read_rest(&mut client).await;
            assert!(output.contains("abc") && !output.contains("0\r\n\r\n"), "{output:?}");
            assert!(matches!(ended.await.unwrap(), Err(ServeError::Body(_))));
        }
    });
}

#[test]
fn many_clients_share_the_pool() {
    run(async {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let dial = Rc::new(Dial(upstream.local_addr().unwrap().port()));
        let pool = Pool::new(PoolLimits::default());
        spawn_local(echo(upstream));
        let used = pool.clone();
        spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (pool, dial) = (used.clone(), dial.clone());
                spawn_local(async move {
                    let handler = act(async |request: Request| pool.send("upstream", &*dial, request).await.unwrap());
                    serve(stream, &Limits::default(), &handler, &Drain::new()).await
                });
            }
        });
        let clients: Vec<_> = (0..20)
            .map(|client| {
                spawn_local(async move {
                    let pool = Pool::new(PoolLimits::default());
                    for number in 0..20 {
                        let sent = Bytes::from(format!("{client} {number} ").repeat(number * 100 + 1));
                        let mut request = Request::new(Method::POST, "/");
                        request.body = Body::full(sent.clone());
                        request.headers.append(&HOST, &HeaderValue::from_static("a"));
                        let response = pool.send("gateway", &Dial(port), request).await.unwrap();
                        assert_eq!(response.body.collect(sent.len()).await.unwrap(), sent);
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        assert!((1..=20).contains(&pool.idle()), "{}", pool.idle());
    });
}
