//! HTTP/2 as bytes (RFC 9113 §4.1, RFC 7541): what no library would send.

/// What a client sends first: preface and empty SETTINGS.
pub const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// Types of frames.
pub const DATA: u8 = 0;
/// See [`DATA`].
pub const HEADERS: u8 = 1;
/// See [`DATA`].
pub const RST_STREAM: u8 = 3;
/// See [`DATA`].
pub const SETTINGS: u8 = 4;
/// See [`DATA`].
pub const PING: u8 = 6;
/// See [`DATA`].
pub const WINDOW_UPDATE: u8 = 8;
/// See [`DATA`].
pub const CONTINUATION: u8 = 9;

/// Flags.
pub const END_STREAM: u8 = 1;
/// See [`END_STREAM`].
pub const END_HEADERS: u8 = 4;

/// Adds one frame.
pub fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// The header block of a request for `/` at `host`, by static entries and one literal.
pub fn request(method: Method, host: &str) -> Vec<u8> {
    let mut block = vec![method as u8, 0x86, 0x84, 0x01];
    literal(&mut block, host.as_bytes());
    block
}

/// Index of a method in the static table.
#[derive(Clone, Copy)]
pub enum Method {
    /// `:method: GET`.
    Get = 0x82,
    /// `:method: POST`.
    Post = 0x83,
}

/// A string without Huffman coding, up to 16 KiB.
pub fn literal(out: &mut Vec<u8>, text: &[u8]) {
    match text.len() {
        length @ ..0x7f => out.push(length as u8),
        length => {
            let rest = length - 0x7f;
            out.push(0x7f);
            out.push((rest % 128) as u8 | if rest >= 128 { 0x80 } else { 0 });
            if rest >= 128 {
                out.push((rest / 128) as u8);
            }
        }
    }
    out.extend_from_slice(text);
}
