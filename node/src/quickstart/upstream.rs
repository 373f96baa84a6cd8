//! The demo upstream: answers whoever shows its token, and tells what it saw.

use std::{io, net::SocketAddr, rc::Rc};

use http::{HeaderValue, StatusCode, header};
use octelium_http1::{Body, Drain, Handler, Limits, Refusal, Request, Response, serve};
use serde_json::json;
use tokio::{net::TcpListener, runtime::Builder, task::LocalSet};

/// Starts on a free port of 127.0.0.1, on a thread of its own that ends with the process.
///
/// # Errors
/// If there is no port or no thread.
pub fn start(token: &str) -> io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let expected = format!("Bearer {token}");
    std::thread::Builder::new().name("demo-upstream".into()).spawn(move || {
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::error!(%error, "the demo upstream can't start"),
        };
        LocalSet::new().block_on(&runtime, accept(listener, expected));
    })?;
    Ok(address)
}

async fn accept(listener: std::net::TcpListener, expected: String) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the demo upstream can't start"),
    };
    let demo = Rc::new(Demo { expected });
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let demo = demo.clone();
                tokio::task::spawn_local(async move {
                    if let Err(error) = serve(stream, &Limits::default(), &*demo, &Drain::new()).await {
                        tracing::debug!(%error, "a connection of the demo upstream ended early");
                    }
                });
            }
            Err(error) => return tracing::error!(%error, "the demo upstream can't go on"),
        }
    }
}

struct Demo {
    expected: String,
}

impl Handler for Demo {
    async fn handle(&self, request: Request) -> Response {
        let is_known = request.headers.get("authorization") == Some(self.expected.as_bytes());
        let path = request.target.split('?').next().unwrap_or_default();
        let (status, text) = if is_known {
            let seen = json!({
                "message": "hello from the demo upstream",
                "method": request.method.as_str(),
                "path": path,
                "upstreamCredential": "accepted",
            });
            (StatusCode::OK, seen)
        } else {
            (StatusCode::FORBIDDEN, json!({ "message": "the demo upstream wants its own token" }))
        };
        let mut response = Response::new(status);
        response.body = Body::full(format!("{text}\n"));
        response.headers.insert(&header::CONTENT_TYPE, &HeaderValue::from_static("application/json"));
        response
    }

    fn refused(&self, refusal: &Refusal, _head: &[u8]) {
        tracing::debug!(reason = refusal.reason, "the demo upstream refused a request");
    }
}
