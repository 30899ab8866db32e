//! Where everything runs: namespaces that vanish with the run, and one link in them.
//!
//! ```text
//!   this namespace: clients 172.31.0.1 … 172.31.3.250    namespace `dut`: the speaker
//!            tester ────────────────── veth ────────────────── eth0 172.31.255.254
//! ```
//!
//! The program starts itself again as the first process of a process namespace, with mount and
//! network namespaces of its own. When it ends, however it ends, the kernel ends every process
//! in there and takes the namespaces away; files are on tmpfs that goes with them.

use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;

use crate::table::{self, SPEAKER as BY_SPEAKER, Way};

/// Where the speaker under test listens.
pub const SPEAKER: Ipv4Addr = Ipv4Addr::new(172, 31, 255, 254);
/// Port of BGP.
pub const PORT: u16 = 179;
/// Namespace of the speaker.
pub const NAMESPACE: &str = "dut";

const NET: u32 = 0xac1f_0000;
const PER_ROW: usize = 250;
const INSIDE: &str = "TORTIE_BENCH_INSIDE";
const FILES: &str = "/run/bgp-bench";
const OPEN_FILES: u64 = 16384;

/// Address of a client, counted from zero.
pub fn client(index: usize) -> Ipv4Addr {
    // There are a thousand clients at most.
    let offset = u32::try_from(index / PER_ROW * 256 + index % PER_ROW + 1).unwrap_or(0);
    Ipv4Addr::from(NET + offset)
}

/// Whose address this is; `None` for a stranger.
#[inline]
pub fn way(address: u32) -> Option<Way> {
    if address == SPEAKER.to_bits() {
        return Some(BY_SPEAKER);
    }
    let offset = address.checked_sub(NET).filter(|offset| *offset < 0xff00)? as usize;
    let column = (offset % 256)
        .checked_sub(1)
        .filter(|column| *column < PER_ROW)?;
    Some(table::way(offset / 256 * PER_ROW + column))
}

/// Calls `work` in namespaces of its own, or starts the process that will.
///
/// # Errors
/// No privilege to make namespaces, and what `work` answers.
pub fn enclosed(work: impl FnOnce() -> Result<ExitCode>) -> Result<ExitCode> {
    if std::env::var_os(INSIDE).is_some() {
        settle()?;
        return work();
    }
    let kinds = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
    unshare(kinds).context("cannot make namespaces; the bench needs root")?;
    let status = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "yes")
        .status()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

fn settle() -> Result<()> {
    // With this process, the first of its namespace, the kernel ends all others.
    set_pdeathsig(Signal::SIGKILL)?;
    let nothing: Option<&str> = None;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nothing, "/", nothing, private, nothing).context("make mounts private")?;
    mount(
        Some("proc"),
        "/proc",
        Some("proc"),
        MsFlags::empty(),
        nothing,
    )
    .context("mount /proc")?;
    // FRR leaves files in /var/tmp.
    for folder in ["/run", "/var/tmp"] {
        let flags = MsFlags::empty();
        mount(Some("tmpfs"), folder, Some("tmpfs"), flags, nothing)
            .with_context(|| format!("mount {folder}"))?;
    }
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES.min(most), most)?;
    Ok(())
}

/// The link between the clients and the speaker.
#[derive(Debug)]
pub struct Link {
    folder: PathBuf,
}

impl Link {
    /// Makes the namespace of the speaker and the link, with the addresses of so many clients.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn new(clients: usize) -> Result<Self> {
        std::fs::create_dir_all(FILES)?;
        let mac = "02:00:00:00:00:01";
        run(Command::new("ip").args(["netns", "add", NAMESPACE]))?;
        let link = Self {
            folder: PathBuf::from(FILES),
        };
        let mut here = format!(
            "link add tester address {mac} type veth peer name eth0 netns {NAMESPACE}\n\
             link set tester up\n"
        );
        // The speaker knows its neighbours: a thousand of them would overflow the kernel's table.
        let mut there =
            format!("link set lo up\naddress add {SPEAKER}/16 dev eth0\nlink set eth0 up\n");
        for index in 0..clients {
            let address = client(index);
            // Writing to a string cannot fail.
            let _ = writeln!(here, "address add {address}/16 dev tester");
            let _ = writeln!(
                there,
                "neighbour add {address} lladdr {mac} dev eth0 nud permanent"
            );
        }
        link.batch(&[], &here)?;
        link.batch(&["-n", NAMESPACE], &there)?;
        Ok(link)
    }

    /// A file of this link, with this text.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Where a file of this name is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn batch(&self, arguments: &[&str], lines: &str) -> Result<()> {
        let file = self.file("ip.batch", lines)?;
        run(Command::new("ip").args(arguments).arg("-batch").arg(file))?;
        Ok(())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for command in [["netns", "delete", NAMESPACE], ["link", "delete", "tester"]] {
            // The second goes with the first; the kernel takes its time.
            let _ = Command::new("ip")
                .args(command)
                .stderr(Stdio::null())
                .status();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A command that will run where the speaker is.
pub fn command(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("ip");
    command
        .args(["netns", "exec", NAMESPACE])
        .arg(program.as_ref());
    command
}

/// Runs a command and returns what it prints.
///
/// # Errors
/// It cannot be started or fails; the error says what it printed.
pub fn run(command: &mut Command) -> Result<String> {
    let line = format!("{command:?}").replace('"', "");
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {line}"))?;
    ensure!(
        output.status.success(),
        "{line}: {}{}",
        String::from_utf8_lossy(&output.stderr).trim(),
        String::from_utf8_lossy(&output.stdout).trim()
    );
    match String::from_utf8(output.stdout) {
        Ok(text) => Ok(text),
        Err(_) => bail!("{line}: printed no text"),
    }
}

#[cfg(test)]
mod tests;
