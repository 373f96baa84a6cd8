//! Contexts, resources and policies for tests.

use std::borrow::Cow;

use octelium_api::{core, descriptor};
use octelium_policy::{Context, Grpc, Request, Value};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value as Reflected};
use serde_json::Value as Json;

/// A message from its JSON form.
pub fn message(descriptor: MessageDescriptor, json: &Json) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    if descriptor.full_name() == "google.protobuf.Timestamp" {
        let time = chrono::DateTime::parse_from_rfc3339(json.as_str().unwrap()).unwrap();
        message.set_field_by_name("seconds", Reflected::I64(time.timestamp()));
        message.set_field_by_name("nanos", Reflected::I32(time.timestamp_subsec_nanos() as i32));
        return message;
    }
    if descriptor.full_name() == "google.protobuf.Struct" {
        let field = descriptor.get_field_by_name("fields").unwrap();
        message.set_field(&field, value(&field, json));
        return message;
    }
    if descriptor.full_name() == "google.protobuf.Value" {
        let (name, set) = match json {
            Json::Null => ("null_value", Reflected::EnumNumber(0)),
            Json::Bool(value) => ("bool_value", Reflected::Bool(*value)),
            Json::Number(number) => ("number_value", Reflected::F64(number.as_f64().unwrap())),
            Json::String(text) => ("string_value", Reflected::String(text.clone())),
            Json::Object(_) => {
                let of = descriptor.get_field_by_name("struct_value").unwrap();
                ("struct_value", value(&of, json))
            }
            Json::Array(_) => {
                let Kind::Message(list) = descriptor.get_field_by_name("list_value").unwrap().kind() else {
                    unreachable!()
                };
                let values = list.get_field_by_name("values").unwrap();
                let mut made = DynamicMessage::new(list);
                made.set_field(&values, value(&values, json));
                ("list_value", Reflected::Message(made))
            }
        };
        message.set_field_by_name(name, set);
        return message;
    }
    for (name, json) in json.as_object().unwrap_or_else(|| panic!("{} from {json}", descriptor.name())) {
        let field = descriptor.get_field_by_name(name).unwrap_or_else(|| panic!("{} has no {name}", descriptor.name()));
        message.set_field(&field, value(&field, json));
    }
    message
}

fn value(field: &FieldDescriptor, json: &Json) -> Reflected {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            let of = entry.map_entry_value_field();
            let entries = json.as_object().unwrap().iter();
            Reflected::Map(entries.map(|(key, json)| (MapKey::String(key.clone()), single(&of, json))).collect())
        }
        _ if field.is_list() => {
            Reflected::List(json.as_array().unwrap().iter().map(|json| single(field, json)).collect())
        }
        _ => single(field, json),
    }
}

fn single(field: &FieldDescriptor, json: &Json) -> Reflected {
    match field.kind() {
        Kind::Bool => Reflected::Bool(json.as_bool().unwrap()),
        Kind::String => Reflected::String(json.as_str().unwrap().to_owned()),
        Kind::Int32 => Reflected::I32(json.as_i64().unwrap() as i32),
        Kind::Int64 => Reflected::I64(json.as_i64().unwrap()),
        Kind::Uint32 => Reflected::U32(json.as_u64().unwrap() as u32),
        Kind::Uint64 => Reflected::U64(json.as_u64().unwrap()),
        Kind::Double => Reflected::F64(json.as_f64().unwrap()),
        Kind::Bytes => Reflected::Bytes(json.as_str().unwrap().as_bytes().to_vec().into()),
        Kind::Enum(of) => {
            let name = json.as_str().unwrap();
            Reflected::EnumNumber(of.get_value_by_name(name).unwrap_or_else(|| panic!("no {name}")).number())
        }
        Kind::Message(of) => Reflected::Message(message(of, json)),
        kind => unreachable!("{kind:?}"),
    }
}

/// A generated message from its JSON form.
pub fn generated<M: prost_reflect::prost::Message + prost_reflect::prost::Name + Default>(json: &Json) -> M {
    message(descriptor::message::<M>(), json).transcode_to().unwrap()
}

fn subject<M: prost_reflect::prost::Name>(json: &Json) -> Value {
    Value::from_message(&message(descriptor::message::<M>(), json))
}

/// A request, and everything else of a context, owned.
#[derive(Default)]
pub struct World {
    pub request: Option<TestRequest>,
    pub session: Option<Value>,
    pub user: Option<Value>,
    pub groups: Option<Value>,
    pub device: Option<Value>,
    pub service: Option<Value>,
    pub namespace: Option<Value>,
    pub now_unix_nanos: i64,
}

