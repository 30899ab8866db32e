//! What the API server's answers mean.

use std::error::Error as _;

use kube::core::Status;

use crate::{Error, Key};

/// What was asked, for the text of an error.
pub(super) struct Question<'a> {
    /// `read IPPool a`.
    pub(super) what: String,
    /// The object, if it was about one.
    pub(super) key: Option<&'a Key>,
    /// Where the API server is.
    pub(super) address: &'a str,
}

impl Question<'_> {
    /// The error of a question that was not answered.
    pub(super) fn unanswered(&self, why: &str) -> Error {
        Error::unavailable(format!("cannot {} at {}: {why}", self.what, self.address))
    }

    /// The error that an answer is.
    pub(super) fn failed(&self, error: kube::Error) -> Error {
        match error {
            kube::Error::Api(status) => self.refused(&status),
            error => self.unanswered(&chain(&error)),
        }
    }

    fn refused(&self, status: &Status) -> Error {
        let about_object = |name: &str| self.key.is_some_and(|key| key.name == name);
        let named = status
            .details
            .as_ref()
            .is_some_and(|d| about_object(&d.name));
        match (status.code, status.reason.as_str(), self.key) {
            (404, "NotFound", Some(key)) if named => Error::NotFound { key: key.clone() },
            (404, ..) => self.unanswered(
                "this kind is not served there; install the CRDs (kubectl apply -f crds/)",
            ),
            (409, "AlreadyExists", Some(key)) => Error::AlreadyExists { key: key.clone() },
            (409, _, Some(key)) => Error::Conflict { key: key.clone() },
            (400 | 413 | 422, _, Some(key)) => invalid(key, status),
            (401, ..) => self.unanswered(&format!(
                "{}; check the token or certificate in the kubeconfig, or the service account",
                status.message
            )),
            (403, ..) => self.unanswered(&format!(
                "{}; grant it, or stop asking for it",
                status.message
            )),
            _ => self.unanswered(&status.message),
        }
    }
}

/// The first of the causes that the API server names, in its own words.
fn invalid(key: &Key, status: &Status) -> Error {
    let causes = status.details.as_ref().map_or(&[][..], |d| &d.causes);
    let (field, problem) = match causes.first() {
        Some(cause) => (cause.field.clone(), cause.message.clone()),
        None => (String::new(), status.message.clone()),
    };
    let remedy = match causes.len() {
        0 | 1 => "the API server refuses it".to_owned(),
        count => format!("the API server refuses it (and {} more)", count - 1),
    };
    Error::Invalid {
        object: key.to_string(),
        field,
        problem,
        remedy,
    }
}

/// An error with everything below it; whoever logs it shows the first line only.
fn chain(error: &kube::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        below = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use crds::Kind;
    use serde_json::{Value, json};

    use super::*;

    /// What an answer of the API server becomes, in short.
    fn answered(status: Value) -> String {
        let key = Key::cluster(Kind::IpPool, "a");
        let question = Question {
            what: format!("update {key}"),
            key: Some(&key),
            address: "https://192.0.2.1:6443",
        };
        let status: Status = serde_json::from_value(status).unwrap();
        match question.failed(kube::Error::Api(Box::new(status))) {
            Error::NotFound { key } => format!("not found: {key}"),
            Error::AlreadyExists { key } => format!("exists: {key}"),
            Error::Conflict { key } => format!("conflict: {key}"),
            Error::Invalid { .. } => "invalid".to_owned(),
            Error::Unavailable { what, .. } => what,
        }
    }

    #[test]
    fn answers_have_their_types() {
        let found = json!({ "code": 404, "reason": "NotFound", "details": { "name": "a" } });
        assert_eq!(answered(found), "not found: IPPool a");
        let exists = json!({ "code": 409, "reason": "AlreadyExists" });
        assert_eq!(answered(exists), "exists: IPPool a");
        let conflict = json!({ "code": 409, "reason": "Conflict" });
        assert_eq!(answered(conflict), "conflict: IPPool a");
    }

    #[test]
    fn a_kind_that_is_not_served_is_no_missing_object() {
        for status in [
            json!({ "code": 404, "message": "404 page not found" }),
            json!({ "code": 404, "reason": "NotFound", "details": {} }),
            json!({ "code": 404, "reason": "NotFound", "details": { "name": "other" } }),
        ] {
            let text = answered(status);
            assert!(text.contains("install the CRDs"), "{text}");
        }
    }

    #[test]
    fn refusals_are_in_the_words_of_the_api_server() {
        let forbidden =
            json!({ "code": 403, "reason": "Forbidden", "message": "user x cannot patch" });
        let text = answered(forbidden);
        assert!(
            text.starts_with(
                "cannot update IPPool a at https://192.0.2.1:6443: user x cannot patch"
            ),
            "{text}"
        );
        let key = Key::cluster(Kind::IpPool, "a");
        let cause = |field: &str, message: &str| json!({ "reason": "FieldValueInvalid", "field": field, "message": message });
        let status = json!({ "code": 422, "reason": "Invalid", "details": { "name": "a", "causes": [
            cause("spec.blockSize", "must be 20 to 32"), cause("spec.cidr", "immutable"),
        ] } });
        let error = invalid(&key, &serde_json::from_value(status).unwrap());
        assert_eq!(
            error.to_string(),
            "IPPool a: spec.blockSize: must be 20 to 32; the API server refuses it (and 1 more)"
        );
    }
}
