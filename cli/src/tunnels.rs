//! `tortie tunnels`: what carries the packets of pods to other nodes.

use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use crate::client::{AgentPlace, parse};
use crate::failure::Failure;
use crate::output::{Output, Printed, for_programs};
use crate::table::Table;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    agent: AgentPlace,
    /// How the answer looks.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Output,
}

/// A tunnel as the agent describes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tunnel {
    device: String,
    encapsulation: String,
    carrier: Option<String>,
    address: Option<String>,
    mtu: u32,
    remotes: Option<u64>,
    counters: Option<Counters>,
    #[serde(default)]
    problems: Vec<String>,
}

/// What a tunnel in user space carried and dropped.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Counters {
    sent_packets: u64,
    received_packets: u64,
    dropped: std::collections::BTreeMap<String, u64>,
}

/// Asks and says what to print.
pub(crate) fn run(arguments: &Arguments) -> Result<Printed, Failure> {
    let mut state: Value = parse(&arguments.agent.client().get("/state")?)?;
    let tunnels = state["tunnels"].take();
    if let Some(text) = for_programs(arguments.output, &tunnels.to_string())? {
        return Ok(Printed { text, note: None });
    }
    let tunnels: Vec<Tunnel> = parse(&tunnels.to_string())?;
    Ok(listed(&tunnels, arguments.output == Output::Wide))
}

fn listed(tunnels: &[Tunnel], wide: bool) -> Printed {
    let mut columns = vec![
        "DEVICE",
        "KIND",
        "CARRIED BY",
        "ADDRESS",
        ">MTU",
        ">REMOTES",
    ];
    if wide {
        columns.extend([">SENT", ">RECEIVED", ">DROPPED"]);
    }
    columns.push("PROBLEMS");
    let mut table = Table::new(&columns);
    for tunnel in tunnels {
        let absent = || "-".to_owned();
        let mut row = vec![
            tunnel.device.clone(),
            tunnel.encapsulation.clone(),
            tunnel
                .carrier
                .clone()
                .unwrap_or_else(|| "nobody".to_owned()),
            tunnel.address.clone().unwrap_or_else(absent),
            tunnel.mtu.to_string(),
            tunnel
                .remotes
                .map_or_else(absent, |count| count.to_string()),
        ];
        if wide {
            let counters = tunnel.counters.as_ref();
            let dropped = counters.map(|counters| counters.dropped.values().sum::<u64>());
            let counts = [
                counters.map(|counters| counters.sent_packets),
                counters.map(|counters| counters.received_packets),
                dropped,
            ];
            row.extend(counts.map(|count| count.map_or_else(absent, |count| count.to_string())));
        }
        row.push(tunnel.problems.join("; "));
        table.row(row);
    }
    let in_user_space = |tunnel: &&Tunnel| tunnel.carrier.as_deref() == Some("user-space");
    let names: Vec<&str> = tunnels
        .iter()
        .filter(in_user_space)
        .map(|tunnel| tunnel.device.as_str())
        .collect();
    let mut text = match table.is_empty() {
        true => "no pool asks for a tunnel\n".to_owned(),
        false => table.text(),
    };
    if !names.is_empty() {
        text += &format!(
            "\nThe agent itself carries the packets of {}: that costs more than the kernel's tunnels.\n",
            names.join(" and ")
        );
    }
    Printed { text, note: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(tunnels: &str, wide: bool) -> String {
        listed(&parse::<Vec<Tunnel>>(tunnels).unwrap(), wide).text
    }

    #[test]
    fn a_tunnel_is_a_line_and_user_space_is_said_plainly() {
        let tunnels = r#"[
            {"device": "tunl0", "encapsulation": "IPIP", "carrier": "user-space", "address": "10.0.0.1",
             "mtu": 1480, "remotes": null, "problems": [], "counters": {"sentPackets": 7, "sentOctets": 700,
             "receivedPackets": 5, "receivedOctets": 500, "dropped": {"loop": 1, "too_big": 2}}},
            {"device": "vxlan.calico", "encapsulation": "VXLAN", "carrier": null, "address": null,
             "mtu": 1450, "remotes": 2, "problems": ["the kernel refuses"], "counters": null}
        ]"#;
        let text = show(tunnels, false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..3],
            [
                "DEVICE        KIND   CARRIED BY  ADDRESS    MTU  REMOTES  PROBLEMS",
                "tunl0         IPIP   user-space  10.0.0.1  1480        -",
                "vxlan.calico  VXLAN  nobody      -         1450        2  the kernel refuses",
            ]
        );
        assert!(
            text.contains("carries the packets of tunl0: that costs more"),
            "{text}"
        );
        let wide = show(tunnels, true);
        let counted = wide.lines().nth(1).unwrap();
        assert!(counted.ends_with("7         5        3"), "{wide}");
    }

    #[test]
    fn no_tunnels_are_said_in_words() {
        assert_eq!(show("[]", false), "no pool asks for a tunnel\n");
    }
}
