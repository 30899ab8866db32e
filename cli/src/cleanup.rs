//! `tortie cleanup`: removes what Tortie left on this node, when it leaves for good.
//!
//! What is ours in the kernel is for `felix-dataplane` to know, what the installer of the plugin
//! wrote for `felix-api`; here is what an operator is told and asked. Nothing of others is touched,
//! objects in the cluster neither. While pods are there, their interfaces, their routes and what
//! the runtime needs to take them down stay.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use felix_api::cni::install::{DEFAULT_BIN_DIR, DEFAULT_CONF_DIR};
use felix_api::cni::{DEFAULT_SOCKET, DEFAULT_STATE_DIR, parse_alias};
use felix_dataplane::Config;
use felix_dataplane::cleanup::{Cleanup, Leftover};
use serde::Serialize;

use crate::client::AGENT;
use crate::failure::Failure;
use crate::output::{Output, Printed, for_programs};
use crate::table::Table;

mod disk;
mod running;

use disk::{Disk, Place};

/// What is not a node's to remove.
const IN_THE_CLUSTER: &str = "\
Objects in a cluster are not touched. When all nodes are clean, and no pool is needed:
  kubectl get ippools -o name | xargs -I{} kubectl patch {} --type=merge -p '{\"metadata\":{\"finalizers\":null}}'
  kubectl get crd -o name | grep -E 'crd.projectcalico.org|tortie.dev' | xargs kubectl delete
";

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Say what would be removed, and remove nothing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Also remove the interfaces of pods: those that still run lose their network.
    #[arg(long)]
    pods: bool,
    /// How the answer looks.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Output,
    /// Where the file system of the node is: elsewhere than / in a pod that has it mounted.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Folder of CNI plugins on the node.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_BIN_DIR)]
    bin_dir: PathBuf,
    /// Folder of network configurations on the node.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_CONF_DIR)]
    conf_dir: PathBuf,
    /// Folder of what outlived the agent on the node.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_STATE_DIR)]
    state_dir: PathBuf,
    /// Folder of the agent's sockets on the node [default: /run/tortie]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// What the names of pod interfaces start with.
    #[arg(long, value_name = "PREFIX", default_value = "cali")]
    interface_prefix: String,
    /// Address where an agent would answer.
    #[arg(long, value_name = "HOST:PORT", default_value = AGENT)]
    address: String,
}

impl Arguments {
    fn on_node(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    fn run_dir(&self) -> PathBuf {
        let default = Path::new(DEFAULT_SOCKET).parent();
        let chosen = self.run_dir.as_deref().or(default);
        self.on_node(chosen.unwrap_or(Path::new("/run")))
    }

    fn disk(&self) -> Disk {
        Disk {
            bin_dir: self.on_node(&self.bin_dir),
            conf_dir: self.on_node(&self.conf_dir),
            state_dir: self.on_node(&self.state_dir),
            run_dir: self.run_dir(),
        }
    }
}

/// Something of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Kernel(Leftover),
    Disk(Place),
}

/// Something of ours, and why it stays if it does.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    what: What,
    stays: Option<&'static str>,
}

/// What became of one.
#[derive(Debug, Serialize)]
struct Line {
    kind: &'static str,
    object: String,
    result: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Removed,
    WouldBeRemoved,
    Stays,
    Failed,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Removed => "removed",
            Outcome::WouldBeRemoved => "would be removed",
            Outcome::Stays => "stays",
            Outcome::Failed => "FAILED",
        })
    }
}

