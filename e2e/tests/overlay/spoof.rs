//! Tunnel packets that no node of the cluster sent (Calico's `ipip_spoof` and `vxlan_spoof`).

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use e2e::lab::Namespace;
use e2e::overlay::{LIMIT, Overlay, scenario};
use e2e::{fabric, raw, wait};

use crate::encap::{Encap, a_pod_each, address, wait_address};

const PORT: u16 = 5000;

/// A forged packet from a host that is no node is dropped, from a pod too; the same packet from a
/// node arrives, and from the host once `externalNodesList` names it.
pub(crate) fn spoofed_packets_are_dropped(encap: Encap) -> Result<()> {
    let setup = encap.setup(&[0, 1], "Always");
    scenario(&encap.lab("spoof"), &setup, |overlay| {
        a_pod_each(overlay)?;
        overlay.wait_all_reach(false)?;
        wait_address(overlay, 1, encap)?;
        let target = Target::new(overlay, encap)?;
        let outside: Ipv4Addr = fabric::OUTSIDE[0].parse()?;
        let node: Ipv4Addr = overlay.address(0, false).parse()?;
        let pod = &overlay.pod("pod1")?.namespace;
        let pod_address = target.from;

        target.arrives(&overlay.nodes[0].namespace, node)?;
        target.is_dropped(&overlay.fabric.outside, outside)?;
        // A pod sends as itself, and in the name of its node.
        target.is_dropped(pod, pod_address)?;
        target.is_dropped(pod, node)?;

        let external = format!(
            "apiVersion: crd.projectcalico.org/v1
kind: FelixConfiguration
metadata: {{name: default}}
spec: {{externalNodesList: [{outside}]}}
"
        );
        overlay.apply("felix.yaml", &external)?;
        wait::until("what an external node sends to arrive", LIMIT, || {
            target.arrives(&overlay.fabric.outside, outside).map(Some)
        })?;
        overlay.apply("felix.yaml", "")?;
        wait::until("it to be dropped again", LIMIT, || {
            target
                .is_dropped(&overlay.fabric.outside, outside)
                .map(Some)
        })?;
        Ok(())
    })
}

/// A socket in pod2, and how packets get there through node2's tunnel.
struct Target {
    encap: Encap,
    socket: UdpSocket,
    /// Pod1, whose address the inner packet carries.
    from: Ipv4Addr,
    to: Ipv4Addr,
    node: Ipv4Addr,
    mac: [u8; 6],
    /// Node1 and its address: what it sends is true.
    peer: (Namespace, Ipv4Addr),
}

impl Target {
    fn new(overlay: &Overlay, encap: Encap) -> Result<Self> {
        let v4 =
            |pod| -> Result<Ipv4Addr> { Ok(address(overlay, pod, encap)?.to_string().parse()?) };
        let (from, to) = (v4("pod1")?, v4("pod2")?);
        let pod = &overlay.pod("pod2")?.namespace;
        let socket = pod.inside(|| Ok(UdpSocket::bind(SocketAddr::from((to, PORT)))?))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let link = overlay.link(1, encap.device())?.context("no device")?;
        let mac = match encap {
            Encap::Ipip => [0; 6],
            Encap::Vxlan | Encap::VxlanV6 => mac(link["address"].as_str().unwrap_or_default())?,
        };
        Ok(Self {
            encap,
            socket,
            from,
            to,
            node: overlay.address(1, false).parse()?,
            mac,
            peer: (
                overlay.nodes[0].namespace.clone(),
                overlay.address(0, false).parse()?,
            ),
        })
    }

    /// Sends a packet to the socket, inside a tunnel packet from `outer`.
    fn send(&self, sender: &Namespace, outer: Ipv4Addr, text: &str) -> Result<()> {
        let datagram = raw::udp(4000, PORT, text.as_bytes())?;
        let inner = raw::ipv4(self.from, self.to, 17, &datagram)?;
        let outer = [outer, self.node];
        let packet = match self.encap {
            Encap::Ipip => raw::in_ipip(outer, &inner)?,
            Encap::Vxlan => raw::in_vxlan(outer, e2e::hand::VNI, self.mac, &inner)?,
            Encap::VxlanV6 => bail!("forged packets are IPv4"),
        };
        raw::send(sender, &packet)
    }

    fn arrives(&self, sender: &Namespace, outer: Ipv4Addr) -> Result<()> {
        self.send(sender, outer, "true")?;
        self.heard_before_true()
            .with_context(|| format!("a packet from {outer} in {}", sender.name))
            .map(drop)
    }

    /// Sends a forged packet and then a true one: when that is there, the forged one would be.
    fn is_dropped(&self, sender: &Namespace, outer: Ipv4Addr) -> Result<()> {
        // A kernel that refuses to send it has dropped it as well.
        let _ = self.send(sender, outer, "forged");
        self.send(&self.peer.0, self.peer.1, "true")?;
        let heard = self.heard_before_true()?;
        ensure!(
            heard.is_empty(),
            "a packet forged in {} as {outer} arrived: {heard:?}",
            sender.name
        );
        Ok(())
    }

    fn heard_before_true(&self) -> Result<Vec<String>> {
        let (mut heard, mut buffer) = (Vec::new(), [0; 16]);
        loop {
            let length = self.socket.recv(&mut buffer).context("nothing arrived")?;
            match String::from_utf8_lossy(&buffer[..length]).into_owned() {
                text if text == "true" => return Ok(heard),
                text => heard.push(text),
            }
        }
    }
}

fn mac(text: &str) -> Result<[u8; 6]> {
    let octets: Vec<_> = text
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16))
        .collect::<Result<_, _>>()?;
    octets
        .try_into()
        .map_err(|_| anyhow::anyhow!("{text:?} is no hardware address"))
}
