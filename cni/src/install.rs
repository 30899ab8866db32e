//! `tortie-cni install`: puts the plugin and its configuration on a node.
//!
//! The configuration comes last and whole: its appearance is what makes the node ready. Installers
//! that run at a time wait for each other, and what is there already is not written again.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use felix_api::cni::install::{DEFAULT_BIN_DIR, DEFAULT_CONF_DIR, Network, PLUGIN as BINARY};
use felix_api::cni::{DEFAULT_SOCKET, DEFAULT_STATE_DIR, code};
use serde_json::{Value, json};

use crate::environment::is_identifier;
use crate::error::Error;
use crate::file;
use crate::version::Version;

mod others;

/// How it is called.
pub(crate) const USAGE: &str = "\
tortie-cni is a CNI plugin: a container runtime runs it, with CNI_COMMAND set.

  tortie-cni install [--key value]...   put plugin and network configuration on this node
      --bin-dir      where the plugin goes                   /opt/cni/bin
      --conf-dir     where the configuration goes            /etc/cni/net.d
      --conf-name    its file name                           10-tortie.conflist
      --network      its network name                        k8s-pod-network
      --cni-version  its cniVersion                          1.0.0
      --chain        plugins behind this one, if present     portmap,bandwidth
      --socket       where the agent listens                 /run/tortie/cni.sock
      --state-dir    where deletions wait for the agent      /var/lib/tortie
      --mtu          MTU of pods, 0: the agent decides       0
      --ipv4         give pods an IPv4 address               true
      --ipv6         give pods an IPv6 address               false
      --log-file     a line per call goes here               (none)
  tortie-cni --version";

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What is installed where.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    bin_dir: PathBuf,
    conf_dir: PathBuf,
    conf_name: String,
    network: String,
    version: Version,
    chain: Vec<String>,
    socket: String,
    state_dir: String,
    mtu: u32,
    ipv4: bool,
    ipv6: bool,
    log_file: Option<String>,
}

/// Installs and says what it did on stderr.
pub(crate) fn main(arguments: &[String]) -> ExitCode {
    let said = match Options::parse(arguments).and_then(|options| options.install()) {
        Ok(report) => (report, ExitCode::SUCCESS),
        Err(error) => (format!("tortie-cni install: {error}"), ExitCode::FAILURE),
    };
    // Without a stderr there is nobody to tell.
    let _ = writeln!(io::stderr(), "{}", said.0);
    said.1
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Options, Error> {
        let mut given = BTreeMap::new();
        for pair in arguments.chunks(2) {
            match pair {
                [key, value] if key.starts_with("--") => {
                    given.insert(key.as_str(), value.clone());
                }
                _ => return Err(usage(format!("{:?} is not --key value", pair.join(" ")))),
            }
        }
        let mut take = |key: &str, default: &str| given.remove(key).unwrap_or(default.to_owned());
        let options = Options {
            bin_dir: take("--bin-dir", DEFAULT_BIN_DIR).into(),
            conf_dir: take("--conf-dir", DEFAULT_CONF_DIR).into(),
            conf_name: take("--conf-name", "10-tortie.conflist"),
            network: take("--network", "k8s-pod-network"),
            version: Version::parse(&take("--cni-version", Version::V1_0_0.text()))?,
            chain: names(&take("--chain", "portmap,bandwidth")),
            socket: take("--socket", DEFAULT_SOCKET),
            state_dir: take("--state-dir", DEFAULT_STATE_DIR),
            mtu: parsed("--mtu", &take("--mtu", "0"))?,
            ipv4: parsed("--ipv4", &take("--ipv4", "true"))?,
            ipv6: parsed("--ipv6", &take("--ipv6", "false"))?,
            log_file: given.remove("--log-file"),
        };
        if let Some(key) = given.keys().next() {
            return Err(usage(format!("{key} is unknown")));
        }
        for (key, name) in [
            ("--network", &options.network),
            ("--conf-name", &options.conf_name),
        ] {
            if !is_identifier(name) {
                return Err(usage(format!("{key} {name:?} is not a plain name")));
            }
        }
        Ok(options)
    }

    fn install(&self) -> Result<String, Error> {
        let own = std::env::current_exe()
            .map_err(|error| Error::file("finding", Path::new(BINARY), &error))?;
        let program = fs::read(&own).map_err(|error| Error::file("reading", &own, &error))?;
        for directory in [&self.bin_dir, &self.conf_dir] {
            fs::create_dir_all(directory)
                .map_err(|error| Error::file("creating", directory, &error))?;
        }
        let _alone = file::lock(&self.bin_dir)?;
        let binary = self.bin_dir.join(BINARY);
        let wrote_binary = file::replace_if_other(&binary, &program, 0o755)?;
        let (present, absent): (Vec<&str>, Vec<&str>) = self
            .chain
            .iter()
            .map(String::as_str)
            .partition(|name| self.bin_dir.join(name).exists());
        let conf = self.conf_dir.join(&self.conf_name);
        let before = fs::read(&conf).ok().and_then(|conf| installed_by(&conf));
        let content = format!("{:#}\n", self.conflist(&present));
        let wrote_conf = file::replace_if_other(&conf, content.as_bytes(), 0o600)?;
        let what = match (wrote_binary || wrote_conf, before) {
            (false, _) => format!("version {VERSION} is in place already:"),
            (true, Some(before)) if before != VERSION => {
                format!("installed version {VERSION}, there was {before}:")
            }
            (true, _) => format!("installed version {VERSION}:"),
        };
        let mut report = format!("{what} {} and {}", binary.display(), conf.display());
        if !absent.is_empty() {
            // Naming a plugin that is not there would fail every pod.
            let (absent, bin_dir) = (absent.join(", "), self.bin_dir.display());
            report.push_str(&format!(", without {absent}: not in {bin_dir}"));
        }
        if let Some(others) = others::report(&self.conf_dir, &self.conf_name) {
            report.push_str(&format!("\ntortie-cni install: {others}"));
        }
        Ok(report)
    }

    fn conflist(&self, chain: &[&str]) -> Value {
        let mut own = json!({
            "type": BINARY,
            "version": VERSION,
            "socket": self.socket,
            "state_dir": self.state_dir,
            "mtu": self.mtu,
            "ipam": {"assign_ipv4": self.ipv4, "assign_ipv6": self.ipv6},
        });
        if let Some(path) = &self.log_file {
            own["log_file"] = json!(path);
        }
        let chained = chain.iter().map(|name| match *name {
            "portmap" => {
                json!({"type": name, "snat": true, "capabilities": {"portMappings": true}})
            }
            "bandwidth" => json!({"type": name, "capabilities": {"bandwidth": true}}),
            _ => json!({"type": name}),
        });
        json!({
            "cniVersion": self.version.text(),
            "name": self.network,
            "plugins": std::iter::once(own).chain(chained).collect::<Vec<_>>(),
        })
    }
}