/// Looks, asks, removes, looks again, and says what came of it.
pub(crate) fn run(arguments: &Arguments) -> Result<Printed, Failure> {
    let running = running::place(&arguments.run_dir(), &arguments.address);
    if let Some(place) = running.as_ref().filter(|_| !arguments.dry_run) {
        return Err(Failure::Refused(still_running(place)));
    }
    let mut cleaner = Cleaner::open(arguments)?;
    let items = cleaner.find()?;
    if arguments.dry_run || items.iter().all(|item| item.stays.is_some()) {
        let note = running.map(|place| still_running(&place));
        let text = said(arguments.output, &listed(&items))?;
        return Ok(Printed { text, note });
    }
    if !arguments.yes {
        ask(&listed(&items))?;
    }
    let mut lines: Vec<Line> = items.into_iter().map(|item| cleaner.settle(item)).collect();
    // What came back, or was behind what went, counts as well.
    let known: Vec<String> = lines.iter().map(|line| line.object.clone()).collect();
    let left = cleaner.find()?.into_iter();
    for item in left.filter(|item| item.stays.is_none()) {
        let Line { kind, object, .. } = listed(std::slice::from_ref(&item)).remove(0);
        match known.iter().position(|one| *one == object) {
            Some(at) if lines[at].result == Outcome::Failed => {}
            Some(at) => (lines[at].result, lines[at].why) = back(),
            None => {
                let (result, why) = back();
                lines.push(Line {
                    kind,
                    object,
                    result,
                    why,
                });
            }
        }
    }
    let text = said(arguments.output, &lines)?;
    let failed: Vec<&str> = (lines.iter())
        .filter(|line| line.result == Outcome::Failed)
        .map(|line| line.object.as_str())
        .collect();
    if failed.is_empty() {
        return Ok(Printed { text, note: None });
    }
    let problem = format!("what remains: {}", failed.join(", "));
    Err(Failure::Incomplete { text, problem })
}

fn back() -> (Outcome, Option<String>) {
    let why = "it is there again: somebody puts it back".to_owned();
    (Outcome::Failed, Some(why))
}

fn still_running(place: &str) -> String {
    format!(
        "a program answers at {place}: while an agent or a speaker runs it would put back what is removed. \
         End it first, on Kubernetes with `helm uninstall`, elsewhere by ending tortie-felix and tortie-bgp"
    )
}

fn ask(lines: &[Line]) -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Refused(
            "nothing was removed: say --yes to do it, --dry-run to see it".to_owned(),
        ));
    }
    let question = format!("{}\nRemove this? [y/N] ", table(lines));
    let broken = |error: io::Error| Failure::Output(error.to_string());
    io::stderr()
        .write_all(question.as_bytes())
        .map_err(broken)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(broken)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::Refused("nothing was removed".to_owned())),
    }
}

struct Cleaner<'a> {
    arguments: &'a Arguments,
    kernel: Cleanup,
    disk: Disk,
}

impl Cleaner<'_> {
    fn open(arguments: &Arguments) -> Result<Cleaner<'_>, Failure> {
        let config = Config {
            workload_prefixes: vec![arguments.interface_prefix.clone()],
            ..Config::default()
        };
        let kernel = Cleanup::open(config).map_err(|error| Failure::Refused(error.to_string()))?;
        let disk = arguments.disk();
        disk.check().map_err(Failure::Refused)?;
        Ok(Cleaner {
            arguments,
            kernel,
            disk,
        })
    }

    /// In the order of removal: what brings new pods, then the kernel, then the rest of the disk.
    fn find(&mut self) -> Result<Vec<Item>, Failure> {
        let leftovers = self.kernel.find(|alias| parse_alias(alias).is_some());
        let leftovers = leftovers.map_err(|error| Failure::Refused(error.to_string()))?;
        let has_pods = leftovers.iter().any(Leftover::is_pod_interface) && !self.arguments.pods;
        let stays =
            |is_of_pods: bool| (is_of_pods && has_pods).then_some("pods are attached by it");
        let mut items: Vec<Item> = (leftovers.into_iter())
            .map(|leftover| Item {
                stays: stays(leftover.is_of_pods()),
                what: What::Kernel(leftover),
            })
            .collect();
        let (first, last) = self.disk.find(has_pods).map_err(Failure::Refused)?;
        let of_disk = |(place, stays): (Place, Option<&'static str>)| Item {
            what: What::Disk(place),
            stays,
        };
        items.splice(0..0, first.into_iter().map(of_disk));
        items.extend(last.into_iter().map(of_disk));
        Ok(items)
    }

    fn settle(&mut self, item: Item) -> Line {
        let mut line = listed(std::slice::from_ref(&item)).remove(0);
        if item.stays.is_some() {
            return line;
        }
        let done = match &item.what {
            What::Kernel(leftover) => {
                let done = self.kernel.remove(leftover);
                done.map_err(|failure| failure.problem)
            }
            What::Disk(place) => place.remove(),
        };
        line.result = match &done {
            Ok(()) => Outcome::Removed,
            Err(_) => Outcome::Failed,
        };
        line.why = done.err();
        line
    }
}

