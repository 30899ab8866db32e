//! Serves a tunnel in user space until it is killed, for tests and measurements.
//!
//! ```text
//! user_tunnel DEVICE ipip LOCAL [HOST|MAC=HOST]...
//! user_tunnel DEVICE vxlan:VNI:PORT:MAC LOCAL [HOST|MAC=HOST]...
//! ```
//!
//! The variable `QUEUES` says how many queues the device has (1), `MTU` its MTU (1450).

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ipip::user::{Config, Peers, Reason, Tunnel, Wire, ipip_mac};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [device, wire, local, peers @ ..] = &arguments[..] else {
        bail!("usage: user_tunnel DEVICE ipip|vxlan:VNI:PORT:MAC LOCAL [HOST|MAC=HOST]...");
    };
    let local: IpAddr = local.parse().context("LOCAL is an address")?;
    let (wire, mac) = wire_and_mac(wire, local)?;
    let tunnel = Tunnel::start(Config {
        device: device.clone(),
        mac,
        mtu: variable("MTU", 1450)?,
        wire,
        local,
        queues: variable("QUEUES", 1)?,
    })?;
    tunnel.update(read_peers(peers)?);
    eprintln!("serving {device}");
    let mut last = tunnel.counters();
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let counters = tunnel.counters();
        if counters == last {
            continue;
        }
        last = counters;
        let drops = Reason::ALL.map(|reason| (reason.name(), counters.dropped(reason)));
        let drops: Vec<_> = drops.iter().filter(|(_, count)| *count > 0).collect();
        eprintln!(
            "sent {} received {} drops {drops:?} {:?}",
            counters.sent_packets,
            counters.received_packets,
            tunnel.health()
        );
    }
}

fn wire_and_mac(text: &str, local: IpAddr) -> Result<(Wire, [u8; 6])> {
    let parts: Vec<&str> = text.splitn(4, ':').collect();
    match (&parts[..], local) {
        (["ipip"], IpAddr::V4(local)) => Ok((Wire::Ipip, ipip_mac(local))),
        (["vxlan", vni, port, mac], _) => Ok((
            Wire::Vxlan {
                vni: vni.parse()?,
                port: port.parse()?,
            },
            read_mac(mac)?,
        )),
        _ => bail!("{text} from {local} is no tunnel"),
    }
}

fn read_peers(peers: &[String]) -> Result<Peers> {
    let mut hosts = Vec::new();
    let mut vteps = Vec::new();
    for peer in peers {
        let (mac, host) = peer.split_once('=').unwrap_or(("", peer));
        let host: IpAddr = host.parse().with_context(|| format!("peer {peer}"))?;
        hosts.push((host, 128));
        if !mac.is_empty() {
            vteps.push((read_mac(mac)?, host));
        }
    }
    Ok(Peers::new(hosts, vteps))
}

fn read_mac(text: &str) -> Result<[u8; 6]> {
    let octets = text.split(':').map(|octet| u8::from_str_radix(octet, 16));
    let octets: Vec<u8> = octets
        .collect::<Result<_, _>>()
        .with_context(|| format!("MAC {text}"))?;
    <[u8; 6]>::try_from(octets)
        .ok()
        .context("a MAC address has six octets")
}

fn variable<T: std::str::FromStr>(name: &str, default: T) -> Result<T> {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .ok()
            .with_context(|| format!("{name}={text} is no number")),
        Err(_) => Ok(default),
    }
}
