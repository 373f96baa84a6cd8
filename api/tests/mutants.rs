//! Two thousand slips of the pen in manifests, and what becomes of each.
//!
//! A manifest says who may do what, so a slip must never leave *less* protection than what is written, without a word. What a
//! slip may lead to:
//!
//! 1. **Refused.** Nothing is applied.
//! 2. **The same.** The resources are equal to those of the manifest without the slip.
//! 3. **Exactly what is written now.** The resources hold everything that the text says, each at the place where the text says
//!    it, and nothing else. The text is read a second time for this, by a reader that knows no resource; the two must agree. So a
//!    line that was taken away takes away what it said and no more, and a value that was changed is changed and nothing beside it.
//!
//! *Weaker* is what 3 alone would let pass. A member that decides about access (see [`PROTECTED`]) is *lost* if its line still
//! stands in the text and the resource doesn't have it any more: because its key was misspelt, or because it was indented out of
//! its place into something that takes any key (`attrs`) or any line (a script). That it now says something else where it stands
//! is true to the text and yet not what anybody means. So after all slips but those that take a line or a value away, as many such
//! members with the same values as before must be there, or a note must say which one isn't.
//! Losing a member that *widens* access (`isPublic`, `effect: ALLOW`) counts as well: it is as silent.
//!
//! Taking a line away is no slip of this kind: what isn't written isn't lost.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, UNIX_EPOCH},
};

use octelium_api::{
    Object,
    manifest::{self, Document, Limits},
    validate,
};
use serde_json::Value;

const MUTANTS: usize = 2000;
const SEED: u64 = 0x0c7e_1105;

/// Members that decide about access, by which a loss is noticed.
const PROTECTED: [&str; 11] = [
    "authorization",
    "condition",
    "effect",
    "enforcementRules",
    "inlinePolicies",
    "isAnonymous",
    "isDisabled",
    "isPublic",
    "policies",
    "priority",
    "rules",
];

const EXAMPLES: [&str; 13] = [
    include_str!("examples/01-simple.yaml"),
    include_str!("examples/02-connected-session.yaml"),
    include_str!("examples/03-secretless-saas.yaml"),
    include_str!("examples/03b-secretless-saas-short.yaml"),
    include_str!("examples/04-managed-container.yaml"),
    include_str!("examples/05-dynamic-path.yaml"),
    include_str!("examples/06-dynamic-identity.yaml"),
    include_str!("examples/07-dynamic-secretless.yaml"),
    include_str!("examples/08-dynamic-containers.yaml"),
    include_str!("examples/09-abac.yaml"),
    include_str!("examples/10-lua.yaml"),
    include_str!("examples/10b-lua-short.yaml"),
    include_str!("examples/11-plugins.yaml"),
];

/// The examples, and the documents that are all about access: those count twice, as slips in them matter most.
fn originals() -> Vec<&'static str> {
    let own: Vec<_> = include_str!("cases/mutants.yaml").split("---\n").collect();
    EXAMPLES.into_iter().chain(own.clone()).chain(own).collect()
}

/// SplitMix64: the same numbers on every machine.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).expect("it is below a usize")
    }

    fn pick<'t, T>(&mut self, from: &'t [T]) -> &'t T {
        &from[self.below(from.len())]
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Slip {
    DeleteLine,
    DuplicateLine,
    SwapLines,
    MisspellKey,
    SwapKeys,
    IndentLine,
    IndentBlock,
    DropDash,
    ChangeType,
    ChangeCase,
}

const SLIPS: [Slip; 10] = [
    Slip::DeleteLine,
    Slip::DuplicateLine,
    Slip::SwapLines,
    Slip::MisspellKey,
    Slip::SwapKeys,
    Slip::IndentLine,
    Slip::IndentBlock,
    Slip::DropDash,
    Slip::ChangeType,
    Slip::ChangeCase,
];

