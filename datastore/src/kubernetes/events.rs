//! Events (`v1`): written, never read.

use std::time::Duration;

use crds::Kind;
use kube::core::Request;
use serde_json::{Value, json};

use super::request::{Client, post};
use crate::{Error, Notice};

/// Where Events about objects without namespace are looked for.
const NAMESPACE: &str = "default";
/// How long the answer may take: nothing depends on it.
const ANSWER: Duration = Duration::from_secs(5);
/// Somebody has told the same.
const CONFLICT: u16 = 409;

/// Writes one. There is one of that name already: fine.
pub(super) async fn create(client: &Client, notice: &Notice, manager: &str) -> Result<(), Error> {
    let request = Request::new(format!("/api/v1/namespaces/{NAMESPACE}/events"));
    let body = manifest(notice, manager).to_string().into_bytes();
    let built = request.create(&post(manager), body);
    let what = format!("write the Event {}", notice.reason);
    client
        .ask_unless(&what, built, &[CONFLICT], ANSWER)
        .await
        .map(drop)
}

fn manifest(notice: &Notice, manager: &str) -> Value {
    let mut object = json!({
        "apiVersion": notice.kind.api_version(),
        "kind": notice.kind.name(),
        "name": notice.object,
    });
    if notice.kind == Kind::Node {
        // As the kubelet has it, and where kubectl looks when it describes a node.
        object["uid"] = notice.object.clone().into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": { "name": notice.name, "namespace": NAMESPACE },
        "involvedObject": object,
        "type": "Warning",
        "reason": notice.reason,
        "message": notice.text,
        "source": { "component": manager, "host": notice.node },
        "firstTimestamp": notice.time,
        "lastTimestamp": notice.time,
        "count": 1,
        "reportingComponent": manager,
        "reportingInstance": notice.node,
    })
}
