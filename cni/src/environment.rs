//! The `CNI_*` variables (CNI 1.1.0, "Parameters").

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use felix_api::cni::code;

use crate::error::Error;

/// What the runtime wants, `CNI_COMMAND`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Verb {
    const ALL: [Verb; 6] = [
        Verb::Add,
        Verb::Del,
        Verb::Check,
        Verb::Gc,
        Verb::Status,
        Verb::Version,
    ];

    fn text(self) -> &'static str {
        match self {
            Verb::Add => "ADD",
            Verb::Del => "DEL",
            Verb::Check => "CHECK",
            Verb::Gc => "GC",
            Verb::Status => "STATUS",
            Verb::Version => "VERSION",
        }
    }

    /// The verb the runtime asked for.
    ///
    /// # Errors
    /// Code 4 when `CNI_COMMAND` is missing or unknown.
    pub(crate) fn from(lookup: impl Fn(&str) -> Option<String>) -> Result<Verb, Error> {
        let text = required(&lookup, "CNI_COMMAND")?;
        Verb::ALL
            .into_iter()
            .find(|verb| verb.text() == text)
            .ok_or_else(|| {
                Error::new(
                    code::INVALID_ENVIRONMENT,
                    format!("CNI_COMMAND {text:?} is unknown"),
                )
                .with_details("it is one of ADD, DEL, CHECK, GC, STATUS, VERSION")
            })
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// The attachment a verb is about: ADD, DEL and CHECK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Environment {
    pub(crate) container_id: String,
    pub(crate) ifname: String,
    /// Empty only where DEL was called without one.
    pub(crate) netns: PathBuf,
    pub(crate) args: Args,
}

/// `CNI_ARGS`, as kubelet's runtimes fill it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) namespace: Option<String>,
    pub(crate) pod: Option<String>,
    pub(crate) uid: Option<String>,
    /// `IP`: addresses the caller wants, comma-separated, a prefix length is ignored.
    pub(crate) addresses: Vec<IpAddr>,
}

impl Environment {
    /// Reads and checks the variables of an attachment verb.
    ///
    /// # Errors
    /// Code 4, naming the variable.
    pub(crate) fn from(
        verb: Verb,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Environment, Error> {
        let container_id = required(&lookup, "CNI_CONTAINERID")?;
        if !is_identifier(&container_id) {
            return Err(invalid(
                "CNI_CONTAINERID",
                &container_id,
                "it starts with a letter or digit and goes on with those, '_', '.' or '-'",
            ));
        }
        let ifname = required(&lookup, "CNI_IFNAME")?;
        if !is_interface_name(&ifname) {
            return Err(invalid(
                "CNI_IFNAME",
                &ifname,
                "an interface name has 1 to 15 characters, no '/', ':' or blank, and is not '.' or '..'",
            ));
        }
        let netns = match verb {
            Verb::Del => lookup("CNI_NETNS").unwrap_or_default(),
            _ => required(&lookup, "CNI_NETNS")?,
        };
        Ok(Environment {
            container_id,
            ifname,
            netns: netns.into(),
            args: Args::parse(&lookup("CNI_ARGS").unwrap_or_default())?,
        })
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.container_id, self.ifname)?;
        if let (Some(namespace), Some(pod)) = (&self.args.namespace, &self.args.pod) {
            write!(f, " pod {namespace}/{pod}")?;
        }
        Ok(())
    }
}

impl Args {
    fn parse(text: &str) -> Result<Args, Error> {
        let mut args = Args::default();
        let mut unknown = Vec::new();
        let mut ignore_unknown = false;
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=') else {
                return Err(invalid(
                    "CNI_ARGS",
                    pair,
                    "it is a list KEY=VALUE;KEY=VALUE",
                ));
            };
            let set = |slot: &mut Option<String>| *slot = (!value.is_empty()).then(|| value.into());
            match key {
                "IgnoreUnknown" => ignore_unknown = matches!(value, "1" | "true" | "True"),
                "K8S_POD_NAMESPACE" => set(&mut args.namespace),
                "K8S_POD_NAME" => set(&mut args.pod),
                "K8S_POD_UID" => set(&mut args.uid),
                // The sandbox is the container of CNI_CONTAINERID.
                "K8S_POD_INFRA_CONTAINER_ID" => {}
                "IP" => {
                    for address in value.split(',').filter(|address| !address.is_empty()) {
                        args.addresses.push(parse_address(address).ok_or_else(|| {
                            invalid("CNI_ARGS", pair, "IP is a list of addresses")
                        })?);
                    }
                }
                _ => unknown.push(key),
            }
        }
        if !unknown.is_empty() && !ignore_unknown {
            return Err(invalid(
                "CNI_ARGS",
                &unknown.join(", "),
                "these keys are unknown; add IgnoreUnknown=1 to pass them anyway",
            ));
        }
        if args.pod.is_some() != args.namespace.is_some() {
            return Err(invalid(
                "CNI_ARGS",
                text,
                "K8S_POD_NAME and K8S_POD_NAMESPACE belong together",
            ));
        }
        Ok(args)
    }
}

