//! The kinds of resources, and one resource of any kind.

use std::{fmt, str::FromStr};

use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor};

use crate::{core, descriptor, meta::Metadata};

macro_rules! kinds {
    ($($kind:ident = $number:literal),* $(,)?) => {
        /// A kind of resource. The numbers are stored: never change or reuse one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "the kinds explain themselves")]
        pub enum Kind { $($kind = $number),* }

        /// One resource of any kind.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs, reason = "the kinds explain themselves")]
        #[allow(clippy::large_enum_variant, reason = "objects are kept behind an Arc, never in bulk by value")]
        pub enum Object { $($kind(core::$kind)),* }

        impl Kind {
            /// All kinds, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// As written in `kind:`, e.g. `ClusterConfig`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => stringify!($kind)),* }
            }

            /// The kind with this stored number.
            pub fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$kind),)* _ => None }
            }

            /// The descriptor of the kind's message.
            pub fn descriptor(self) -> MessageDescriptor {
                match self { $(Self::$kind => descriptor::message::<core::$kind>()),* }
            }

            /// Decodes the stored form of a resource of this kind.
            ///
            /// # Errors
            /// If `bytes` aren't such a message. Unknown fields are dropped; see [`crate::strict::decode`] for input from outside.
            pub fn decode(self, bytes: &[u8]) -> Result<Object, prost::DecodeError> {
                Ok(match self { $(Self::$kind => Object::$kind(core::$kind::decode(bytes)?)),* })
            }

            /// Decodes input from outside: what this version doesn't know is an error, a sentence.
            ///
            /// # Errors
            /// If `bytes` aren't such a message or hold an unknown field.
            pub fn decode_strictly(self, bytes: &[u8]) -> Result<Object, String> {
                Ok(match self { $(Self::$kind => Object::$kind(crate::strict::decode(bytes)?)),* })
            }
        }

        impl Object {
            /// The kind of this resource.
            pub fn kind(&self) -> Kind {
                match self { $(Self::$kind(_) => Kind::$kind),* }
            }

            /// The stored form: Protocol Buffers; equal resources have equal bytes.
            pub fn encode(&self) -> Vec<u8> {
                match self { $(Self::$kind(object) => object.encode_to_vec()),* }
            }

            /// Metadata, if the document has any.
            pub fn metadata(&self) -> Option<&Metadata> {
                match self { $(Self::$kind(object) => object.metadata.as_ref()),* }
            }

            /// Metadata, made if absent.
            pub fn metadata_mut(&mut self) -> &mut Metadata {
                match self { $(Self::$kind(object) => object.metadata.get_or_insert_default()),* }
            }

            /// Whether `spec` is present.
            pub fn has_spec(&self) -> bool {
                match self { $(Self::$kind(object) => object.spec.is_some()),* }
            }

            /// Sets `apiVersion` and `kind` as the server answers them.
            pub fn set_envelope(&mut self) {
                match self {
                    $(Self::$kind(object) => {
                        object.api_version = crate::API_VERSION.to_owned();
                        object.kind = stringify!($kind).to_owned();
                    })*
                }
            }

            /// Takes `spec` and the six writable members of metadata from `new`, keeps all else (identity, `status`).
            /// Does nothing if the kinds differ.
            pub fn overlay(&mut self, new: &Self) {
                match (&mut *self, new) {
                    $((Self::$kind(old), Self::$kind(new)) => old.spec = new.spec.clone(),)*
                    _ => return,
                }
                let from = new.metadata().cloned().unwrap_or_default();
                let into = self.metadata_mut();
                into.display_name = from.display_name;
                into.description = from.description;
                into.labels = from.labels;
                into.tags = from.tags;
                into.annotations = from.annotations;
                into.pic_url = from.pic_url;
            }

            /// Takes `status` from another resource of the same kind.
            pub fn set_status_of(&mut self, other: &Self) {
                match (self, other) {
                    $((Self::$kind(object), Self::$kind(other)) => object.status.clone_from(&other.status),)*
                    _ => {}
                }
            }

            /// Forgets `status`, which callers can't set.
            pub fn clear_status(&mut self) {
                match self { $(Self::$kind(object) => object.status = None),* }
            }
        }

        $(impl From<core::$kind> for Object {
            fn from(object: core::$kind) -> Self {
                Self::$kind(object)
            }
        })*

        $(impl TryFrom<Object> for core::$kind {
            type Error = Object;
            fn try_from(object: Object) -> Result<Self, Object> {
                match object { Object::$kind(object) => Ok(object), other => Err(other) }
            }
        })*
    };
}

kinds! {
    Namespace = 1,
    Service = 2,
    User = 3,
    Group = 4,
    Policy = 5,
    Credential = 6,
    Session = 7,
    Secret = 8,
    ClusterConfig = 9,
    Config = 10,
    IdentityProvider = 11,
    Device = 12,
    Authenticator = 13,
    Region = 14,
    Gateway = 15,
}

