//! Secret.

use std::collections::BTreeMap;

use crds::Secret;

use crate::Password;

/// What of a Secret can be a password, by key: text that is not empty.
pub(crate) fn passwords(secret: &Secret) -> BTreeMap<String, Password> {
    let usable = secret.keys().filter_map(|key| {
        let text = std::str::from_utf8(secret.value(key)?).ok()?;
        (!text.is_empty()).then(|| (key.to_owned(), Password::from(text)))
    });
    usable.collect()
}
