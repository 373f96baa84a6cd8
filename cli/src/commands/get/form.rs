//! The forms in which resources are shown.

use std::time::SystemTime;

use clap_complete::CompletionCandidate;
use octelium_api::{API_VERSION, Kind, Object};
use serde_json::{Value, json};

use crate::{
    jsonpath::Template,
    kinds::{self, Page},
    output::{self, Format, plain},
    suggest::did_you_mean,
};

/// What `-o` says.
#[derive(Debug, Clone)]
pub enum Out {
    /// One document.
    Document(Format),
    /// Names, one on a line.
    Name,
    /// A table with more columns.
    Wide,
    /// What an expression finds in the JSON document.
    Path(Template),
}

const FORMS: [&str; 5] = ["name", "wide", "json", "yaml", "jsonpath=EXPRESSION"];

/// Reads what `-o` says.
///
/// # Errors
/// A sentence, if there is no such form or the expression can't be read.
pub fn parse(text: &str) -> Result<Out, String> {
    if let Some(expression) = text.strip_prefix("jsonpath=") {
        return Template::parse(expression).map(Out::Path);
    }
    match text {
        "json" => Ok(Out::Document(Format::Json)),
        "yaml" | "yml" => Ok(Out::Document(Format::Yaml)),
        "name" => Ok(Out::Name),
        "wide" => Ok(Out::Wide),
        "jsonpath" => Err("expected jsonpath=EXPRESSION, for example jsonpath={.items[*].metadata.name}".to_owned()),
        other => {
            Err(format!("expected one of {}{}", FORMS.join(", "), did_you_mean(other, FORMS[..4].iter().copied())))
        }
    }
}

/// The forms, for shells that complete.
pub fn candidates() -> Vec<CompletionCandidate> {
    ["name", "wide", "json", "yaml", "jsonpath="].into_iter().map(CompletionCandidate::new).collect()
}

/// One resource.
///
/// # Errors
/// If it has no such form.
pub fn one(object: &Object, out: Option<&Out>) -> anyhow::Result<String> {
    match out {
        Some(Out::Document(format)) => output::resource(object, *format),
        None => output::resource(object, Format::Yaml),
        Some(Out::Name) => Ok(format!("{}\n", plain(object.name()))),
        Some(Out::Wide) => Ok(table(object.kind(), std::slice::from_ref(object), true)),
        Some(Out::Path(template)) => Ok(output::any(&template.render(&output::object(object))).into_owned()),
    }
}

/// A list.
///
/// # Errors
/// If it has no such form.
pub fn many(kind: Kind, page: &Page, out: Option<&Out>) -> anyhow::Result<String> {
    match out {
        Some(Out::Document(format)) => output::document(&list(kind, page), *format),
        Some(Out::Name) => Ok(page.items.iter().map(|object| format!("{}\n", plain(object.name()))).collect()),
        Some(Out::Path(template)) => Ok(output::any(&template.render(&list(kind, page))).into_owned()),
        None | Some(Out::Wide) if page.items.is_empty() => Ok(format!("no {kind} found\n")),
        None => Ok(table(kind, &page.items, false)),
        Some(Out::Wide) => Ok(table(kind, &page.items, true)),
    }
}

fn table(kind: Kind, items: &[Object], wide: bool) -> String {
    let now = SystemTime::now();
    let rows = items.iter().map(|object| cells(object, wide, now)).collect();
    let mut columns = kinds::columns(kind).to_vec();
    if wide {
        columns.extend(kinds::WIDE_COLUMNS);
    }
    output::table(&columns, rows)
}

/// The cells of a resource's row.
pub fn cells(object: &Object, wide: bool, now: SystemTime) -> Vec<String> {
    let mut cells = kinds::row(object, now);
    if wide {
        cells.extend(kinds::wide_cells(object));
    }
    cells
}

/// `<kind>List`, with `items` even where there are none.
fn list(kind: Kind, page: &Page) -> Value {
    let items: Vec<_> = page.items.iter().map(output::object).collect();
    json!({
        "apiVersion": API_VERSION,
        "kind": format!("{kind}List"),
        "items": items,
        "listResponseMeta": {
            "page": page.meta.page,
            "itemsPerPage": page.meta.items_per_page,
            "totalCount": page.meta.total_count,
            "hasMore": page.meta.has_more,
        },
    })
}

#[cfg(test)]
mod tests {
    use octelium_api::{
        core,
        meta::{ListResponseMeta, Metadata},
    };

    use super::*;

    fn user(name: &str) -> Object {
        let labels = [("team".to_owned(), "red".to_owned())].into();
        let metadata = Some(Metadata { name: name.into(), labels, ..Default::default() });
        core::User { metadata, ..Default::default() }.into()
    }

    fn page(items: Vec<Object>) -> Page {
        Page { items, meta: ListResponseMeta::default() }
    }

    fn out(text: &str) -> Option<Out> {
        Some(parse(text).unwrap())
    }

    #[test]
    fn no_items_are_an_empty_list_for_programs() {
        let empty = page(Vec::new());
        assert_eq!(many(Kind::User, &empty, None).unwrap(), "no User found\n");
        assert_eq!(many(Kind::User, &empty, out("wide").as_ref()).unwrap(), "no User found\n");
        assert_eq!(many(Kind::User, &empty, out("name").as_ref()).unwrap(), "");
        assert_eq!(many(Kind::User, &empty, out("jsonpath={.items[*]}").as_ref()).unwrap(), "");
        let json: Value = serde_json::from_str(&many(Kind::User, &empty, out("json").as_ref()).unwrap()).unwrap();
        assert_eq!((&json["kind"], &json["items"]), (&json!("UserList"), &json!([])));
    }

    #[test]
    fn each_form_shows_the_same_list() {
        let page = page(vec![user("ann"), user("bob")]);
        let shown = |text: &str| many(Kind::User, &page, out(text).as_ref()).unwrap();
        assert_eq!(shown("name"), "ann\nbob\n");
        assert_eq!(shown("jsonpath={.items[*].metadata.name}"), "ann bob\n");
        assert_eq!(shown("jsonpath=$.items[*].metadata.name"), "ann\nbob\n");
        let wide = shown("wide");
        assert!(wide.contains("LABELS") && wide.contains("team=red"), "{wide}");
        assert_eq!(one(&user("ann"), out("jsonpath={.metadata.name}").as_ref()).unwrap(), "ann\n");
    }

    #[test]
    fn unknown_forms_are_told() {
        assert!(parse("jsn").unwrap_err().ends_with("did you mean `json`?"));
        assert!(parse("toml").unwrap_err().starts_with("expected one of name, wide, json"));
        assert!(parse("jsonpath").unwrap_err().contains("EXPRESSION"));
        assert!(parse("jsonpath={.a").unwrap_err().contains("character 1"));
    }
}