impl Slip {
    /// Whether everything is still written, so that nothing may be lost.
    fn keeps_members(self) -> bool {
        !matches!(self, Self::DeleteLine | Self::ChangeType)
    }
}

/// Where the key of a line begins and ends, if it has one: spaces and dashes, the key, a colon.
fn key(line: &str) -> Option<(usize, usize)> {
    let start = line.len() - line.trim_start_matches([' ', '-']).len();
    let end = start + line[start..].find(':')?;
    (end > start && line[start..end].bytes().all(|byte| byte.is_ascii_alphanumeric())).then_some((start, end))
}

/// Where the value of a line begins, if the line has a key and one.
fn value(line: &str) -> Option<usize> {
    let (_, end) = key(line)?;
    let start = end + 1 + line[end + 1..].find(|char| char != ' ')?;
    Some(start)
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

/// The lines of the block that begins at `first`: those after it that are indented further.
fn block(lines: &[String], first: usize) -> usize {
    let inner = |line: &String| line.trim().is_empty() || indent(line) > indent(&lines[first]);
    first + 1 + lines[first + 1..].iter().take_while(|line| inner(line)).count()
}

/// The text with one slip in it; `None` if the slip can't be made at the chosen place.
fn mutant(text: &str, slip: Slip, numbers: &mut Numbers) -> Option<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let at = numbers.below(lines.len());
    if lines[at].trim_start().starts_with('#') {
        return None;
    }
    match slip {
        Slip::DeleteLine => _ = lines.remove(at),
        Slip::DuplicateLine => lines.insert(at, lines[at].clone()),
        Slip::SwapLines if at + 1 < lines.len() => lines.swap(at, at + 1),
        Slip::SwapLines => return None,
        Slip::MisspellKey => {
            let (start, end) = key(&lines[at])?;
            let misspelt = misspelt(&lines[at][start..end], numbers)?;
            lines[at].replace_range(start..end, &misspelt);
        }
        Slip::SwapKeys => {
            let other = numbers.below(lines.len());
            let (a, b) = (key(&lines[at])?, key(&lines[other])?);
            let (a_key, b_key) = (lines[at][a.0..a.1].to_owned(), lines[other][b.0..b.1].to_owned());
            if at != other {
                lines[at].replace_range(a.0..a.1, &b_key);
                lines[other].replace_range(b.0..b.1, &a_key);
            }
        }
        Slip::IndentLine | Slip::IndentBlock => {
            let end = if slip == Slip::IndentLine { at + 1 } else { block(&lines, at) };
            let by = *numbers.pick(&[-4_isize, -2, -2, -1, 1, 2, 2, 2, 4, 4, 6]);
            for line in lines[at..end].iter_mut().filter(|line| !line.trim().is_empty()) {
                let to = indent(line).checked_add_signed(by)?;
                *line = format!("{}{}", " ".repeat(to), line.trim_start_matches(' '));
            }
        }
        Slip::DropDash => {
            let dash = lines[at].find("- ").filter(|dash| lines[at][..*dash].trim().is_empty())?;
            // With or without the room that it took.
            lines[at].replace_range(dash..dash + 2, if numbers.below(2) == 0 { "  " } else { "" });
        }
        Slip::ChangeType => {
            let start = value(&lines[at])?;
            let new = numbers.pick(&[
                "true", "false", "'true'", "1", "0", "'1'", "1.5", "-1", "[]", "{}", "null", "''", "~", "text",
                "[text]", "{a: b}",
            ]);
            lines[at].replace_range(start.., new);
        }
        Slip::ChangeCase => {
            let start = value(&lines[at])?;
            let value = &lines[at][start..];
            let lower = value.to_lowercase();
            let mut title = lower.clone();
            title[..1].make_ascii_uppercase();
            let new = numbers.pick(&[lower, value.to_uppercase(), title]).clone();
            lines[at].replace_range(start.., &new);
        }
    }
    let mutant = lines.join("\n") + "\n";
    (mutant != text).then_some(mutant)
}

