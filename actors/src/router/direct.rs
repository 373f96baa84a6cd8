//! A fixed answer, made once.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use octelium_api::core::service::spec::config::http::response;

/// The `response.direct` block of a configuration.
#[derive(Debug, Clone)]
pub struct Direct {
    /// Its status.
    pub status: StatusCode,
    /// Its `Content-Type`.
    pub content_type: Option<HeaderValue>,
    /// Its body.
    pub body: Bytes,
}

impl Direct {
    /// Compiles a block.
    ///
    /// # Errors
    /// A sentence, if it can't be an answer.
    pub fn compile(block: &response::Direct) -> Result<Self, String> {
        let code = if block.status_code == 0 { 200 } else { block.status_code };
        let status = u16::try_from(code).ok().filter(|code| (200..=599).contains(code));
        let status = status.and_then(|code| StatusCode::from_u16(code).ok());
        let content_type = HeaderValue::from_str(&block.content_type);
        Ok(Self {
            status: status.ok_or_else(|| format!("{code} is not the status of an answer"))?,
            content_type: Some(content_type.map_err(|_| "contentType can't stand in a header".to_owned())?)
                .filter(|value| !value.is_empty()),
            body: match &block.r#type {
                Some(response::direct::Type::Inline(text)) => Bytes::from(text.clone()),
                Some(response::direct::Type::InlineBytes(bytes)) => Bytes::from(bytes.to_vec()),
                None => return Err("needs `inline` or `inlineBytes`".to_owned()),
            },
        })
    }
}
