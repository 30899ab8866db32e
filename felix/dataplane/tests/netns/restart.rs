//! A new dataplane over the state of an earlier one.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use crate::lab::{DEADLINE, Node, ip, on_node, own_routes, quick, workload};

fn configured(node: &mut Node) -> &mut Node {
    node.pod("cali1", &["10.0.1.5", "2001:db8:1::5"]);
    node.block("10.0.1.0/26").block("2001:db8:1::/122");
    node.learned("10.0.2.0/26", &["192.0.2.9%eth0"]);
    node.learned("10.0.3.0/26", &["192.0.2.9%eth0", "192.0.2.8%eth0"]);
    node.learned("2001:db8:2::/122", &["2001:db8::9%eth0"]);
    node.learned(
        "2001:db8:3::/122",
        &["2001:db8::9%eth0", "2001:db8::8%eth0"],
    )
}

/// A running `ip monitor route`, ended when it goes out of scope.
struct Monitor {
    child: Child,
    lines: Receiver<String>,
}

impl Monitor {
    fn start() -> Monitor {
        let mut child = Command::new("ip")
            .args(["monitor", "route"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("iproute2 is installed");
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Monitor { child, lines }
    }

    /// Whether a line with this text has come by now.
    fn said(&self, text: &str) -> bool {
        self.lines.try_iter().any(|line| line.contains(text))
    }

    /// All lines up to the one with this text.
    fn until(&self, text: &str) -> Vec<String> {
        let mut seen = Vec::new();
        while !seen.last().is_some_and(|line: &String| line.contains(text)) {
            let line = self.lines.recv_timeout(DEADLINE);
            seen.push(line.expect("ip monitor tells what happens"));
        }
        seen
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // It may have ended by itself; that is seen elsewhere.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_restart_changes_nothing_that_is_right() {
    on_node(|| {
        workload("cali1");
        let mut node = Node::new(quick());
        configured(&mut node).apply();
        let before = own_routes();
        assert_eq!(before.len(), 9);
        drop(node);

        let monitor = Monitor::start();
        // The monitor is listening once it has told about a route.
        let start = Instant::now();
        while !monitor.said("203.0.113.1 ") {
            assert!(start.elapsed() < DEADLINE, "ip monitor says nothing");
            // Replacing a route with its like would tell nobody.
            ip("route add blackhole 203.0.113.1 proto static");
            ip("route del 203.0.113.1");
        }

        let mut node = Node::new(quick());
        configured(&mut node).apply().catch_up();
        ip("route add blackhole 203.0.113.2 proto static");
        let seen = monitor.until("203.0.113.2 ");
        let ours: Vec<&String> = seen
            .iter()
            .filter(|line| !line.contains("203.0.113."))
            .collect();
        assert!(ours.is_empty(), "{ours:#?}");
        assert_eq!(node.written(), 0);
        assert_eq!(own_routes(), before);
        assert_eq!(
            node.programmed.len(),
            4,
            "what was there counts as programmed"
        );
        assert_eq!(node.last.counters.drift_repairs, 0);
    });
}

#[test]
fn a_restart_fixes_what_is_wrong_and_removes_what_is_left_over() {
    on_node(|| {
        workload("cali1");
        workload("cali2");
        let mut node = Node::new(quick());
        configured(&mut node).pod("cali2", &["10.0.1.6"]).apply();
        drop(node);
        ip("route del 10.0.1.5");
        ip("route replace 10.0.2.0/26 via 192.0.2.7 proto 80");

        let mut node = Node::new(quick());
        configured(&mut node).apply();
        assert_eq!(node.written(), 3);
        let own = own_routes();
        assert!(own.contains(&"10.0.2.0/26 via 192.0.2.9 dev eth0".to_owned()));
        assert!(own.contains(&"10.0.1.5 dev cali1".to_owned()));
        assert!(!own.contains(&"10.0.1.6 dev cali2".to_owned()));
    });
}

#[test]
fn learned_routes_are_held_until_the_speaker_has_converged() {
    on_node(|| {
        workload("cali1");
        let mut node = Node::new(quick());
        configured(&mut node).apply();
        drop(node);

        let mut node = Node::new(quick());
        node.pod("cali1", &["10.0.1.5", "2001:db8:1::5"]);
        node.learned("10.0.2.0/26", &["192.0.2.8%eth0"]);
        node.output.hold_learned = true;
        node.apply().catch_up();
        let held = [
            "10.0.1.5 dev cali1",
            "10.0.2.0/26 via 192.0.2.8 dev eth0",
            "10.0.3.0/26 via 192.0.2.8 dev eth0 via 192.0.2.9 dev eth0",
            "169.254.1.1 dev eth0",
            "2001:db8:1::5 dev cali1",
            "2001:db8:2::/122 via 2001:db8::9 dev eth0",
            "2001:db8:3::/122 via 2001:db8::8 dev eth0 via 2001:db8::9 dev eth0",
        ];
        assert_eq!(
            own_routes(),
            held,
            "blackholes without a block went at once"
        );

        node.output.hold_learned = false;
        node.apply();
        let converged = [
            "10.0.1.5 dev cali1",
            "10.0.2.0/26 via 192.0.2.8 dev eth0",
            "169.254.1.1 dev eth0",
            "2001:db8:1::5 dev cali1",
        ];
        assert_eq!(own_routes(), converged);
    });
}