fn misspelt(key: &str, numbers: &mut Numbers) -> Option<String> {
    let mut chars: Vec<char> = key.chars().collect();
    let at = numbers.below(chars.len());
    match numbers.below(5) {
        0 => _ = chars.remove(at),
        1 => chars.insert(at, chars[at]),
        2 if at + 1 < chars.len() => chars.swap(at, at + 1),
        3 => {
            chars[at] =
                if chars[at].is_lowercase() { chars[at].to_ascii_uppercase() } else { chars[at].to_ascii_lowercase() }
        }
        _ => chars[at] = char::from(b'a' + u8::try_from(numbers.below(26)).ok()?),
    }
    let misspelt: String = chars.into_iter().collect();
    // An empty key is no key any more.
    (!misspelt.is_empty()).then_some(misspelt)
}

/// The resources, unless something about them is refused.
fn read(text: &str) -> Option<Vec<Document>> {
    let documents = manifest::parse("mutant", text, &Limits::default()).ok()?;
    let now = UNIX_EPOCH + Duration::from_secs(1_769_860_800);
    documents.iter().all(|document| validate::check(&document.object, now).is_empty()).then_some(documents)
}

/// What a tree says: each scalar, and each empty list and mapping, by its place.
fn leaves(path: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, value) in members {
                leaves(&format!("{path}.{name}"), value, into);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, value) in items.iter().enumerate() {
                leaves(&format!("{path}[{index}]"), value, into);
            }
        }
        // 64-bit integers are texts in one form and numbers in the other.
        Value::String(text) => _ = into.insert(path.to_owned(), text.clone()),
        value => _ = into.insert(path.to_owned(), value.to_string()),
    }
}

