//! A tunnel made with `ip` alone, seen on the wire and forged.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::capture::Capture;
use e2e::command::require;
use e2e::fabric::Fabric;
use e2e::hand::{self, Pair};
use e2e::lab::Lab;
use e2e::raw;

const LIMIT: Duration = Duration::from_secs(60);
const PORT: u16 = 5000;

/// Which tunnel.
#[derive(Clone, Copy)]
#[allow(dead_code, reason = "each test program makes one of them")]
pub(crate) enum Tunnel {
    Ipip,
    Vxlan,
}

/// Without a tunnel nothing passes the fabric and the fabric counts it; with one everything
/// does, as protocol 4 or UDP 4789; and a packet forged outside arrives until somebody filters.
pub(crate) fn joins(name: &str, tunnel: Tunnel) -> Result<()> {
    require(&[("tcpdump", "tcpdump"), ("nft", "nftables")])?;
    let lab = Lab::new(name)?;
    let fabric = Fabric::new(&lab, 2)?;
    fabric.drop_foreign_addresses()?;
    let pair = Pair::new(&lab, &fabric, 0)?;
    let ping = |count| format!("ping -n -q -c {count} -i 0.2 -W 2 {}", pair.addresses[1]);
    ensure!(
        pair.pods[0].run(&ping(1)).is_err(),
        "the fabric passes packets of pods"
    );
    ensure!(fabric.dropped()? > 0, "the fabric counts nothing");

    let filter = match tunnel {
        Tunnel::Ipip => "ip proto 4",
        Tunnel::Vxlan => "udp port 4789",
    };
    let on_the_wire = Capture::start(&lab, &fabric.router, "hand2", filter)?;
    let plain = Capture::start(&lab, &fabric.router, "hand2", "ip net 10.243.0.0/16")?;
    match tunnel {
        Tunnel::Ipip => pair.ipip()?,
        Tunnel::Vxlan => pair.vxlan()?,
    }
    let dropped = fabric.dropped()?;
    pair.pods[0].run(&ping(3))?;
    on_the_wire.wait(LIMIT, |line| {
        line.contains(&pair.ends[0].node) && line.contains(&pair.addresses[0])
    })?;
    let plain = plain.stop()?;
    ensure!(plain.is_empty(), "packets without a tunnel: {plain:#?}");
    ensure!(
        fabric.dropped()? == dropped,
        "the fabric drops tunnel packets"
    );
    let to: Ipv4Addr = pair.addresses[1].parse()?;
    let inside = pair.pods[1].inside(|| Ok(UdpSocket::bind((to, PORT))?))?;
    inside.set_read_timeout(Some(LIMIT))?;
    forge(&fabric, &pair, tunnel, b"forged")?;
    ensure!(heard(&inside)? == b"forged", "something else arrived");
    pair.guard(Some(match tunnel {
        Tunnel::Ipip => hand::IPIP_PACKETS,
        Tunnel::Vxlan => hand::VXLAN_PACKETS,
    }))?;
    forge(&fabric, &pair, tunnel, b"again")?;
    pair.pods[0].inside(|| {
        let socket = UdpSocket::bind(("0.0.0.0", 0))?;
        Ok(socket.send_to(b"true", (to, PORT))?)
    })?;
    ensure!(heard(&inside)? == b"true", "a forged packet arrived");
    Ok(())
}

/// What arrives next.
fn heard(inside: &UdpSocket) -> Result<Vec<u8>> {
    let mut buffer = vec![0; 16];
    let length = inside.recv(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

/// Sends a tunnel packet with `text` for the second pod from a host that is none of the two.
fn forge(fabric: &Fabric, pair: &Pair, tunnel: Tunnel, text: &[u8]) -> Result<()> {
    let (from, to) = (pair.addresses[0].parse()?, pair.addresses[1].parse()?);
    let packet = raw::ipv4(from, to, 17, &raw::udp(4000, PORT, text)?)?;
    let outer = [e2e::fabric::OUTSIDE[0].parse()?, pair.ends[1].node.parse()?];
    let packet = match tunnel {
        Tunnel::Ipip => raw::in_ipip(outer, &packet)?,
        Tunnel::Vxlan => raw::in_vxlan(outer, hand::VNI, [0x66, 0, 0, 0, 0, 2], &packet)?,
    };
    raw::send(&fabric.outside, &packet)
}