/// Which version wrote a configuration.
fn installed_by(conf: &[u8]) -> Option<String> {
    let own = Network::parse(conf)?.own()?;
    Some(own.version.unwrap_or("unknown".to_owned()))
}

fn names(text: &str) -> Vec<String> {
    text.split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

fn parsed<T: std::str::FromStr>(key: &str, text: &str) -> Result<T, Error> {
    text.parse()
        .map_err(|_| usage(format!("{key} {text:?} is not valid")))
}

fn usage(problem: String) -> Error {
    Error::new(code::INVALID_CONFIG, problem).with_details("see tortie-cni --help")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Result<Options, Error> {
        Options::parse(
            &arguments
                .iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn the_defaults_are_those_of_the_usage_text() {
        let options = options(&[]).unwrap();
        let shown = [
            ("--bin-dir", options.bin_dir.to_string_lossy().into_owned()),
            (
                "--conf-dir",
                options.conf_dir.to_string_lossy().into_owned(),
            ),
            ("--conf-name", options.conf_name),
            ("--network", options.network),
            ("--cni-version", options.version.to_string()),
            ("--chain", options.chain.join(",")),
            ("--socket", options.socket),
            ("--state-dir", options.state_dir),
            ("--mtu", options.mtu.to_string()),
            ("--ipv4", options.ipv4.to_string()),
            ("--ipv6", options.ipv6.to_string()),
        ];
        for (key, value) in shown {
            let line = USAGE
                .lines()
                .find(|line| line.trim().starts_with(key))
                .unwrap();
            assert!(
                line.ends_with(&value),
                "{line:?} does not end with {value:?}"
            );
        }
    }

    #[test]
    fn wrong_options_are_refused_with_their_name() {
        for arguments in [
            vec!["--mtu"],
            vec!["--mtu", "big"],
            vec!["--what", "1"],
            vec!["bin-dir", "/x"],
            vec!["--conf-name", "../10.conflist"],
            vec!["--cni-version", "9.9.9"],
        ] {
            let error = options(&arguments).unwrap_err();
            let last = arguments.last().unwrap();
            let named = error.to_string();
            assert!(
                named.contains(arguments[0]) || named.contains(last),
                "{arguments:?}: {error}"
            );
        }
    }

    #[test]
    fn only_plugins_that_are_there_are_chained() {
        let conflist = options(&["--mtu", "1400"]).unwrap().conflist(&["portmap"]);
        assert_eq!(
            conflist,
            json!({
                "cniVersion": "1.0.0",
                "name": "k8s-pod-network",
                "plugins": [
                    {
                        "type": "tortie-cni",
                        "version": VERSION,
                        "socket": "/run/tortie/cni.sock",
                        "state_dir": "/var/lib/tortie",
                        "mtu": 1400,
                        "ipam": {"assign_ipv4": true, "assign_ipv6": false},
                    },
                    {"type": "portmap", "snat": true, "capabilities": {"portMappings": true}},
                ],
            })
        );
    }
}
