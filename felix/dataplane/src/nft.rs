//! The node's own packet rules: table `inet tortie`, outgoing NAT and who may use the tunnels.
//!
//! The table is ours as a whole, found by its name; no other table is ever read or written.
//! It is read back before anything is written, so that a restart changes nothing that is right,
//! and again when an event says that somebody changed it. What was wrong is put right in one
//! transaction: single elements of sets and rules of single chains where that is enough.
//!
//! Other tables see the same packets. kube-proxy's rules (iptables in both variants, or nftables),
//! those of Docker and of firewalld work before and after ours: ours drop what nobody should send,
//! and translate what leaves a pool for no pool; all else passes them untouched.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use felix_calc::{Firewall, IPIP_DEVICE, VXLAN_DEVICE, VXLAN_V6_DEVICE};
use netlink::nft::{Change, Monitor, Nftables, Ruleset, Shown};
use netlink::{Error, Tunnel};

use crate::Failure;
use crate::host::Host;

mod filter;
mod model;
mod nat;
mod plan;
mod render;
mod sets;
#[cfg(test)]
mod tests;

/// Name of the table, in family `inet`.
pub(crate) const TABLE: &str = "tortie";
/// Between two readings of the table that events asked for, so that a fight with somebody costs
/// little.
const READING_PAUSE: Duration = Duration::from_millis(100);

/// What the rules depend on.
#[derive(Debug)]
struct Facts<'a> {
    firewall: &'a Firewall,
    workload_prefixes: &'a [String],
    lingering: Lingering,
    /// Flows may be under way that are translated.
    translated: bool,
}

/// Tunnels that are no longer wanted and still there: the other ends may use them for a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Lingering {
    ipip: bool,
    vxlan: Option<u16>,
}

impl Facts<'_> {
    fn ipip(&self) -> bool {
        self.firewall.ipip || self.lingering.ipip
    }

    fn vxlan_ports(&self) -> Vec<u16> {
        self.firewall
            .vxlan
            .or(self.lingering.vxlan)
            .into_iter()
            .collect()
    }

    fn table(&self) -> model::Table {
        let mut chains = vec![
            filter::prerouting(self),
            filter::pods(self),
            filter::vxlan_in(self),
            filter::output(self),
        ];
        // With it the kernel tracks every packet.
        if self.translated || nat::is_needed(self.firewall) {
            chains.push(nat::postrouting(self.firewall));
        }
        model::Table {
            sets: sets::sets(self.firewall),
            chains,
        }
    }
}

/// The owner of the table.
#[derive(Debug)]
pub(crate) struct PacketRules {
    workload_prefixes: Vec<String>,
    firewall: Option<Arc<Firewall>>,
    lingering: Lingering,
    /// Something was translated once, by an earlier run too: without the chain such flows would break.
    translated: bool,
    wanted: Option<Ruleset>,
    kernel: Option<Kernel>,
    shown: Known,
    failure: Option<Failure>,
    /// Not to be tried again before something changes.
    refused: bool,
    /// What is in the kernel was as wanted when last looked at or written.
    settled: bool,
    read_at: Option<Instant>,
    due: Option<Instant>,
    written: u64,
    repaired: u64,
}

#[derive(Debug)]
struct Kernel {
    nftables: Nftables,
    monitor: Monitor,
}

/// What is believed about the table.
#[derive(Debug)]
enum Known {
    /// It must be read.
    Nothing,
    /// It looks so, or it is not there.
    Table(Option<Shown>),
}

impl PacketRules {
    pub(crate) fn new(workload_prefixes: Vec<String>) -> PacketRules {
        PacketRules {
            workload_prefixes,
            firewall: None,
            lingering: Lingering::default(),
            translated: false,
            wanted: None,
            kernel: None,
            shown: Known::Nothing,
            failure: None,
            refused: false,
            settled: false,
            read_at: None,
            due: None,
            written: 0,
            repaired: 0,
        }
    }

    /// Says what the rules shall be made of.
    pub(crate) fn want(&mut self, firewall: Arc<Firewall>) {
        if let Some(before) = self.firewall.replace(firewall) {
            self.lingering.ipip |= before.ipip;
            self.lingering.vxlan = before.vxlan.or(self.lingering.vxlan);
        }
        self.wanted = None;
    }