/// The place by the full spelling of members that have a short one.
fn spelled_out(path: &str) -> String {
    let mut path = path.replace(".ratelimit.", ".rateLimit.");
    let config = match path.strip_prefix(".spec.dynamicConfig.configs[") {
        Some(rest) => rest.find("].").map(|index| ".spec.dynamicConfig.configs[".len() + index + 2),
        None => path.strip_prefix(".spec.config.").map(|_| ".spec.config.".len()),
    };
    if let Some(at) = config
        && ["plugins", "auth", "header", "path", "cors"].iter().any(|name| {
            path[at..].strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    {
        path.insert_str(at, "http.");
    }
    path
}

/// What the text says to a reader that knows no resource.
fn written(text: &str) -> Result<BTreeMap<String, String>, String> {
    let tree: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let mut all = BTreeMap::new();
    leaves("", &tree, &mut all);
    Ok(all.into_iter().map(|(path, value)| (spelled_out(&path), value)).collect())
}

/// The first difference between what the text says and what the resource holds.
fn difference(text: &str, object: &Object) -> Option<String> {
    let written = match written(text) {
        Ok(written) => written,
        Err(error) => return Some(format!("another reader refuses it: {error}")),
    };
    let mut held = BTreeMap::new();
    leaves("", &manifest::to_json(object), &mut held);
    let same = |a: &str, b: &str| a == b || matches!((a.parse::<f64>(), b.parse::<f64>()), (Ok(a), Ok(b)) if a == b);
    for (path, value) in &written {
        match held.get(path) {
            Some(held) if same(held, value) => {}
            // An enum's number may stand for its name.
            Some(held)
                if value.parse::<u8>().is_ok() && held.chars().all(|char| char.is_ascii_uppercase() || char == '_') => {
            }
            // What is as if it weren't there isn't kept.
            None if matches!(value.as_str(), "false" | "0" | "" | "[]") || value.parse() == Ok(0.0) => {}
            // Zero values of enums have names.
            None if value.ends_with("_UNSET") || value.ends_with("_UNKNOWN") => {}
            // An empty map is no map.
            None if value == "{}"
                && (path.ends_with("labels") || path.ends_with("annotations") || path.ends_with("ext")) => {}
            held => return Some(format!("{path} is written as `{value}` and read as {held:?}")),
        }
    }
    let added = held.iter().find(|(path, value)| {
        // The only ClusterConfig has its name without being given it; what holds nothing but zeros is held as empty.
        let named = *path == ".metadata.name" && object.name() == "default";
        let emptied = value.as_str() == "{}" && written.keys().any(|written| written.starts_with(&format!("{path}.")));
        !written.contains_key(*path) && !named && !emptied
    });
    added.map(|(path, value)| format!("{path} is read as `{value}` and isn't written"))
}

/// The members that decide about access, with their values where these are scalars, outside of free-form data; each as often as
/// it is there.
fn protected(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members.iter().filter(|(name, _)| *name != "attrs") {
                if PROTECTED.contains(&name.as_str()) {
                    let scalar = if value.is_object() || value.is_array() { String::new() } else { value.to_string() };
                    into.push(format!("{name}={scalar}"));
                }
                protected(value, into);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| protected(item, into)),
        _ => {}
    }
}

/// What `original` has of them and `mutant` hasn't.
fn lost(original: &Object, mutant: &Object) -> Vec<String> {
    let of = |object: &Object| {
        let mut list = Vec::new();
        protected(&manifest::to_json(object), &mut list);
        list
    };
    let (mut left, mut gone) = (of(mutant), of(original));
    gone.retain(|member| match left.iter().position(|other| other == member) {
        Some(index) => {
            left.swap_remove(index);
            false
        }
        None => true,
    });
    gone
}

/// Whether a note tells of a member that was indented too far; with it goes all that stands in it.
fn noted(document: &Document) -> bool {
    document.notes.iter().any(|note| note.text.ends_with("if the member is meant, indent it less"))
}

#[test]
fn no_slip_leaves_less_than_is_written() {
    let originals = originals();
    let mut seen = BTreeSet::new();
    let mut outcomes: BTreeMap<Slip, [usize; 3]> = BTreeMap::new();
    let mut wrong = Vec::new();
    // More of them, from elsewhere, when somebody wants to look further: `MUTANTS=100000 SEED=7 cargo test --test mutants`.
    let given = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let count = given("MUTANTS").map_or(MUTANTS, |count| usize::try_from(count).expect("a number of texts"));
    let mut numbers = Numbers(given("SEED").unwrap_or(SEED));
    // There are only so many slips to be made in a few texts.
    for _ in 0..count * 50 {
        if seen.len() == count {
            break;
        }
        let original = *numbers.pick(&originals);
        let slip = *numbers.pick(&SLIPS);
        let Some(mutant) = mutant(original, slip, &mut numbers) else { continue };
        if !seen.insert(mutant.clone()) {
            continue;
        }
        let outcome = &mut outcomes.entry(slip).or_default();
        let Some(documents) = read(&mutant) else {
            outcome[0] += 1;
            continue;
        };
        let before = read(original).expect("the originals are fine").remove(0).object;
        // An empty text is no resource, and nothing would be applied.
        let Some(document) = documents.first() else {
            outcome[0] += 1;
            continue;
        };
        if document.object == before {
            outcome[1] += 1;
            continue;
        }
        outcome[2] += 1;
        if let Some(difference) = difference(&mutant, &document.object) {
            wrong.push(format!("{slip:?}: {difference}\n{mutant}"));
        } else if slip.keeps_members() && !noted(document) {
            let lost = lost(&before, &document.object);
            if !lost.is_empty() {
                wrong.push(format!("{slip:?}: lost without a word: {}\n{mutant}", lost.join(", ")));
            }
        }
    }
    println!("{} texts; refused, the same, as written: {outcomes:?}", seen.len());
    assert!(seen.len() >= MUTANTS.min(count), "{} texts", seen.len());
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n\n"));
    let total = |index: usize| outcomes.values().map(|outcome| outcome[index]).sum::<usize>();
    assert!(total(0) > 1000 && total(1) > 50 && total(2) > 100, "{outcomes:?}");
}