impl Object {
    /// The resource's name; empty if it has none.
    pub fn name(&self) -> &str {
        self.metadata().map_or("", |metadata| &metadata.name)
    }

    /// The resource's unique id; empty before the server made one.
    pub fn uid(&self) -> &str {
        self.metadata().map_or("", |metadata| &metadata.uid)
    }

    /// The version of this state of the resource.
    pub fn resource_version(&self) -> &str {
        self.metadata().map_or("", |metadata| &metadata.resource_version)
    }

    /// The names in `spec.authorization.policies`.
    pub fn attached_policies(&self) -> &[String] {
        self.authorization().0
    }

    /// `spec.authorization.inlinePolicies`.
    pub fn inline_policies(&self) -> &[core::InlinePolicy] {
        self.authorization().1
    }

    fn authorization(&self) -> (&[String], &[core::InlinePolicy]) {
        macro_rules! of {
            ($resource:expr) => {
                $resource
                    .spec
                    .as_ref()
                    .and_then(|spec| spec.authorization.as_ref())
                    .map_or((&[], &[]), |authorization| {
                        (authorization.policies.as_slice(), authorization.inline_policies.as_slice())
                    })
            };
        }
        match self {
            Self::Namespace(resource) => of!(resource),
            Self::Service(resource) => of!(resource),
            Self::User(resource) => of!(resource),
            Self::Group(resource) => of!(resource),
            Self::Credential(resource) => of!(resource),
            Self::Session(resource) => of!(resource),
            Self::Device(resource) => of!(resource),
            Self::ClusterConfig(resource) => of!(resource),
            Self::Policy(_)
            | Self::Secret(_)
            | Self::Config(_)
            | Self::IdentityProvider(_)
            | Self::Authenticator(_)
            | Self::Region(_)
            | Self::Gateway(_) => (&[], &[]),
        }
    }

    /// The uids of what this resource belongs to and is looked up by: the Namespace of a Service, the User of a Credential, the
    /// User, Credential and Device of a Session, and so on.
    pub fn owners(&self) -> impl Iterator<Item = &str> {
        macro_rules! of {
            ($resource:expr $(, $reference:ident)*) => {{
                let status = $resource.status.as_ref();
                let mut owners = [None; 3];
                let found = [$(status.and_then(|status| status.$reference.as_ref())),*];
                owners.iter_mut().zip(found).for_each(|(owner, reference)| *owner = reference.map(|to| to.uid.as_str()));
                owners
            }};
        }
        let owners: [Option<&str>; 3] = match self {
            Self::Service(service) => of!(service, namespace_ref, region_ref),
            Self::Credential(credential) => of!(credential, user_ref),
            Self::Session(session) => of!(session, user_ref, credential_ref, device_ref),
            Self::Device(device) => of!(device, user_ref),
            Self::Authenticator(authenticator) => of!(authenticator, user_ref, device_ref),
            Self::Gateway(gateway) => of!(gateway, region_ref),
            Self::Policy(policy) => of!(policy, parent_policy_ref),
            _ => [None; 3],
        };
        owners.into_iter().flatten().filter(|uid| !uid.is_empty())
    }

    /// The same resource with its descriptor, for generic walks.
    pub fn dynamic(&self) -> DynamicMessage {
        DynamicMessage::decode(self.kind().descriptor(), self.encode().as_slice())
            .expect("the message was encoded from the same descriptor")
    }

    /// A reference to this resource.
    pub fn reference(&self) -> crate::meta::ObjectReference {
        crate::meta::ObjectReference {
            api_version: crate::API_VERSION.to_owned(),
            kind: self.kind().name().to_owned(),
            uid: self.uid().to_owned(),
            name: self.name().to_owned(),
            resource_version: self.resource_version().to_owned(),
        }
    }
}

impl Kind {
    /// What administrators write, in an order in which nothing refers to a later kind (Policies refer to each other).
    pub const WRITTEN: [Self; 10] = [
        Self::Secret,
        Self::Config,
        Self::Policy,
        Self::IdentityProvider,
        Self::Namespace,
        Self::Group,
        Self::User,
        Self::Service,
        Self::Credential,
        Self::ClusterConfig,
    ];

    /// Whether the kind has `data` beside `spec`, which callers write and nobody reads back.
    pub fn has_data(self) -> bool {
        matches!(self, Self::Secret | Self::Config)
    }

    /// How a resource of this kind comes to be, where callers don't create it.
    pub fn made_by(self) -> Option<&'static str> {
        match self {
            Self::Session => Some("a Session is made by logging in"),
            Self::Device => Some("a Device is made by registering it from its owner's Session"),
            Self::Authenticator => Some("an Authenticator is made by its owner"),
            Self::Region => Some("a Region is made by the cluster"),
            Self::Gateway => Some("a Gateway is made by the cluster, one for each node"),
            _ => None,
        }
    }

    /// Whether only the cluster itself changes and deletes resources of this kind.
    pub fn is_read_only(self) -> bool {
        matches!(self, Self::Region | Self::Gateway)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|kind| kind.name() == text).ok_or(())
    }
}