    /// Notes devices that are not wanted and still take packets, those of an earlier run too.
    pub(crate) fn note_leaving<'a>(&mut self, host: &Host, names: impl Iterator<Item = &'a str>) {
        let before = self.lingering;
        for name in names {
            match host.by_name(name).and_then(|link| link.tunnel) {
                Some(Tunnel::Ipip(_)) => self.lingering.ipip = true,
                Some(Tunnel::Vxlan(vxlan)) => self.lingering.vxlan = Some(vxlan.port),
                // Where this process carried the packets, nobody takes them now.
                None => {}
            }
        }
        if before != self.lingering {
            self.wanted = None;
        }
    }

    /// Looks again at what is in the kernel.
    pub(crate) fn audit(&mut self) {
        self.shown = Known::Nothing;
    }

    /// Tries again what was refused.
    pub(crate) fn retry(&mut self) {
        self.refused = false;
    }

    /// What wakes up when somebody changes rules.
    pub(crate) fn events(&self) -> Option<BorrowedFd<'_>> {
        self.kernel.as_ref().map(|kernel| kernel.monitor.as_fd())
    }

    /// When there is something to do even if nothing happens.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Takes in what others did to the table.
    pub(crate) fn read_events(&mut self) {
        let Some(kernel) = &mut self.kernel else {
            return;
        };
        match kernel.monitor.was_changed() {
            Ok(false) => {}
            Ok(true) => self.shown = Known::Nothing,
            Err(error) => self.fail(&error),
        }
    }

    /// Makes the table as it should be, or notes why it cannot.
    pub(crate) fn apply(&mut self, host: &Host, now: Instant) {
        let Some(firewall) = self.firewall.clone() else {
            return;
        };
        self.due = None;
        let is_there = |device| host.by_name(device).is_some_and(|link| link.admin_up);
        let lingering = Lingering {
            ipip: self.lingering.ipip && is_there(IPIP_DEVICE),
            vxlan: (self.lingering.vxlan)
                .filter(|_| is_there(VXLAN_DEVICE) || is_there(VXLAN_V6_DEVICE)),
        };
        if self.wanted.is_none() || lingering != self.lingering {
            self.lingering = lingering;
            self.translated |= nat::is_needed(&firewall);
            let wanted = self.ruleset(&firewall);
            self.settled &= self.wanted.as_ref() == Some(&wanted);
            self.refused = false;
            self.wanted = Some(wanted);
        }
        let known = matches!(self.shown, Known::Table(_));
        if self.refused || (self.settled && known) {
            return;
        }
        let earliest = self.read_at.map_or(now, |last| last + READING_PAUSE);
        if !known && now < earliest {
            self.due = Some(earliest);
            return;
        }
        if let Err(error) = self.reconcile(&firewall, now) {
            self.fail(&error);
        }
    }

    fn ruleset(&self, firewall: &Firewall) -> Ruleset {
        let facts = Facts {
            firewall,
            workload_prefixes: &self.workload_prefixes,
            lingering: self.lingering,
            translated: self.translated,
        };
        facts.table().ruleset()
    }

    fn reconcile(&mut self, firewall: &Firewall, now: Instant) -> Result<(), Error> {
        // After a failure with new sockets.
        let mut kernel = self.kernel.take().map_or_else(Kernel::connect, Ok)?;
        if matches!(self.shown, Known::Nothing) {
            self.read_at = Some(now);
            self.shown = Known::Table(kernel.nftables.show(TABLE)?);
        }
        let Known::Table(shown) = &self.shown else {
            return Ok(());
        };
        let has_nat = |shown: &Shown| shown.has_chain(nat::CHAIN);
        if !self.translated && shown.as_ref().is_some_and(has_nat) {
            self.translated = true;
            self.wanted = Some(self.ruleset(firewall));
        }
        let Some(wanted) = &self.wanted else {
            return Ok(());
        };
        let changes = plan::plan(wanted, shown.as_ref());
        if !changes.is_empty() {
            kernel.nftables.commit(&changes)?;
            self.written += 1;
            self.repaired += u64::from(self.settled);
            self.shown = Known::Table(Some(Shown::after(wanted)));
        }
        self.kernel = Some(kernel);
        self.settled = true;
        self.failure = None;
        Ok(())
    }

    /// Starts over with new sockets at the next try.
    fn fail(&mut self, error: &Error) {
        self.kernel = None;
        self.shown = Known::Nothing;
        self.refused = true;
        self.failure = Some(Failure {
            object: format!("nftables table inet {TABLE}"),
            problem: problem(error),
        });
    }

    /// What does not work.
    pub(crate) fn failures(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Transactions so far, and those of them that repaired what others had changed.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.written, self.repaired)
    }
}

impl Kernel {
    fn connect() -> Result<Kernel, Error> {
        let nftables = Nftables::open()?;
        let monitor = Monitor::open(TABLE, &nftables)?;
        Ok(Kernel { nftables, monitor })
    }
}

/// Whether our table is in the kernel; a kernel without nftables has none.
pub(crate) fn is_left() -> Result<bool, Error> {
    let shown = Nftables::open().and_then(|mut nftables| nftables.show(TABLE));
    match shown {
        Ok(shown) => Ok(shown.is_some()),
        Err(error) if missing_in_kernel(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes our table with all that is in it.
pub(crate) fn remove() -> Result<(), Error> {
    Nftables::open()?.commit(&[Change::Remove(TABLE)])
}

/// What is wrong, what follows, and what helps.
fn problem(error: &Error) -> String {
    let without = "pods get no outgoing NAT, and spoofed and tunnel packets are not filtered";
    match missing_in_kernel(error) {
        true => format!(
            "the kernel has no nftables, or not all that is needed of it ({error}); {without}; \
             load the modules nf_tables, nft_fib_inet, nft_masq and nft_ct"
        ),
        false => format!("{error}; as long as it is not as it should be, {without}"),
    }
}

/// Whether the kernel does not know what was asked for: sockets of netfilter, nftables in them, or
/// an expression.
fn missing_in_kernel(error: &Error) -> bool {
    const UNKNOWN: [i32; 4] = [
        nix::errno::Errno::EOPNOTSUPP as i32,
        nix::errno::Errno::EPROTONOSUPPORT as i32,
        nix::errno::Errno::EAFNOSUPPORT as i32,
        nix::errno::Errno::EINVAL as i32,
    ];
    match error {
        Error::System { source, .. } => source
            .raw_os_error()
            .is_some_and(|errno| UNKNOWN.contains(&errno)),
        Error::NotFound(refusal) => refusal.operation.starts_with("add a rule"),
        _ => error
            .refusal()
            .is_some_and(|refusal| UNKNOWN.contains(&refusal.errno)),
    }
}
