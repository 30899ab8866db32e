//! What a back end without schemas must do.

use crds::IpPool;
use datastore::{Object, Typed, get_typed, update_typed};
use serde_json::json;

use crate::suite::{Backend, key, pool};

pub(crate) async fn unknown_fields_survive_typed_updates(backend: &impl Backend) {
    let store = backend.open().await;
    let mut object = Object::new(&pool("a", "10.0.0.0/16")).unwrap();
    object.value["spec"]["future"] = json!({ "x": [1] });
    object.value["extra"] = json!(true);
    store.create(object).await.unwrap();
    let mut typed: Typed<IpPool> = get_typed(&*store, "a").await.unwrap();
    typed.resource.spec.disabled = Some(true);
    update_typed(&*store, &typed).await.unwrap();
    let value = store.get(&key("a")).await.unwrap().value;
    assert_eq!(
        value["spec"],
        json!({ "cidr": "10.0.0.0/16", "disabled": true, "future": { "x": [1] } })
    );
    assert_eq!(value["extra"], true);
}
