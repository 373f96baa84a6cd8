//! `get --watch`: what there is, and then each change of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use octelium_api::{Kind, Object, control::WaitForChangeRequest};
use serde_json::json;
use tonic::Code;

use super::{
    Arguments,
    form::{self, Out},
    list,
};
use crate::{
    kinds::{self, full_name},
    output::{self, Colour, Format, paint, plain},
    refusal::Refusal,
    session::Cluster,
};

/// What happened to a resource since it was shown last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Added,
    Changed,
    Deleted,
}

/// What was shown last, by uid.
type Shown = BTreeMap<String, Object>;

/// Shows changes until Ctrl-C, or until nobody reads them any more.
///
/// # Errors
/// If the server refuses or can't be reached.
pub async fn run(cluster: &mut Cluster, arguments: &Arguments) -> anyhow::Result<()> {
    tokio::select! {
        ended = follow(cluster, arguments) => ended,
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
    }
}

async fn follow(cluster: &mut Cluster, arguments: &Arguments) -> anyhow::Result<()> {
    // The index comes first: what changes between it and the list is listed again, and then nothing is new.
    let mut index = wait(cluster, arguments.kind, 0).await?;
    let mut shown = Shown::new();
    let mut first = true;
    loop {
        let now = current(cluster, arguments).await?;
        let events = compare(&shown, &now);
        if first && matches!(arguments.out, None | Some(Out::Wide)) && !output::part(&header(arguments))? {
            return Ok(());
        }
        first = false;
        for (event, object) in &events {
            if !output::part(&text(*event, object, arguments.out.as_ref())?)? {
                return Ok(());
            }
        }
        shown = now.into_iter().map(|object| (object.uid().to_owned(), object)).collect();
        loop {
            let next = wait(cluster, arguments.kind, index).await?;
            if next > index {
                index = next;
                break;
            }
        }
    }
}

/// The index of the last change of the kind. Waits, though not for ever, until it is higher than `after`.
async fn wait(cluster: &mut Cluster, kind: Kind, after: u64) -> anyhow::Result<u64> {
    let request = WaitForChangeRequest { kind: kind.name().to_owned(), after, timeout_milliseconds: 0 };
    Ok(cluster.control(async |control| control.wait_for_change(request.clone()).await).await?.index)
}

/// The resources that are watched, as they are now.
async fn current(cluster: &mut Cluster, arguments: &Arguments) -> anyhow::Result<Vec<Object>> {
    let kind = arguments.kind;
    if kind != Kind::ClusterConfig && arguments.name.is_none() {
        return Ok(list(cluster, arguments).await?.items);
    }
    let name = arguments.name.as_deref().map(|name| full_name(kind, name)).unwrap_or_default();
    match cluster.core(async |core| kinds::get(core, kind, &name).await).await {
        Ok(object) => Ok(vec![object]),
        // It may come yet, or come again.
        Err(error) if error.downcast_ref::<Refusal>().is_some_and(|refusal| refusal.code() == Code::NotFound) => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// What differs, in the order of `now`, what is gone last.
fn compare(shown: &Shown, now: &[Object]) -> Vec<(Event, Object)> {
    let come = now.iter().filter_map(|object| match shown.get(object.uid()) {
        None => Some((Event::Added, object.clone())),
        Some(before) if before != object => Some((Event::Changed, object.clone())),
        Some(_) => None,
    });
    let present: BTreeSet<_> = now.iter().map(Object::uid).collect();
    let gone =
        shown.values().filter(|before| !present.contains(before.uid())).map(|before| (Event::Deleted, before.clone()));
    come.chain(gone).collect()
}

fn header(arguments: &Arguments) -> String {
    let mut cells = vec!["EVENT".to_owned()];
    cells.extend(kinds::columns(arguments.kind).iter().map(|column| column.to_uppercase()));
    if matches!(arguments.out, Some(Out::Wide)) {
        cells.extend(kinds::WIDE_COLUMNS.iter().map(|column| column.to_uppercase()));
    }
    output::line(&cells)
}

/// One change: a line, or a document of its own.
fn text(event: Event, object: &Object, out: Option<&Out>) -> anyhow::Result<String> {
    let (word, colour) = match event {
        Event::Added => ("ADDED", Colour::Green),
        Event::Changed => ("CHANGED", Colour::Yellow),
        Event::Deleted => ("DELETED", Colour::Red),
    };
    let document = || json!({ "event": word, "object": output::object(object) });
    match out {
        None | Some(Out::Wide) => {
            let cells = form::cells(object, out.is_some(), SystemTime::now());
            Ok(format!("{}  {}", paint(word, colour, output::coloured()), output::line(&cells)))
        }
        Some(Out::Name) => Ok(format!("{word} {}\n", plain(object.name()))),
        // On one line, so that programs know where it ends.
        Some(Out::Document(Format::Json)) => Ok(format!("{}\n", document())),
        Some(Out::Document(Format::Yaml)) => Ok(format!("---\n{}", output::document(&document(), Format::Yaml)?)),
        Some(Out::Path(template)) => Ok(output::any(&template.render(&output::object(object))).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use octelium_api::{core, meta::Metadata};

    use super::*;

    fn user(name: &str, version: &str) -> Object {
        let metadata = Metadata {
            name: name.into(),
            uid: format!("uid-of-{name}"),
            resource_version: version.into(),
            ..Default::default()
        };
        core::User { metadata: Some(metadata), ..Default::default() }.into()
    }

    #[test]
    fn only_differences_are_shown() {
        let shown: Shown = [user("ann", "1"), user("bob", "1"), user("cid", "1")]
            .into_iter()
            .map(|object| (object.uid().to_owned(), object))
            .collect();
        let now = [user("ann", "1"), user("bob", "2"), user("dan", "1")];
        let events: Vec<_> =
            compare(&shown, &now).into_iter().map(|(event, object)| (event, object.name().to_owned())).collect();
        let expected = [(Event::Changed, "bob"), (Event::Added, "dan"), (Event::Deleted, "cid")];
        assert_eq!(events, expected.map(|(event, name)| (event, name.to_owned())));
    }

    #[test]
    fn a_change_is_one_document() {
        let object = user("ann", "1");
        let json = text(Event::Added, &object, Some(&form::parse("json").unwrap())).unwrap();
        assert!(json.ends_with("}\n") && json.lines().count() == 1, "{json}");
        let yaml = text(Event::Deleted, &object, Some(&form::parse("yaml").unwrap())).unwrap();
        assert!(yaml.starts_with("---\nevent: DELETED\n"), "{yaml}");
        assert_eq!(text(Event::Changed, &object, Some(&form::parse("name").unwrap())).unwrap(), "CHANGED ann\n");
        assert!(text(Event::Changed, &object, None).unwrap().starts_with("CHANGED  ann"));
    }
}
