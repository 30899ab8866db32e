//! Core `Secret`: passwords of BGP sessions.
//!
//! Not the type of `k8s-openapi`, because that one prints its content; here neither `Debug` nor an
//! error message shows any of it.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;
use serde::de::{Error, IntoDeserializer, value};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::core::ObjectMeta;
use crate::{Kind, Resource};

/// A Secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    #[serde(default = "api_version")]
    api_version: String,
    #[serde(default = "kind")]
    kind: String,
    /// Name, namespace, labels.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// Content in base64, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    data: BTreeMap<String, Encoded>,
    /// Content as text, by key; wins over `data`, as in the API server.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    string_data: BTreeMap<String, Plain>,
}

fn api_version() -> String {
    Kind::Secret.api_version()
}

fn kind() -> String {
    Kind::Secret.name().to_owned()
}

impl Secret {
    /// What is stored under a key.
    pub fn value(&self, key: &str) -> Option<&[u8]> {
        let text = self.string_data.get(key).map(|plain| plain.0.as_bytes());
        text.or_else(|| self.data.get(key).map(|encoded| &*encoded.0.0))
    }

    /// Every key.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        let text = self.string_data.keys();
        let data = self.data.keys();
        text.chain(data.filter(|key| !self.string_data.contains_key(*key)))
            .map(String::as_str)
    }
}

impl Resource for Secret {
    const KIND: Kind = Kind::Secret;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[derive(Clone, PartialEq)]
struct Encoded(ByteString);

#[derive(Clone, PartialEq)]
struct Plain(String);

/// The text of a manifest's field; the error does not repeat what stands there.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(D::Error::custom("not a text; put it in quotes"))
        }
    }
}

impl<'de> Deserialize<'de> for Encoded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = text(deserializer)?;
        let decoder: value::StringDeserializer<value::Error> = text.into_deserializer();
        ByteString::deserialize(decoder).map(Encoded).map_err(|_| {
            D::Error::custom("not base64; encode it, or use stringData for plain text")
        })
    }
}

impl Serialize for Encoded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text(deserializer).map(Plain)
    }
}

impl Serialize for Plain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::decode;

    #[test]
    fn values_come_from_base64_and_from_text() {
        let secret: Secret = decode(&json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": { "name": "bgp", "namespace": "kube-system" },
            "data": { "tor": "c2VzYW1l", "both": "YQ==" },
            "stringData": { "rr": "open", "both": "b" },
        }))
        .unwrap();
        assert_eq!(secret.value("tor"), Some(&b"sesame"[..]));
        assert_eq!(secret.value("rr"), Some(&b"open"[..]));
        assert_eq!(secret.value("both"), Some(&b"b"[..]));
        assert_eq!(secret.value("none"), None);
        assert_eq!(secret.keys().collect::<Vec<_>>(), ["both", "rr", "tor"]);
        let written = secret.to_value().unwrap();
        assert_eq!(
            (&written["kind"], &written["data"]["tor"]),
            (&json!("Secret"), &json!("c2VzYW1l"))
        );
    }

    #[test]
    fn neither_debug_nor_an_error_shows_the_content() {
        let secret: Secret = decode(&json!({
            "metadata": { "name": "bgp" },
            "data": { "tor": "c2VzYW1l" }, "stringData": { "rr": "sesame" },
        }))
        .unwrap();
        let shown = format!("{secret:?}");
        assert!(
            !shown.contains("sesame") && !shown.contains("c2Vz") && shown.contains("tor"),
            "{shown}"
        );
        for broken in [
            json!({ "metadata": { "name": "bgp" }, "data": { "tor": "open sesame" } }),
            json!({ "metadata": { "name": "bgp" }, "stringData": { "tor": 112233 } }),
        ] {
            let error = decode::<Secret>(&broken).unwrap_err().to_string();
            assert!(
                error.contains("tor") && !error.contains("sesame") && !error.contains("1122"),
                "{error}"
            );
        }
    }
}
