//! The agent, played by a thread: allocates, records, programs the host, and misbehaves on order.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use felix_api::cni::{
    self as api, Activate, Add, Added, Attachment, Checked, Op, Reply, code, tombstone,
};

/// Requests by name, as tests order misbehaviour for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Add,
    Activate,
    Del,
    Check,
    Gc,
    Status,
}

/// What to do instead of answering properly.
pub(crate) enum Fault {
    /// Answer with this error and change nothing.
    Refuse(u32, &'static str),
    /// Send this line instead of the answer.
    Say(&'static str),
    /// Close the connection without an answer, after doing what was asked.
    HangUp,
    /// Wait before doing what was asked.
    HoldBefore(Gate),
    /// Wait after doing what was asked, before answering.
    HoldAfter(Gate),
}

/// The agent's end of a meeting between test and agent.
pub(crate) struct Gate {
    reached: Sender<()>,
    released: Receiver<()>,
}

/// The test's end.
pub(crate) struct Hold {
    reached: Receiver<()>,
    release: Sender<()>,
}

impl Hold {
    /// Waits until the agent holds.
    pub(crate) fn wait(&self) {
        self.reached
            .recv_timeout(Duration::from_secs(20))
            .expect("the request did not come");
    }

    /// Lets the agent go on and waits until it has served the request.
    pub(crate) fn release(self) {
        drop(self.release);
        // The other end goes away with the request.
        while self.reached.recv().is_ok() {}
    }
}

pub(crate) fn gate() -> (Gate, Hold) {
    let (reached, on_reached) = channel();
    let (release, released) = channel();
    (
        Gate { reached, released },
        Hold {
            reached: on_reached,
            release,
        },
    )
}

impl Gate {
    fn wait(&self) {
        // The test may have gone on without either end.
        let _ = self.reached.send(());
        let _ = self.released.recv_timeout(Duration::from_secs(20));
    }
}

/// What the agent remembers; outlives the thread as the real agent's disk outlives the agent.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) records: BTreeMap<Attachment, (Add, Added)>,
    /// Requests served, in order.
    pub(crate) served: Vec<Verb>,
    /// Answered to CHECK.
    pub(crate) problems: Vec<String>,
    pub(crate) fault: Option<(Verb, Fault)>,
    /// MAC address the next pods get.
    pub(crate) pod_mac: Option<String>,
    /// Deletions are answered, and stay written down until the datastore is back.
    pub(crate) postpones: bool,
    /// Where the plugin writes deletions down.
    pub(crate) state_dir: PathBuf,
    host: String,
}

pub(crate) struct Agent {
    path: PathBuf,
    pub(crate) memory: Arc<Mutex<Memory>>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    /// Listens on `path` and programs the namespace at `host`.
    pub(crate) fn start(path: &Path, host: String, memory: Arc<Mutex<Memory>>) -> Agent {
        memory.lock().unwrap().host = host;
        // A socket file left by an earlier agent.
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).unwrap();
        let shared = Arc::clone(&memory);
        let thread = std::thread::spawn(move || {
            let mut connections = Vec::new();
            for stream in listener.incoming() {
                let memory = Arc::clone(&shared);
                let mut line = String::new();
                let stream = stream.unwrap();
                // A connection without a request is the order to stop, or a killed plugin.
                if BufReader::new(&stream).read_line(&mut line).is_err() || line.is_empty() {
                    continue;
                }
                if line == "stop\n" {
                    break;
                }
                connections.push(std::thread::spawn(move || serve(&memory, &stream, &line)));
            }
            for connection in connections {
                connection.join().unwrap();
            }
        });
        Agent {
            path: path.to_owned(),
            memory,
            thread: Some(thread),
        }
    }

    pub(crate) fn order(&self, verb: Verb, fault: Fault) {
        self.memory.lock().unwrap().fault = Some((verb, fault));
    }

