//! The tunnels of this node as they shall be and as they are, for status, pages and metrics.

use std::net::IpAddr;

use felix_calc::{IPIP_DEVICE, VXLAN_DEVICE, VXLAN_V6_DEVICE};
use felix_dataplane::{Carrier, TunnelCounters};

use crate::board::Board;

/// A tunnel that shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tunnel {
    /// Name of the device.
    pub(crate) device: &'static str,
    /// It is an IPIP device; else VXLAN.
    pub(crate) is_ipip: bool,
    /// Who moves its packets; nothing while it is not in place.
    pub(crate) carrier: Option<Carrier>,
    /// Address of the device, when it has it.
    pub(crate) address: Option<IpAddr>,
    /// In bytes, as it is, or as it shall be while the device is not in place.
    pub(crate) mtu: u32,
    /// Other ends that are known; IPIP knows none, the routes do.
    pub(crate) remotes: Option<usize>,
    /// What was carried and dropped in user space.
    pub(crate) counters: Option<TunnelCounters>,
    /// What is not as it should be.
    pub(crate) problems: Vec<String>,
}

/// A carrier in a word.
pub(crate) fn carrier_name(carrier: Carrier) -> &'static str {
    match carrier {
        Carrier::Kernel => "kernel",
        Carrier::User => "user-space",
    }
}

/// All tunnels that shall be.
pub(crate) fn all(board: &Board) -> Vec<Tunnel> {
    let overlay = board.calc.borrow().overlay.clone().unwrap_or_default();
    let vxlan = [
        (VXLAN_DEVICE, &overlay.vxlan),
        (VXLAN_V6_DEVICE, &overlay.vxlan_v6),
    ];
    let vxlan = vxlan.into_iter().filter_map(|(name, device)| {
        let device = device.as_ref()?;
        Some((name, device.mtu, Some(device.remotes.len())))
    });
    let ipip = overlay.ipip.as_ref();
    let ipip = ipip.map(|device| (IPIP_DEVICE, device.mtu, None));
    let reports = board.dataplane.borrow().tunnels.clone();
    let wanted = ipip.into_iter().chain(vxlan);
    let tunnels = wanted.map(|(device, mtu, remotes)| {
        let report = reports.get(device);
        let in_place = report.and_then(|report| report.in_place);
        let problems = report.map_or(&[][..], |report| &report.problems);
        Tunnel {
            device,
            is_ipip: device == IPIP_DEVICE,
            carrier: in_place.map(|device| device.carrier),
            address: in_place.and_then(|device| device.address),
            mtu: in_place.map_or(mtu, |device| device.mtu),
            remotes,
            counters: report.and_then(|report| Some(report.meter.as_ref()?.counters())),
            problems: problems.iter().map(ToString::to_string).collect(),
        }
    });
    tunnels.collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use felix_calc::{IpipDevice, Overlay};
    use felix_dataplane::{TunnelInPlace, TunnelMeter, TunnelReport};

    use super::*;

    #[test]
    fn a_tunnel_is_shown_before_and_after_its_device_is_there() {
        let board = Board::default();
        assert!(all(&board).is_empty());
        let device = IpipDevice {
            address: Some("10.0.1.1".parse().unwrap()),
            local: "192.0.2.1".parse().unwrap(),
            mtu: 1480,
        };
        let overlay = Overlay {
            ipip: Some(device),
            ..Overlay::default()
        };
        board
            .calc
            .send_modify(|view| view.overlay = Some(Arc::new(overlay)));
        let before = &all(&board)[0];
        assert_eq!(
            (before.carrier, before.address, before.mtu),
            (None, None, 1480)
        );
        let in_place = TunnelInPlace {
            carrier: Carrier::User,
            address: Some("10.0.1.1".parse().unwrap()),
            mtu: 1400,
            mac: None,
        };
        let report = TunnelReport {
            in_place: Some(in_place),
            problems: Vec::new(),
            meter: Some(TunnelMeter::default()),
        };
        let reports = BTreeMap::from([(Arc::from(IPIP_DEVICE), report)]);
        board
            .dataplane
            .send_modify(|view| view.tunnels = Arc::new(reports));
        let after = &all(&board)[0];
        assert_eq!((after.carrier, after.mtu), (Some(Carrier::User), 1400));
        assert_eq!(after.address, in_place.address);
        assert_eq!(
            (before.counters, after.counters),
            (None, Some(TunnelCounters::default()))
        );
    }
}
