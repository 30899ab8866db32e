//! A manifest file as a list of objects and problems.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::{FieldError, Kind};
use serde_json::Value;

use super::{document, yaml};
use crate::admission::{key_of, validate};
use crate::{Key, Object, Remains};

/// Largest file that is read, in bytes.
pub(super) const MAX_FILE: u64 = 16 << 20;

/// What a file says.
#[derive(Clone, Debug, Default)]
pub(super) struct Manifest {
    /// Of the whole text; two files with the same fingerprint say the same.
    pub(super) fingerprint: u64,
    /// Its documents that have content.
    pub(super) documents: Vec<Parsed>,
}

/// What a document says.
#[derive(Clone, Debug)]
pub(super) struct Parsed {
    fingerprint: u64,
    line: usize,
    pub(super) entries: Vec<Entry>,
}

/// An admitted object that was just written as a document of its own.
pub(super) struct Written {
    /// Number of the document, counted from 0.
    pub(super) document: usize,
    pub(super) key: Key,
    pub(super) value: Value,
}

/// One object of a document, or what is wrong with it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Position in `items` of a list.
    pub(super) item: Option<usize>,
    pub(super) key: Option<Key>,
    pub(super) content: Content,
    /// What may be meant; of a good object nothing else.
    pub(super) remains: Remains,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Good(Arc<Object>),
    Broken(String),
    /// A kind that is not ours.
    Ignored(String),
}

impl Manifest {
    /// Reads a file; documents that are the same as before are not read again.
    pub(super) fn parse(text: &str, before: Option<&Manifest>) -> Manifest {
        Manifest::parse_with(text, before, None)
    }

    /// The same after a write, which need not be read: that takes longer than everything else a write does.
    pub(super) fn parse_with(
        text: &str,
        before: Option<&Manifest>,
        mut written: Option<Written>,
    ) -> Manifest {
        let known: BTreeMap<(u64, usize), &Parsed> = before
            .into_iter()
            .flat_map(|manifest| &manifest.documents)
            .map(|parsed| ((parsed.fingerprint, parsed.line), parsed))
            .collect();
        let parse = |(number, document): (usize, document::Document)| {
            let text = &text[document.range];
            let fingerprint = fingerprint(text.as_bytes());
            if let Some(parsed) = known.get(&(fingerprint, document.line)) {
                return (*parsed).clone();
            }
            let entries = match written.take_if(|written| written.document == number) {
                Some(written) => vec![good(None, written.key, written.value)],
                None => entries(text, document.line),
            };
            Parsed {
                fingerprint,
                line: document.line,
                entries,
            }
        };
        let documents = document::split(text)
            .into_iter()
            .enumerate()
            .map(parse)
            .collect();
        Manifest {
            fingerprint: fingerprint(text.as_bytes()),
            documents,
        }
    }

    /// A file that cannot be read at all.
    pub(super) fn unreadable(problem: String) -> Manifest {
        let entry = Entry {
            item: None,
            key: None,
            content: Content::Broken(problem),
            remains: Remains::Kinds(Kind::ALL.to_vec()),
        };
        let documents = vec![Parsed {
            fingerprint: 0,
            line: 1,
            entries: vec![entry],
        }];
        Manifest {
            fingerprint: 0,
            documents,
        }
    }

    /// All entries with the number of their document, counted from 0.
    pub(super) fn entries(&self) -> impl Iterator<Item = (usize, &Entry)> {
        self.documents
            .iter()
            .enumerate()
            .flat_map(|(number, document)| document.entries.iter().map(move |e| (number, e)))
    }

    /// Whether something in it cannot even be told apart: any object may be meant.
    pub(super) fn is_unclear(&self) -> bool {
        self.entries()
            .any(|(_, entry)| entry.key.is_none() && matches!(entry.content, Content::Broken(_)))
    }
}

fn entries(text: &str, line: usize) -> Vec<Entry> {
    let value = match yaml::parse(text, line) {
        Ok(value) => value,
        Err(problem) => {
            let named = Kind::ALL.into_iter();
            let named = named.filter(|kind| text.contains(kind.name()));
            return vec![Entry {
                item: None,
                key: None,
                content: Content::Broken(problem),
                remains: Remains::Kinds(named.collect()),
            }];
        }
    };
    match list_items(&value) {
        Some(items) => items
            .into_iter()
            .enumerate()
            .map(|(item, value)| entry(Some(item), value))
            .collect(),
        None => vec![entry(None, value)],
    }
}

/// The objects of a `List` or a list of one kind, whose objects need not repeat what they are.
fn list_items(value: &Value) -> Option<Vec<Value>> {
    let text = |field: &str| value.get(field).and_then(Value::as_str);
    let kind = text("kind")?.strip_suffix("List")?;
    let api_version = text("apiVersion")?;
    let mut items = value.get("items")?.as_array()?.clone();
    if !kind.is_empty() {
        for item in items.iter_mut().filter_map(Value::as_object_mut) {
            item.entry("apiVersion")
                .or_insert_with(|| api_version.into());
            item.entry("kind").or_insert_with(|| kind.into());
        }
    }
    Some(items)
}

