//! What the installer of the plugin puts on a node, and how it is recognised.

use serde::Deserialize;

/// Name of the plugin's file, and its `type` in network configurations.
pub const PLUGIN: &str = "tortie-cni";
/// Where plugins are unless configured otherwise.
pub const DEFAULT_BIN_DIR: &str = "/opt/cni/bin";
/// Where network configurations are unless configured otherwise.
pub const DEFAULT_CONF_DIR: &str = "/etc/cni/net.d";

/// Endings of the files that runtimes read (libcni).
const ENDINGS: [&str; 3] = ["conf", "conflist", "json"];

/// Whether runtimes read a file of this name as a network configuration.
pub fn is_configuration(file: &str) -> bool {
    let ending = file.rsplit_once('.').map_or("", |(_, ending)| ending);
    ENDINGS.contains(&ending)
}

/// As much of a network configuration as says whose it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Network {
    /// Its plugins; none where it has only one (a file `.conf`).
    #[serde(default)]
    pub plugins: Vec<Plugin>,
}

/// A plugin of a network configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Plugin {
    /// Name of its file.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Which version of ours the installer was; absent in what people write.
    #[serde(default)]
    pub version: Option<String>,
}

impl Network {
    /// Reads the content of a file; nothing when it has another form.
    pub fn parse(content: &[u8]) -> Option<Network> {
        serde_json::from_slice(content).ok()
    }

    /// Our plugin in it.
    pub fn own(self) -> Option<Plugin> {
        self.plugins
            .into_iter()
            .find(|plugin| plugin.kind == PLUGIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_installer_wrote_is_told_from_what_others_wrote() {
        let version = |text: &str| Some(Network::parse(text.as_bytes())?.own()?.version);
        let ours =
            r#"{"plugins": [{"type": "tortie-cni", "version": "1.2.3"}, {"type": "portmap"}]}"#;
        assert_eq!(version(ours), Some(Some("1.2.3".to_owned())));
        assert_eq!(
            version(r#"{"plugins": [{"type": "tortie-cni"}]}"#),
            Some(None)
        );
        for other in [
            r#"{"plugins": [{"type": "bridge", "version": "1"}]}"#,
            r#"{"type": "bridge"}"#,
            "[]",
            "",
        ] {
            assert_eq!(version(other), None, "{other}");
        }
        assert!(is_configuration("10-a.conflist") && is_configuration("b.json"));
        assert!(!is_configuration(".c.conflist.tmp") && !is_configuration("conf"));
    }
}
