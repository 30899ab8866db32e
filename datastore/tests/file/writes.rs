//! What programs do to files.

use std::fs;

use crds::IpPool;
use datastore::{Datastore, create_typed, get_typed, update_typed};
use serde_json::json;

use crate::lab::{DEADLINE, Lab, key, pool};
use crate::typed;

#[tokio::test]
async fn a_created_object_gets_a_file_of_its_own() {
    let lab = Lab::new();
    create_typed(&lab.store, &typed("a", "10.0.0.0/16"))
        .await
        .unwrap();
    let text = lab.read("ippools/a.yaml");
    assert!(
        text.starts_with("apiVersion: crd.projectcalico.org/v1\nkind: IPPool\nmetadata:\n"),
        "{text}"
    );
    lab.store.delete(&key("a"), None).await.unwrap();
    assert!(!lab.path("ippools/a.yaml").exists());
}

#[tokio::test]
async fn an_update_rewrites_only_its_document() {
    let [a, b, c] = [
        pool("a", "10.0.0.0/16"),
        pool("b", "10.1.0.0/16"),
        pool("c", "10.2.0.0/16"),
    ];
    let lab = Lab::with(&[(
        "pools.yaml",
        &format!("# head\n---\n{a}---\n# about b\n{b}--- # c is next\n{c}# end\n"),
    )]);
    let mut object = get_typed::<IpPool>(&lab.store, "b").await.unwrap();
    object.resource.spec.disabled = Some(true);
    update_typed(&lab.store, &object).await.unwrap();
    let text = lab.read("pools.yaml");
    let rest = text
        .strip_prefix(&format!("# head\n---\n{a}---\n# about b\n"))
        .unwrap();
    let written = rest
        .strip_suffix(&format!("--- # c is next\n{c}# end\n"))
        .unwrap();
    assert!(
        written.contains("disabled: true") && written.contains("name: b"),
        "{written}"
    );
    lab.store.delete(&key("b"), None).await.unwrap();
    assert_eq!(
        lab.read("pools.yaml"),
        format!("# head\n---\n{a}--- # c is next\n{c}# end\n")
    );
    for name in ["a", "c"] {
        lab.store.delete(&key(name), None).await.unwrap();
    }
    assert!(!lab.path("pools.yaml").exists());
}

#[tokio::test]
async fn an_object_in_a_list_is_updated_in_the_list() {
    let item = |name: &str, net: u8| {
        format!("- metadata: {{name: {name}}}\n  spec: {{cidr: 10.{net}.0.0/16}}\n")
    };
    let list = format!(
        "apiVersion: crd.projectcalico.org/v1\nkind: IPPoolList\nitems:\n{}{}",
        item("a", 0),
        item("b", 1)
    );
    let lab = Lab::with(&[("list.yaml", &list)]);
    let mut object = get_typed::<IpPool>(&lab.store, "b").await.unwrap();
    object.resource.spec.disabled = Some(true);
    update_typed(&lab.store, &object).await.unwrap();
    lab.store.delete(&key("a"), None).await.unwrap();
    assert_eq!(lab.names().await, ["b"]);
    assert!(lab.read("list.yaml").contains("disabled: true"));
    lab.store.delete(&key("b"), None).await.unwrap();
    assert!(!lab.path("list.yaml").exists());
}

#[tokio::test]
async fn an_edit_by_hand_conflicts_with_an_older_read() {
    let lab = Lab::with(&[("a.yaml", &pool("a", "10.0.0.0/16"))]);
    let mut object = get_typed::<IpPool>(&lab.store, "a").await.unwrap();
    object.resource.spec.disabled = Some(true);
    lab.write("a.yaml", &pool("a", "10.1.0.0/16"));
    assert!(
        update_typed(&lab.store, &object)
            .await
            .unwrap_err()
            .is_conflict()
    );
    assert_eq!(lab.read("a.yaml"), pool("a", "10.1.0.0/16"));
    // A comment is no change.
    let mut object = get_typed::<IpPool>(&lab.store, "a").await.unwrap();
    object.resource.spec.disabled = Some(true);
    lab.write("a.yaml", &(pool("a", "10.1.0.0/16") + "# a comment\n"));
    update_typed(&lab.store, &object).await.unwrap();
    assert!(lab.read("a.yaml").ends_with("# a comment\n"));
}

#[tokio::test]
async fn a_linked_file_is_written_where_it_is() {
    let lab = Lab::new();
    lab.write("real.txt", &pool("a", "10.0.0.0/16"));
    std::os::unix::fs::symlink("real.txt", lab.path("a.yaml")).unwrap();
    lab.store
        .patch_status(&key("a"), json!({ "conditions": [] }))
        .await
        .unwrap();
    assert!(lab.read("real.txt").contains("conditions"));
    assert!(
        fs::symlink_metadata(lab.path("a.yaml"))
            .unwrap()
            .is_symlink()
    );
}

#[tokio::test]
async fn a_watch_ends_with_its_store() {
    let lab = Lab::with(&[("a.yaml", &pool("a", "10.0.0.0/16"))]);
    let mut watch = lab.watch().await;
    drop(lab.store);
    assert_eq!(tokio::time::timeout(DEADLINE, watch.next()).await, Ok(None));
}
