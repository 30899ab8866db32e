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

/// Writes one, about the object with this uid. There is one of that name already: fine.
pub(super) async fn create(
    client: &Client,
    notice: &Notice,
    uid: Option<&str>,
    manager: &str,
) -> Result<(), Error> {
    let request = Request::new(format!("/api/v1/namespaces/{NAMESPACE}/events"));
    let body = manifest(notice, uid, manager).to_string().into_bytes();
    let built = request.create(&post(manager), body);
    let what = format!("write the Event {}", notice.reason);
    client
        .ask_unless(&what, built, &[CONFLICT], ANSWER)
        .await
        .map(drop)
}

fn manifest(notice: &Notice, uid: Option<&str>, manager: &str) -> Value {
    let mut name = notice.name.clone();
    let mut object = json!({
        "apiVersion": notice.kind.api_version(),
        "kind": notice.kind.name(),
        "name": notice.object,
    });
    if notice.kind == Kind::Node {
        // As the kubelet has it, and where kubectl looks when it describes a node.
        object["uid"] = notice.object.clone().into();
    } else if let Some(uid) = uid {
        // By it kubectl finds what it shows with an object. One that is made anew has its own Events.
        object["uid"] = uid.into();
        name = format!("{name}.{}", uid.chars().take(8).collect::<String>());
    }
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": { "name": name, "namespace": NAMESPACE },
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

#[cfg(test)]
mod tests {
    use super::*;

    fn about(kind: Kind, uid: Option<&str>) -> Value {
        let text = str::to_owned;
        let notice = Notice {
            name: text("pool.12ab"),
            kind,
            object: text("pool"),
            reason: text("PoolNearlyFull"),
            text: text("it is"),
            node: text("node1"),
            time: text("2026-01-01T00:00:00Z"),
        };
        manifest(&notice, uid, "tortie-felix")
    }

    #[test]
    fn kubectl_finds_an_event_by_the_uid_of_its_object() {
        let event = about(Kind::IpPool, Some("0123456789-ab"));
        assert_eq!(event["involvedObject"]["uid"], "0123456789-ab");
        assert_eq!(event["metadata"]["name"], "pool.12ab.01234567");
        let event = about(Kind::IpPool, None);
        assert_eq!(event["involvedObject"]["uid"], Value::Null);
        // That of a Node is its name, as the kubelet has it.
        let event = about(Kind::Node, Some("0123456789-ab"));
        assert_eq!(event["involvedObject"]["uid"], "pool");
        assert_eq!(event["metadata"]["name"], "pool.12ab");
    }
}