fn listed(items: &[Item]) -> Vec<Line> {
    let line = |item: &Item| {
        let (kind, object) = match &item.what {
            What::Kernel(leftover) => (leftover.kind(), leftover.to_string()),
            What::Disk(place) => (place.kind(), place.path().display().to_string()),
        };
        Line {
            kind,
            object,
            result: match item.stays {
                Some(_) => Outcome::Stays,
                None => Outcome::WouldBeRemoved,
            },
            why: item.stays.map(str::to_owned),
        }
    };
    items.iter().map(line).collect()
}

fn said(output: Output, lines: &[Line]) -> Result<String, Failure> {
    let json = serde_json::to_string(lines).map_err(|error| Failure::Output(error.to_string()))?;
    if let Some(text) = for_programs(output, &json)? {
        return Ok(text);
    }
    let mut text = match lines.iter().all(|line| line.result == Outcome::Stays) {
        true => "nothing to do\n".to_owned(),
        false => String::new(),
    };
    if !lines.is_empty() {
        text += &table(lines);
    }
    if lines.iter().any(|line| line.result == Outcome::Stays) {
        text += "\nWhat pods need stays until they are gone: run this again then, or with --pods to cut them off.\n";
    }
    text += "\n";
    text += IN_THE_CLUSTER;
    Ok(text)
}

fn table(lines: &[Line]) -> String {
    let mut table = Table::new(&["KIND", "OBJECT", "RESULT", "WHY"]);
    for line in lines {
        table.row(vec![
            line.kind.to_owned(),
            line.object.clone(),
            line.result.to_string(),
            line.why.clone().unwrap_or_default(),
        ]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(object: &str, result: Outcome) -> Line {
        Line {
            kind: "route",
            object: object.to_owned(),
            result,
            why: None,
        }
    }

    #[test]
    fn a_clean_node_has_nothing_to_do_and_is_told_of_the_cluster() {
        let text = said(Output::Table, &[]).unwrap();
        assert!(text.starts_with("nothing to do\n"), "{text}");
        assert!(text.contains("kubectl get crd"), "{text}");
        assert_eq!(said(Output::Json, &[]).unwrap(), "[]\n");
    }

    #[test]
    fn what_stays_for_pods_is_said() {
        let lines = [line("10.0.1.5/32 dev cali1", Outcome::Stays)];
        let text = said(Output::Table, &lines).unwrap();
        assert!(text.starts_with("nothing to do\n"), "{text}");
        assert!(text.contains("cali1  stays"), "{text}");
        assert!(text.contains("--pods"), "{text}");
        let json = said(Output::Json, &[line("x", Outcome::WouldBeRemoved)]).unwrap();
        assert!(json.contains("\"would-be-removed\""), "{json}");
    }

    #[test]
    fn a_pod_with_the_file_system_of_the_node_finds_it_below_its_root() {
        let arguments = Arguments {
            dry_run: true,
            yes: false,
            pods: false,
            output: Output::Table,
            root: "/host".into(),
            bin_dir: DEFAULT_BIN_DIR.into(),
            conf_dir: DEFAULT_CONF_DIR.into(),
            state_dir: DEFAULT_STATE_DIR.into(),
            run_dir: None,
            interface_prefix: "cali".to_owned(),
            address: AGENT.to_owned(),
        };
        let disk = arguments.disk();
        assert_eq!(disk.bin_dir, Path::new("/host/opt/cni/bin"));
        assert_eq!(disk.run_dir, Path::new("/host/run/tortie"));
    }
}
