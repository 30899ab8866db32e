//! The committed manifests are what the types say.

use std::path::{Path, PathBuf};

/// For people, and for the chart.
fn directories() -> [PathBuf; 2] {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    [own.to_owned(), own.join(crds::manifest::CHART)]
}

#[test]
fn committed_manifests_match_the_types() {
    for directory in directories() {
        for (name, text) in crds::manifest::files() {
            let path = directory.join(name);
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                committed == text,
                "{} is out of date; run `cargo run -p crds`",
                path.display()
            );
        }
    }
}

#[test]
fn no_manifest_is_left_over() {
    let expected: Vec<String> = crds::manifest::files()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let entries = directories().map(|directory| std::fs::read_dir(directory).unwrap());
    for entry in entries.into_iter().flatten() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            !name.ends_with(".yaml") || expected.contains(&name),
            "{name} belongs to no kind"
        );
    }
}

#[test]
fn every_field_and_kind_is_explained() {
    fn check(path: &str, schema: &serde_json::Value) {
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            assert!(
                field["description"]
                    .as_str()
                    .is_some_and(|text| text.len() > 5),
                "{path} has no description"
            );
            check(&path, field);
            check(&path, &field["items"]);
        }
    }
    for kind in crds::Kind::ALL.into_iter().filter(|kind| kind.is_custom()) {
        let crd = crds::manifest::crd(kind).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        assert!(
            schema["description"].as_str().is_some(),
            "{kind} has no description"
        );
        check(kind.name(), schema);
    }
}

#[test]
fn names_in_the_manifest_are_those_of_the_kind() {
    for kind in crds::Kind::ALL.into_iter().filter(|kind| kind.is_custom()) {
        let spec = &crds::manifest::crd(kind).unwrap()["spec"];
        assert_eq!(spec["group"], kind.group());
        assert_eq!(spec["versions"][0]["name"], kind.version());
        assert_eq!(spec["names"]["kind"], kind.name());
        assert_eq!(spec["names"]["plural"], kind.plural());
        assert_eq!(
            spec["scope"],
            if kind.namespaced() {
                "Namespaced"
            } else {
                "Cluster"
            }
        );
    }
}
