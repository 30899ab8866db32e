//! Versions of the CNI specification.

use std::fmt;

use felix_api::cni::code;

use crate::environment::Verb;
use crate::error::Error;

/// A version the plugin speaks, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl Version {
    /// Every version, oldest first.
    pub(crate) const ALL: [Version; 4] = [
        Version::V0_3_1,
        Version::V0_4_0,
        Version::V1_0_0,
        Version::V1_1_0,
    ];
    /// The newest, used where a configuration names none.
    pub(crate) const LATEST: Version = Version::V1_1_0;

    /// As it stands in `cniVersion`.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }

    /// The version named `text`.
    ///
    /// # Errors
    /// Code 1, naming the supported versions.
    pub(crate) fn parse(text: &str) -> Result<Version, Error> {
        Version::ALL
            .into_iter()
            .find(|version| version.text() == text)
            .ok_or_else(|| {
                Error::new(
                    code::INCOMPATIBLE_VERSION,
                    format!("cniVersion {text:?} is not supported"),
                )
                .with_details(format!(
                    "set cniVersion in the network configuration to one of {}",
                    Version::ALL.map(Version::text).join(", ")
                ))
            })
    }

    /// Checks that `verb` exists in this version.
    ///
    /// # Errors
    /// Code 1, naming the version that introduced the verb.
    pub(crate) fn supports(self, verb: Verb) -> Result<(), Error> {
        let since = match verb {
            Verb::Add | Verb::Del | Verb::Version => Version::V0_3_1,
            Verb::Check => Version::V0_4_0,
            Verb::Gc | Verb::Status => Version::V1_1_0,
        };
        if self >= since {
            return Ok(());
        }
        Err(Error::new(
            code::INCOMPATIBLE_VERSION,
            format!("CNI version {self} has no {verb}; it came with {since}"),
        ))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_versions_are_refused_with_the_known_ones() {
        for text in ["", "0.1.0", "0.3.0", "1.0", "1.2.0", "v1.0.0"] {
            let error = Version::parse(text).unwrap_err();
            assert_eq!(error.code, code::INCOMPATIBLE_VERSION, "{text}");
            assert!(
                error.details.contains("0.3.1, 0.4.0, 1.0.0, 1.1.0"),
                "{error}"
            );
        }
        assert_eq!(Version::parse("1.0.0"), Ok(Version::V1_0_0));
    }

    #[test]
    fn verbs_appear_with_their_version() {
        assert!(Version::V0_3_1.supports(Verb::Check).is_err());
        assert!(Version::V0_4_0.supports(Verb::Check).is_ok());
        assert!(Version::V1_0_0.supports(Verb::Gc).is_err());
        assert!(Version::V1_0_0.supports(Verb::Status).is_err());
        assert!(Version::V1_1_0.supports(Verb::Status).is_ok());
    }
}
