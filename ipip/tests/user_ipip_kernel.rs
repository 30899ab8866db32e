//! IPIP in user space beside the kernel's `tunl0`. Cargo runs this program where the kernel has it,
//! see `e2e/vm/runner`; elsewhere it fails.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    dead_code,
    reason = "the helpers of tests are tests too, and serve other tests as well"
)]

#[path = "user/lab.rs"]
mod lab;

use ipip::user::Wire;
use lab::{Carrier, Lab, eventually};

#[test]
fn ipip_talks_to_the_kernels() {
    let Some(mut lab) = Lab::new(Wire::Ipip, false) else {
        return;
    };
    lab.ipip_name = "usertun0";
    lab.carry(0, Carrier::User);
    lab.carry(1, Carrier::Kernel);
    let kind = &lab.ip_json("node1", "-d link show tunl0")[0]["linkinfo"]["info_kind"];
    assert_eq!(kind, "ipip", "the other end is the kernel's");
    lab.wait_for_ping();
    for node in [0, 1] {
        for size in [1, 1000, 1451, 1452] {
            let (all, text) = lab.ping(node, &format!("-c 2 -i 0.2 -M do -s {size}"));
            assert!(all, "from {node}, {size} bytes: {text}");
        }
        let (_, text) = lab.ping(node, "-c 1 -M do -s 1453");
        assert!(text.contains("mtu = 1480"), "{text}");
        let (all, text) = lab.ping(node, "-c 2 -i 0.2 -M dont -s 4000");
        assert!(all, "in fragments: {text}");
        lab.transfer(node, 4);
    }
}

/// The outer headers that tcpdump shows for pings with these options, TTL, TOS and DF each.
fn outer_headers(lab: &Lab, from: usize, options: &str) -> Vec<String> {
    let filter = [
        "-i",
        "eth0",
        "-n",
        "-v",
        "-l",
        "-c",
        "2",
        "-Q",
        "out",
        "ip proto 4",
    ];
    let filter: Vec<String> = filter.map(str::to_owned).to_vec();
    let capture = lab.spawn(&format!("node{from}"), "tcpdump", &filter);
    // tcpdump ends after two packets; pings go on until it has seen them.
    let mut text = None;
    let mut capture = Some(capture);
    eventually("two packets", || {
        lab.ping(from, &format!("-c 1 {options}"));
        if capture.as_mut().is_some_and(lab::Running::is_over) {
            text = capture.take().map(lab::Running::finish);
        }
        text.is_some()
    });
    let text = text.unwrap();
    let outer = text.lines().filter(|line| line.contains("proto IPIP"));
    outer
        .map(|line| {
            let fields = line.split_once("tos ").unwrap().1;
            let fields = fields
                .split(", ")
                .filter(|field| !field.starts_with("id ") && !field.starts_with("length "));
            fields.collect::<Vec<_>>().join(", ")
        })
        .collect()
}

#[test]
fn outer_headers_are_those_of_the_kernel() {
    let Some(mut lab) = Lab::new(Wire::Ipip, false) else {
        return;
    };
    lab.ipip_name = "usertun0";
    lab.carry(0, Carrier::User);
    lab.carry(1, Carrier::Kernel);
    lab.wait_for_ping();
    for options in ["-M do", "-M dont", "-t 17", "-Q 0xb8", "-Q 0x02"] {
        let user = outer_headers(&lab, 0, options);
        let kernel = outer_headers(&lab, 1, options);
        assert!(!user.is_empty());
        assert_eq!(user[0], kernel[0], "{options}");
    }
}