/// An address with or without a prefix length.
pub(crate) fn parse_address(text: &str) -> Option<IpAddr> {
    let address = text.split_once('/').map_or(text, |(address, _)| address);
    address.parse().ok()
}

/// Container ids and network names (CNI 1.1.0): safe as a part of a file name.
pub(crate) fn is_identifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
        && text.len() <= 200
}

fn is_interface_name(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text != "."
        && text != ".."
        && text
            .chars()
            .all(|c| c.is_ascii_graphic() && c != '/' && c != ':')
}

fn required(lookup: impl Fn(&str) -> Option<String>, name: &str) -> Result<String, Error> {
    lookup(name)
        .filter(|value| !value.is_empty())
        .ok_or_else(|| {
            Error::new(code::INVALID_ENVIRONMENT, format!("{name} is not set"))
                .with_details("the container runtime sets it; this program is not run by hand")
        })
}

fn invalid(name: &str, value: &str, rule: &str) -> Error {
    Error::new(
        code::INVALID_ENVIRONMENT,
        format!("{name}: {value:?} is not valid"),
    )
    .with_details(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(verb: Verb, variables: &[(&str, &str)]) -> Result<Environment, Error> {
        Environment::from(verb, |name| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    const PLAIN: [(&str, &str); 3] = [
        ("CNI_CONTAINERID", "0af3"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_NETNS", "/run/netns/a"),
    ];

    fn with(name: &'static str, value: &'static str) -> Vec<(&'static str, &'static str)> {
        let mut variables: Vec<_> = PLAIN.into_iter().filter(|(key, _)| *key != name).collect();
        variables.push((name, value));
        variables
    }

    #[test]
    fn what_kubelet_passes_is_understood() {
        let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=web;K8S_POD_NAME=front-0;\
                    K8S_POD_INFRA_CONTAINER_ID=0af3;K8S_POD_UID=6f1c;FUTURE=1";
        let got = environment(Verb::Add, &with("CNI_ARGS", args)).unwrap();
        assert_eq!(got.container_id, "0af3");
        assert_eq!(got.args.namespace.as_deref(), Some("web"));
        assert_eq!(got.args.pod.as_deref(), Some("front-0"));
        assert_eq!(got.args.uid.as_deref(), Some("6f1c"));
    }

    #[test]
    fn requested_addresses_may_carry_a_prefix_length() {
        let got = environment(Verb::Add, &with("CNI_ARGS", "IP=10.0.1.7/24,fd00::7")).unwrap();
        let expected: Vec<IpAddr> = vec!["10.0.1.7".parse().unwrap(), "fd00::7".parse().unwrap()];
        assert_eq!(got.args.addresses, expected);
    }

    #[test]
    fn bad_variables_are_named() {
        let cases = [
            ("CNI_CONTAINERID", ""),
            ("CNI_CONTAINERID", "../etc"),
            ("CNI_CONTAINERID", "a b"),
            ("CNI_IFNAME", ""),
            ("CNI_IFNAME", "much-too-long-name"),
            ("CNI_IFNAME", "a/b"),
            ("CNI_IFNAME", ".."),
            ("CNI_NETNS", ""),
            ("CNI_ARGS", "K8S_POD_NAME"),
            ("CNI_ARGS", "FUTURE=1"),
            ("CNI_ARGS", "IP=none"),
            ("CNI_ARGS", "K8S_POD_NAME=front-0"),
        ];
        for (name, value) in cases {
            let error = environment(Verb::Add, &with(name, value)).unwrap_err();
            assert_eq!(error.code, code::INVALID_ENVIRONMENT, "{name}={value}");
            assert!(error.message.contains(name), "{name}={value}: {error}");
        }
    }

    #[test]
    fn only_del_goes_without_a_namespace() {
        for (verb, accepted) in [(Verb::Add, false), (Verb::Check, false), (Verb::Del, true)] {
            let got = environment(verb, &PLAIN[..2]);
            assert_eq!(got.is_ok(), accepted, "{verb}: {got:?}");
        }
    }
}
