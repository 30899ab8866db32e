//! Rules of others, in each way that kube-proxy has of writing them, stay and go on working.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::fabric::OUTSIDE;
use e2e::lab::Namespace;
use e2e::overlay::{LIMIT, Overlay, scenario};
use e2e::wait;
use nix::sys::signal::Signal;

use crate::lab::{self, Place, seen};

/// Address of a Service, outside every pool.
const SERVICE: &str = "10.96.0.10";
const PORT: u16 = 5353;

/// Who writes rules, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Proxy {
    IptablesNft,
    IptablesLegacy,
    Nftables,
}

impl Proxy {
    /// Sends what goes to the Service to a pod, marks and masquerades what comes back to itself,
    /// as kube-proxy does, and keeps a rule in `filter` beside it.
    fn install(self, node: &Namespace, pod: IpAddr) -> Result<()> {
        let program = match self {
            Proxy::IptablesNft => "iptables-nft-restore --noflush",
            Proxy::IptablesLegacy => "iptables-legacy-restore --noflush",
            Proxy::Nftables => {
                let table = format!(
                    "table ip kube-proxy {{
  map service-ips {{ type ipv4_addr . inet_proto . inet_service : verdict
    elements = {{ {SERVICE} . udp . {PORT} : goto service-dns }} }}
  chain service-dns {{ meta l4proto udp dnat to {pod}:{PORT}; }}
  chain nat-prerouting {{ type nat hook prerouting priority dstnat; ip daddr . meta l4proto . udp dport vmap @service-ips; }}
  chain nat-output {{ type nat hook output priority -100; ip daddr . meta l4proto . udp dport vmap @service-ips; }}
  chain filter-forward {{ type filter hook forward priority -110; ct state invalid drop; }}
}}
"
                );
                return node.feed("nft -f -", &table).map(drop);
            }
        };
        let rules = format!(
            "*nat
:KUBE-SERVICES - [0:0]
:KUBE-SEP-DNS - [0:0]
:KUBE-POSTROUTING - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-SERVICES -d {SERVICE}/32 -p udp -m udp --dport {PORT} -j KUBE-SEP-DNS
-A KUBE-SEP-DNS -p udp -m udp -j DNAT --to-destination {pod}:{PORT}
-A KUBE-POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE
COMMIT
*filter
:KUBE-FORWARD - [0:0]
-A FORWARD -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
COMMIT
"
        );
        node.feed(program, &rules).map(drop)
    }

    /// The rules, without what counts.
    fn rules(self, node: &Namespace) -> Result<String> {
        let text = match self {
            Proxy::IptablesNft => node.run("iptables-nft-save")?,
            Proxy::IptablesLegacy => node.run("iptables-legacy-save")?,
            Proxy::Nftables => node.run("nft list table ip kube-proxy")?,
        };
        let kept = text.lines().filter(|line| !line.starts_with('#'));
        Ok(kept
            .map(|line| line.split(" [").next().unwrap_or(line))
            .collect::<Vec<_>>()
            .join("\n"))
    }
}

/// A Service answers pods and nodes through a tunnel, NAT works beside it, and after restarts and
/// changes of pools every foreign rule is as it was.
pub(crate) fn stay_and_work(proxy: Proxy) -> Result<()> {
    let name = format!("proxy{}", proxy as u8);
    scenario(&name, &lab::setup(), |overlay| {
        lab::pods(overlay)?;
        let far = overlay.pod("nat2")?.address(false)?;
        let server = overlay
            .pod("nat2")?
            .namespace
            .inside(|| Ok(UdpSocket::bind(SocketAddr::new(far, PORT))?))?;
        server.set_read_timeout(Some(Duration::from_secs(2)))?;
        let node = overlay.nodes[0].namespace.clone();
        proxy.install(&node, far)?;
        let before = proxy.rules(&node)?;
        ensure!(before.contains(&far.to_string()), "no rules: {before}");

        works(overlay, &server)?;
        overlay.nodes[0].stop(Signal::SIGKILL)?;
        overlay.nodes[0].start()?;
        overlay.nodes[0].wait_ready(LIMIT)?;
        let mut pools = lab::pools();
        pools[1].nat = true;
        overlay.pools(&pools)?;
        works(overlay, &server)?;
        let after = proxy.rules(&node)?;
        ensure!(before == after, "before:\n{before}\nafter:\n{after}");
        Ok(())
    })
}

fn works(overlay: &Overlay, server: &UdpSocket) -> Result<()> {
    let pod = overlay.pod("nat1")?;
    let asked = asks(&pod.namespace, server)?;
    ensure!(
        asked == pod.address(false)?,
        "a pod asked the Service as {asked}"
    );
    // A node asks through the tunnel, and the answer finds its way back.
    let asked = asks(&overlay.nodes[0].namespace, server)?;
    let tunnel = overlay.device_addresses(0, "vxlan.calico")?;
    ensure!(
        tunnel == [format!("{asked}/32")],
        "a node asked the Service as {asked}, its tunnel has {tunnel:?}"
    );
    let outside = Place {
        namespace: &overlay.fabric.outside,
        interface: "eth0",
    };
    let (source, _) = seen(overlay, &pod.namespace, OUTSIDE[0].parse()?, &outside)?;
    ensure!(
        source.to_string() == overlay.address(0, false),
        "a pod came out as {source}"
    );
    Ok(())
}

/// Asks the Service and waits for the answer; returns who asked, as the server saw it.
fn asks(from: &Namespace, server: &UdpSocket) -> Result<IpAddr> {
    let client = from.inside(|| Ok(UdpSocket::bind("0.0.0.0:0")?))?;
    client.set_read_timeout(Some(Duration::from_secs(2)))?;
    let service: SocketAddr = SocketAddr::new(SERVICE.parse()?, PORT);
    let what = format!("the Service to answer {}", from.name);
    wait::until(&what, LIMIT, || {
        client.send_to(b"question", service)?;
        let mut buffer = [0; 32];
        let (_, asker) = server.recv_from(&mut buffer).context("no question")?;
        server.send_to(b"answer", asker)?;
        let (length, answerer) = client.recv_from(&mut buffer).context("no answer")?;
        ensure!(
            &buffer[..length] == b"answer" && answerer == service,
            "{answerer} answered"
        );
        Ok(Some(asker.ip()))
    })
    .map(|(asker, _)| asker)
}
