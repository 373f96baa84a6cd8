//! What of a resource somebody wrote, without what the server keeps itself: it can be compared, edited and applied anywhere.

use octelium_api::{Object, manifest, meta::Metadata};

use crate::output::without_secrets;

/// `object` as a manifest would describe it, without secret data.
pub fn object(object: &Object) -> Object {
    let mut object = without_secrets(object);
    object.set_envelope();
    object.clear_status();
    let metadata = object.metadata_mut();
    let given = std::mem::take(metadata);
    *metadata = Metadata {
        name: given.name,
        display_name: given.display_name,
        description: given.description,
        labels: given.labels,
        tags: given.tags,
        annotations: given.annotations,
        pic_url: given.pic_url,
        ..Metadata::default()
    };
    object
}

/// The same as YAML; an empty `spec` is written too, since a manifest needs one.
pub fn yaml(object: &Object) -> String {
    manifest::to_yaml(&self::object(object))
}

#[cfg(test)]
mod tests {
    use octelium_api::{Kind, core, manifest::Limits};

    use super::*;

    #[test]
    fn what_the_server_keeps_is_left_out() {
        let stored = core::User {
            metadata: Some(Metadata {
                name: "ann".into(),
                uid: "u".into(),
                resource_version: "v".into(),
                is_system: true,
                labels: [("team".to_owned(), "red".to_owned())].into(),
                ..Metadata::default()
            }),
            spec: Some(core::user::Spec { email: "a@x.io".into(), ..Default::default() }),
            status: Some(core::user::Status::default()),
            ..Default::default()
        };
        let text = yaml(&stored.into());
        assert_eq!(
            text,
            "apiVersion: core/v1\nkind: User\nmetadata:\n  name: ann\n  labels:\n    team: red\nspec:\n  email: 'a@x.io'\n"
        );
    }

    #[test]
    fn an_empty_resource_of_each_kind_is_read_back() {
        for kind in Kind::ALL {
            let mut object = kind.decode(&[]).unwrap();
            object.metadata_mut().name = "default".to_owned();
            object.overlay(&with_spec(*kind));
            object.metadata_mut().name = "default".to_owned();
            let read = manifest::parse("x.yaml", &yaml(&object), &Limits::default());
            assert_eq!(read.unwrap()[0].object, self::object(&object), "{kind}");
        }
    }

    /// An object with an empty `spec`, whose tag is 4 in every kind.
    fn with_spec(kind: Kind) -> Object {
        kind.decode(&[0x22, 0]).unwrap()
    }
}
