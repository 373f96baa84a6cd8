//! Answers without an upstream.

use http::header;
use octelium_actors::router::Direct;
use octelium_http1::{Body, Response};

/// The answer, as it is written.
pub fn answer(direct: &Direct) -> Response {
    let mut response = Response::new(direct.status);
    response.body = Body::full(direct.body.clone());
    if let Some(content_type) = &direct.content_type {
        response.headers.append(&header::CONTENT_TYPE, content_type);
    }
    response
}
