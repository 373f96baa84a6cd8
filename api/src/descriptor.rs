//! The descriptors of all messages: names, numbers and types, as the `.proto` files declare them.

use std::sync::OnceLock;

use prost::Name;
use prost_reflect::{DescriptorPool, MessageDescriptor};

/// The same as a `google.protobuf.FileDescriptorSet`.
pub static BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Every file of `api/proto`.
pub fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| DescriptorPool::decode(BYTES).expect("the build script wrote these descriptors"))
}

/// The descriptor of a generated message.
pub fn message<M: Name>() -> MessageDescriptor {
    pool().get_message_by_name(&M::full_name()).expect("every generated message is in the pool")
}