fn entry(item: Option<usize>, value: Value) -> Entry {
    let broken = |key: Option<Key>, error: FieldError| Entry {
        item,
        key,
        content: Content::Broken(error.to_string()),
        remains: Remains::Object(value.clone()),
    };
    let key = match key_of(&value) {
        Ok(Some(key)) => key,
        Ok(None) => {
            return Entry {
                item,
                key: None,
                content: Content::Ignored(unknown_kind(&value)),
                remains: Remains::Object(value),
            };
        }
        Err(error) => return broken(None, error),
    };
    if let Err(error) = validate(&key, &value) {
        return broken(Some(key), error);
    }
    good(item, key, value)
}

/// The entry of a valid object; its version becomes the effective one.
fn good(item: Option<usize>, key: Key, mut value: Value) -> Entry {
    let resource_version = effective_version(&mut value);
    let object = Object {
        key: key.clone(),
        resource_version,
        value,
    };
    Entry {
        item,
        key: Some(key),
        content: Content::Good(Arc::new(object)),
        remains: Remains::Nothing,
    }
}

fn unknown_kind(value: &Value) -> String {
    let text = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let known = crds::Kind::ALL
        .into_iter()
        .find(|known| known.name() == kind);
    let remedy = known.map_or(
        "remove it, or correct its apiVersion and kind".to_owned(),
        |known| format!("write apiVersion: {}", known.api_version()),
    );
    format!("kind {kind} of {api_version} is not known here and is ignored; {remedy}")
}

/// Makes the version of an object what it effectively is: the counter stored with it, and a fingerprint of its content,
/// which changes with an edit by hand.
fn effective_version(value: &mut Value) -> String {
    let counter = stored_counter(value);
    if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
        metadata.remove("resourceVersion");
    }
    let version = format!(
        "{counter}-{:016x}",
        fingerprint(value.to_string().as_bytes())
    );
    if let Some(Value::Object(metadata)) = value.get_mut("metadata") {
        metadata.insert("resourceVersion".into(), version.as_str().into());
    }
    version
}

/// The counter of an object: what stands before the fingerprint in its version.
pub(super) fn stored_counter(value: &Value) -> u64 {
    let version = value
        .pointer("/metadata/resourceVersion")
        .and_then(Value::as_str)
        .unwrap_or_default();
    version
        .split('-')
        .next()
        .and_then(|counter| counter.parse().ok())
        .unwrap_or(0)
}

/// FNV-1a, 64 bits: the same in every build, unlike the hash of the standard library.
pub(super) fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: &str = "apiVersion: crd.projectcalico.org/v1\nkind: IPPool\nmetadata: {name: a}\nspec: {cidr: 10.0.0.0/16}\n";

    fn contents(text: &str) -> Vec<String> {
        let manifest = Manifest::parse(text, None);
        let show = |(number, entry): (usize, &Entry)| match &entry.content {
            Content::Good(object) => format!("{number} {:?} {}", entry.item, object.key),
            Content::Broken(problem) => format!("{number} {:?} broken {problem}", entry.item),
            Content::Ignored(problem) => format!("{number} {:?} ignored {problem}", entry.item),
        };
        manifest.entries().map(show).collect()
    }

    #[test]
    fn lists_hold_objects() {
        let list = "apiVersion: crd.projectcalico.org/v1\nkind: IPPoolList\nitems:\n\
                    - metadata: {name: a}\n  spec: {cidr: 10.0.0.0/16}\n\
                    - metadata: {name: b}\n  spec: {cidr: 10.1.0.0/16}\n";
        assert_eq!(contents(list), ["0 Some(0) IPPool a", "0 Some(1) IPPool b"]);
    }

    #[test]
    fn every_mistake_names_its_field() {
        for (from, to, expected) in [
            (
                "kind: IPPool",
                "kind: IPPol",
                "ignored kind IPPol of crd.projectcalico.org/v1",
            ),
            (
                "crd.projectcalico.org/v1",
                "projectcalico.org/v3",
                "write apiVersion: crd.projectcalico.org/v1",
            ),
            ("kind: IPPool", "sort: IPPool", "broken kind: is missing"),
            (
                "name: a",
                "name: A",
                "broken metadata.name: \"A\" is not a name",
            ),
            ("name: a", "name: ../a", "broken metadata.name"),
            (
                "10.0.0.0/16",
                "10.0.0.1/16",
                "broken spec.cidr: 10.0.0.1/16 has host bits set; write 10.0.0.0/16",
            ),
            ("{name: a}", "[]", "broken metadata.name: is missing"),
        ] {
            let [content] = &contents(&POOL.replace(from, to))[..] else {
                panic!("one entry")
            };
            assert!(content.contains(expected), "{content}");
        }
    }

    #[test]
    fn the_version_covers_content_but_not_spelling() {
        let version =
            |text: &str| match &Manifest::parse(text, None).documents[0].entries[0].content {
                Content::Good(object) => object.resource_version.clone(),
                other => panic!("{other:?}"),
            };
        assert_eq!(
            version(POOL),
            version(&POOL.replace("{name: a}", "{ 'name': a } # the first"))
        );
        assert_ne!(
            version(POOL),
            version(&POOL.replace("10.0.0.0", "10.1.0.0"))
        );
        assert!(
            version(&POOL.replace("name: a", "name: a, resourceVersion: '17'")).starts_with("17-")
        );
    }
}
