//! The result of ADD, and the same as later plugins pass it on (CNI 1.1.0, "ADD Success").

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::version::Version;

/// Keys of other plugins and newer versions, passed on as they are.
type Rest = Map<String, Value>;

/// A result; [`AddResult::shaped`] gives it the form of a version before it is printed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct AddResult {
    #[serde(default, rename = "cniVersion")]
    pub(crate) cni_version: String,
    #[serde(default)]
    pub(crate) interfaces: Vec<Interface>,
    #[serde(default)]
    pub(crate) ips: Vec<Ip>,
    #[serde(default)]
    pub(crate) routes: Vec<Route>,
    #[serde(default)]
    pub(crate) dns: Value,
    #[serde(flatten)]
    pub(crate) rest: Rest,
}

/// An interface that was made; without `sandbox` it is on the host.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Interface {
    pub(crate) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mac: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mtu: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sandbox: Option<String>,
    #[serde(flatten)]
    pub(crate) rest: Rest,
}

/// An address and the interface that has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ip {
    /// "4" or "6", only before 1.0.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<String>,
    pub(crate) address: IpNet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gateway: Option<IpAddr>,
    /// Index into `interfaces`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) interface: Option<usize>,
    #[serde(flatten)]
    pub(crate) rest: Rest,
}

/// A route inside the container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Route {
    pub(crate) dst: IpNet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) gw: Option<IpAddr>,
    #[serde(flatten)]
    pub(crate) rest: Rest,
}

impl Ip {
    /// An address of the interface at `interface`, without a gateway, as Calico reports it.
    pub(crate) fn of(address: IpNet, interface: usize) -> Ip {
        Ip {
            version: None,
            address,
            gateway: None,
            interface: Some(interface),
            rest: Rest::new(),
        }
    }
}

impl Route {
    /// A route by way of `gateway`.
    pub(crate) fn through(gateway: IpAddr, dst: IpNet) -> Route {
        Route {
            dst,
            gw: Some(gateway),
            rest: Rest::new(),
        }
    }
}

impl AddResult {
    /// `own` behind what earlier plugins of the list did.
    pub(crate) fn after(previous: Option<AddResult>, own: AddResult) -> AddResult {
        let Some(mut all) = previous else { return own };
        let offset = all.interfaces.len();
        all.interfaces.extend(own.interfaces);
        all.ips.extend(own.ips.into_iter().map(|mut ip| {
            ip.interface = ip.interface.map(|index| index + offset);
            ip
        }));
        all.routes.extend(own.routes);
        if !own.dns.is_null() {
            all.dns = own.dns;
        }
        all
    }

    /// The result in the form of `version`.
    pub(crate) fn shaped(mut self, version: Version) -> AddResult {
        self.cni_version = version.text().to_owned();
        for ip in &mut self.ips {
            let family = if ip.address.addr().is_ipv4() {
                "4"
            } else {
                "6"
            };
            ip.version = (version < Version::V1_0_0).then(|| family.to_owned());
        }
        if version < Version::V1_1_0 {
            for interface in &mut self.interfaces {
                interface.mtu = None;
            }
        }
        if self.dns.is_null() {
            self.dns = Value::Object(Map::new());
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn own() -> AddResult {
        AddResult {
            interfaces: vec![
                Interface {
                    name: "cali0123456789a".to_owned(),
                    mac: Some("ee:ee:ee:ee:ee:ee".to_owned()),
                    mtu: Some(1480),
                    ..Interface::default()
                },
                Interface {
                    name: "eth0".to_owned(),
                    mtu: Some(1480),
                    sandbox: Some("/run/netns/a".to_owned()),
                    ..Interface::default()
                },
            ],
            ips: vec![Ip::of("10.0.1.5/32".parse().unwrap(), 1)],
            routes: vec![Route::through(
                "169.254.1.1".parse().unwrap(),
                "0.0.0.0/0".parse().unwrap(),
            )],
            ..AddResult::default()
        }
    }

    #[test]
    fn each_version_has_its_form() {
        let interfaces = |mtu: bool| {
            let mut host = json!({"name": "cali0123456789a", "mac": "ee:ee:ee:ee:ee:ee"});
            let mut pod = json!({"name": "eth0", "sandbox": "/run/netns/a"});
            if mtu {
                host["mtu"] = json!(1480);
                pod["mtu"] = json!(1480);
            }
            json!([host, pod])
        };
        for version in Version::ALL {
            let mut ip = json!({"address": "10.0.1.5/32", "interface": 1});
            if version < Version::V1_0_0 {
                ip["version"] = json!("4");
            }
            let expected = json!({
                "cniVersion": version.text(),
                "interfaces": interfaces(version == Version::V1_1_0),
                "ips": [ip],
                "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}],
                "dns": {},
            });
            assert_eq!(
                serde_json::to_value(own().shaped(version)).unwrap(),
                expected
            );
        }
    }

    #[test]
    fn what_earlier_plugins_did_comes_first_and_is_kept_whole() {
        let previous: AddResult = serde_json::from_value(json!({
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "net1", "sandbox": "/run/netns/a", "pciID": "0000:00:1f.6"}],
            "ips": [{"address": "192.0.2.9/24", "gateway": "192.0.2.1", "interface": 0}],
            "dns": {"nameservers": ["192.0.2.53"]},
        }))
        .unwrap();
        let all = AddResult::after(Some(previous), own()).shaped(Version::V1_1_0);
        assert_eq!(all.interfaces[0].rest["pciID"], "0000:00:1f.6");
        assert_eq!(all.ips[0].interface, Some(0));
        assert_eq!(all.ips[1].interface, Some(2));
        assert_eq!(all.interfaces[2].name, "eth0");
        assert_eq!(all.dns, json!({"nameservers": ["192.0.2.53"]}));
    }
}