    pub(crate) fn records(&self) -> Vec<Attachment> {
        self.memory
            .lock()
            .unwrap()
            .records
            .keys()
            .cloned()
            .collect()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        UnixStream::connect(&self.path)
            .unwrap()
            .write_all(b"stop\n")
            .unwrap();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn serve(memory: &Mutex<Memory>, mut stream: &UnixStream, line: &str) {
    let request: api::Request = serde_json::from_str(line).unwrap();
    assert_eq!(request.version, felix_api::VERSION);
    let verb = verb(&request.op);
    let fault = {
        let mut memory = memory.lock().unwrap();
        memory.served.push(verb);
        memory
            .fault
            .take_if(|(ordered, _)| *ordered == verb)
            .map(|(_, fault)| fault)
    };
    let reply = match &fault {
        Some(Fault::Refuse(code, message)) => error(*code, message),
        Some(Fault::HoldBefore(gate)) => {
            gate.wait();
            perform(&mut memory.lock().unwrap(), request.op)
        }
        _ => perform(&mut memory.lock().unwrap(), request.op),
    };
    let line = match &fault {
        Some(Fault::Say(line)) => line.as_bytes().to_vec(),
        Some(Fault::HangUp) => Vec::new(),
        _ => api::to_line(&reply).unwrap(),
    };
    if let Some(Fault::HoldAfter(gate)) = &fault {
        gate.wait();
    }
    // The plugin may have been killed meanwhile.
    let _ = stream.write_all(&line);
}

fn verb(op: &Op) -> Verb {
    match op {
        Op::Add(_) => Verb::Add,
        Op::Activate(_) => Verb::Activate,
        Op::Del(_) => Verb::Del,
        Op::Check(_) => Verb::Check,
        Op::Gc(_) => Verb::Gc,
        Op::Status => Verb::Status,
    }
}

fn attachment(container_id: &str, ifname: &str) -> Attachment {
    Attachment {
        container_id: container_id.to_owned(),
        ifname: ifname.to_owned(),
    }
}

fn error(code: u32, message: &str) -> Reply {
    let details = "ordered by the test".to_owned();
    Reply::Error(api::Error {
        code,
        message: message.to_owned(),
        details,
    })
}

fn perform(memory: &mut Memory, op: Op) -> Reply {
    match op {
        Op::Add(add) => {
            let key = attachment(&add.container_id, &add.ifname);
            let record = match memory.records.get(&key) {
                Some((_, record)) => record.clone(),
                None => allocate(memory, &add),
            };
            memory.records.insert(key, (add, record.clone()));
            Reply::Added(record)
        }
        Op::Activate(activate) => {
            match memory
                .records
                .get(&attachment(&activate.container_id, &activate.ifname))
            {
                Some((_, record)) => {
                    program(&memory.host, record, &activate);
                    Reply::Done
                }
                None => error(code::UNKNOWN_CONTAINER, "activated without an ADD"),
            }
        }
        Op::Del(del) => {
            memory
                .records
                .remove(&attachment(&del.container_id, &del.ifname));
            if !memory.postpones {
                let path = tombstone::path(&memory.state_dir, &del.container_id, &del.ifname);
                let _not_there = std::fs::remove_file(path);
            }
            Reply::Done
        }
        Op::Check(check) => {
            match memory
                .records
                .get(&attachment(&check.container_id, &check.ifname))
            {
                Some((_, record)) => Reply::Checked(Checked {
                    record: record.clone(),
                    problems: memory.problems.clone(),
                }),
                None => error(code::UNKNOWN_CONTAINER, "no such attachment"),
            }
        }
        Op::Gc(gc) => {
            memory
                .records
                .retain(|key, (add, _)| add.network != gc.network || gc.valid.contains(key));
            let remaining = memory.records.keys().cloned().collect();
            Reply::Collected(api::Collected { remaining })
        }
        Op::Status => Reply::Done,
    }
}

/// The lowest free host number, so that a released address is soon used again.
fn allocate(memory: &Memory, add: &Add) -> Added {
    let taken = |text: &str| {
        let address = text.parse().unwrap();
        memory
            .records
            .values()
            .any(|(_, record)| record.addresses.contains(&address))
    };
    let free = |prefix: &str, suffix: &str| {
        (1..250)
            .map(|n| format!("{prefix}{n}{suffix}"))
            .find(|text| !taken(text))
            .unwrap()
    };
    let mut addresses = Vec::new();
    if add.ipv4 {
        addresses.push(free("10.65.0.", "/32"));
    }
    if add.ipv6 {
        addresses.push(free("fd00:65::", "/128"));
    }
    for (slot, wanted) in addresses.iter_mut().zip(&add.addresses) {
        *slot = format!("{wanted}/{}", if wanted.is_ipv4() { 32 } else { 128 });
    }
    Added {
        host_interface: host_interface(add),
        host_mac: "ee:ee:ee:ee:ee:ee".to_owned(),
        pod_mac: memory.pod_mac.clone(),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        mtu: if add.mtu == 0 { 1480 } else { add.mtu },
        alias: api::alias(&add.container_id, &add.ifname),
    }
}

/// A name that is a function of the pod, not of its container, as the real one is.
fn host_interface(add: &Add) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    match &add.pod {
        Some(pod) => (&add.namespace, pod).hash(&mut hasher),
        None => add.container_id.hash(&mut hasher),
    }
    format!("cali{:011x}", hasher.finish() >> 20)
}

fn program(host: &str, record: &Added, activate: &Activate) {
    assert_eq!(record.host_interface, activate.host_interface);
    let interface = &record.host_interface;
    let mut script = format!(
        "cd /proc/sys/net; echo 1 > ipv4/conf/{interface}/forwarding; \
         echo 1 > ipv4/conf/{interface}/proxy_arp; echo 0 > ipv4/neigh/{interface}/proxy_delay; \
         echo 1 > ipv6/conf/all/forwarding; "
    );
    for address in &record.addresses {
        script.push_str(&format!("ip route replace {address} dev {interface}; "));
    }
    let host = format!("--net={host}");
    let status = Command::new("nsenter")
        .args([&host, "sh", "-ec", &script])
        .status()
        .unwrap();
    assert!(status.success(), "programming {interface} failed");
}