impl World {
    pub fn new(json: &Json) -> Self {
        let now = json.get("now").and_then(Json::as_str).unwrap_or("2026-01-02T03:04:05Z");
        let now = chrono::DateTime::parse_from_rfc3339(now).unwrap();
        Self {
            request: json.get("request").map(TestRequest::new),
            session: json.get("session").map(subject::<core::Session>),
            user: json.get("user").map(subject::<core::User>),
            groups: json
                .get("groups")
                .map(|groups| Value::list(groups.as_array().unwrap().iter().map(subject::<core::Group>).collect())),
            device: json.get("device").map(subject::<core::Device>),
            service: json.get("service").map(subject::<core::Service>),
            namespace: json.get("namespace").map(subject::<core::Namespace>),
            now_unix_nanos: now.timestamp_nanos_opt().unwrap(),
        }
    }

    pub fn context(&self) -> Context<'_> {
        fn of(value: &Option<Value>) -> Option<&dyn octelium_policy::Subject> {
            value.as_ref().map(|value| value as _)
        }
        Context {
            request: self.request.as_ref().map(|request| request as _),
            session: of(&self.session),
            user: of(&self.user),
            groups: of(&self.groups),
            device: of(&self.device),
            service: of(&self.service),
            namespace: of(&self.namespace),
            now_unix_nanos: self.now_unix_nanos,
        }
    }
}

/// A request made of JSON: members as in `ctx.request.http`, `headers` and `query` with lists of values, `grpc`.
pub struct TestRequest {
    json: Json,
    headers: [Value; 2],
    query: [Value; 2],
    body_map: Option<Value>,
}

impl TestRequest {
    pub fn new(json: &Json) -> Self {
        let maps = |name: &str| {
            let entries: Vec<(String, Vec<Value>)> = json
                .get(name)
                .and_then(Json::as_object)
                .into_iter()
                .flatten()
                .map(|(name, values)| (name.clone(), values.as_array().unwrap().iter().map(Value::from_json).collect()))
                .collect();
            let first = Value::map(entries.iter().map(|(name, values)| (name.as_str(), values[0].clone())));
            let all = Value::map(entries.iter().map(|(name, values)| (name.as_str(), Value::list(values.clone()))));
            [first, all]
        };
        Self {
            headers: maps("headers"),
            query: maps("query"),
            body_map: json.get("bodyMap").map(Value::from_json),
            json: json.clone(),
        }
    }

    fn text(&self, name: &str) -> &str {
        self.json.get(name).and_then(Json::as_str).unwrap_or_default()
    }
}

fn first<'a>(map: &'a Value, name: &str) -> Option<Cow<'a, str>> {
    let Value::Map(map) = map else { return None };
    match map.get(name)? {
        Value::String(text) => Some(Cow::Borrowed(&**text)),
        _ => None,
    }
}

impl Request for TestRequest {
    fn ip(&self) -> &str {
        self.text("ip")
    }
    fn method(&self) -> &str {
        self.text("method")
    }
    fn path(&self) -> &str {
        self.text("path")
    }
    fn uri(&self) -> &str {
        self.text("uri")
    }
    fn host(&self) -> &str {
        self.text("host")
    }
    fn scheme(&self) -> &str {
        self.text("scheme")
    }
    fn protocol(&self) -> &str {
        self.text("protocol")
    }
    fn size(&self) -> i64 {
        self.json.get("size").and_then(Json::as_i64).unwrap_or(-1)
    }
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        first(&self.headers[0], name)
    }
    fn headers(&self) -> &Value {
        &self.headers[0]
    }
    fn headers_all(&self) -> &Value {
        &self.headers[1]
    }
    fn query_param(&self, name: &str) -> Option<Cow<'_, str>> {
        first(&self.query[0], name)
    }
    fn query_params(&self) -> &Value {
        &self.query[0]
    }
    fn query_params_all(&self) -> &Value {
        &self.query[1]
    }
    fn shows_body(&self) -> bool {
        self.json.get("unread").is_none()
    }
    fn body(&self) -> Option<&[u8]> {
        self.json.get("body").and_then(Json::as_str).map(str::as_bytes)
    }
    fn body_map(&self) -> Option<&Value> {
        self.body_map.as_ref()
    }
    fn grpc(&self) -> Option<Grpc<'_>> {
        let grpc = self.json.get("grpc")?;
        let text = |name: &str| grpc.get(name).and_then(Json::as_str).unwrap_or_default();
        Some(Grpc {
            service: text("service"),
            service_full_name: text("serviceFullName"),
            method: text("method"),
            package: text("package"),
        })
    }
}

/// The YAML files of a folder under `tests/cases`, parsed.
pub fn yaml<T: serde::de::DeserializeOwned>(file: &str) -> T {
    let path = format!("{}/tests/cases/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A usual context.
pub fn world() -> World {
    World::new(&yaml("world.yaml"))
}
