//! `tortie bgp`: questions about a speaker.

mod peer;
mod peers;
mod routes;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::client::{Client, parse};
use crate::failure::Failure;
use crate::output::{Output, Printed, for_programs};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Unix socket where a speaker answers.
    #[arg(long, value_name = "PATH", global = true, env = "TORTIE_SOCKET")]
    socket: Option<PathBuf>,
    /// Address where a speaker or an agent answers.
    #[arg(
        long,
        value_name = "HOST:PORT",
        global = true,
        env = "TORTIE_ADDRESS",
        conflicts_with = "socket"
    )]
    address: Option<String>,
    /// How the answer looks.
    #[arg(
        short,
        long,
        value_name = "FORM",
        global = true,
        default_value = "table"
    )]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The speaker and one line for each peer.
    Summary,
    /// One line for each peer.
    Peers,
    /// Everything about a peer.
    Peer {
        /// Name or address of the peer.
        peer: String,
    },
    /// All paths to all prefixes.
    Routes(Part),
    /// The paths to a prefix, and to those that cover it.
    Route {
        /// Prefix or address.
        prefix: String,
    },
    /// What a peer sent, and what became of it.
    Received {
        /// Name or address of the peer.
        peer: String,
        #[command(flatten)]
        part: Part,
    },
    /// What a peer is told, as it is sent.
    Advertised {
        /// Name or address of the peer.
        peer: String,
        #[command(flatten)]
        part: Part,
    },
    /// Why a prefix is reached as it is, and why peers are told or not.
    Why {
        /// Prefix or address.
        prefix: String,
        /// Only this peer, by name or address.
        #[arg(long)]
        peer: Option<String>,
    },
    /// Have the session with a peer start anew, or its routes be exchanged again.
    Clear {
        /// Name or address of the peer.
        peer: String,
        /// The session stays; routes are asked for and told again.
        #[arg(long)]
        soft: bool,
    },
}

/// Which part of a long answer.
#[derive(Debug, Args)]
struct Part {
    /// How much of it.
    #[arg(long, default_value_t = 1000)]
    limit: usize,
    /// All of it.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Only IPv4.
    #[arg(short = '4', conflicts_with = "v6")]
    v4: bool,
    /// Only IPv6.
    #[arg(short = '6')]
    v6: bool,
}

impl Part {
    fn query(&self) -> String {
        let limit = if self.all { usize::MAX } else { self.limit };
        let family = match (self.v4, self.v6) {
            (true, _) => "&family=ipv4-unicast",
            (_, true) => "&family=ipv6-unicast",
            (false, false) => "",
        };
        format!("?limit={limit}{family}")
    }
}

/// Asks and says what to print.
pub(crate) fn run(arguments: &Arguments) -> Result<Printed, Failure> {
    let client = Client::new(arguments.socket.clone(), arguments.address.clone());
    let output = arguments.output;
    let answer = match &arguments.command {
        Command::Clear { peer, soft } => {
            let how = if *soft { "soft" } else { "hard" };
            client.post(&format!("/bgp/peers/{}/clear?{how}", escaped(peer)))?
        }
        question => client.get(&format!("/bgp{}", page(question)))?,
    };
    if let Some(text) = for_programs(output, &answer)? {
        return Ok(Printed { text, note: None });
    }
    let wide = output == Output::Wide;
    match &arguments.command {
        Command::Summary => Ok(peers::summary(&parse(&answer)?, wide)),
        Command::Peers => Ok(peers::list(&parse::<Vec<bgp_api::Peer>>(&answer)?, wide)),
        Command::Peer { .. } => Ok(peer::detail(&parse(&answer)?)),
        Command::Routes(_) => Ok(routes::routes(parse(&answer)?, wide)),
        Command::Route { .. } => routes::route(&parse(&answer)?),
        Command::Received { .. } => Ok(routes::received(parse(&answer)?, wide)),
        Command::Advertised { .. } => Ok(routes::advertised(parse(&answer)?, wide)),
        Command::Why { .. } => routes::why(&parse(&answer)?),
        Command::Clear { .. } => Ok(cleared(&parse(&answer)?)),
    }
}

fn page(question: &Command) -> String {
    match question {
        Command::Summary => "/summary".to_owned(),
        Command::Peers => "/peers".to_owned(),
        Command::Peer { peer } | Command::Clear { peer, .. } => {
            format!("/peers/{}", escaped(peer))
        }
        Command::Routes(part) => format!("/routes{}", part.query()),
        Command::Route { prefix } => format!("/routes/{}", escaped(prefix)),
        Command::Received { peer, part } => {
            format!("/peers/{}/received{}", escaped(peer), part.query())
        }
        Command::Advertised { peer, part } => {
            format!("/peers/{}/advertised{}", escaped(peer), part.query())
        }
        Command::Why { prefix, peer } => {
            let peer = peer.as_ref().map(|peer| format!("?peer={}", escaped(peer)));
            format!("/why/{}{}", escaped(prefix), peer.unwrap_or_default())
        }
    }
}

/// A word as a part of an address of a page (RFC 3986 §2.1).
fn escaped(word: &str) -> String {
    let mut text = String::new();
    for octet in word.bytes() {
        match octet {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                text.push(char::from(octet));
            }
            _ => text.push_str(&format!("%{octet:02X}")),
        }
    }
    text
}

fn cleared(cleared: &bgp_api::Cleared) -> Printed {
    let peer = &cleared.peer;
    let text = if cleared.soft {
        format!("{peer}: routes are asked for and told again\n")
    } else {
        format!("{peer}: the session starts anew\n")
    };
    Printed { text, note: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_become_pages() {
        let part = |all, v6| Part {
            limit: 7,
            all,
            v4: false,
            v6,
        };
        let cases = [
            (
                Command::Routes(part(false, true)),
                "/routes?limit=7&family=ipv6-unicast",
            ),
            (
                Command::Peer {
                    peer: "a b/c".to_owned(),
                },
                "/peers/a%20b%2Fc",
            ),
            (
                Command::Route {
                    prefix: "2001:db8::/32".to_owned(),
                },
                "/routes/2001:db8::%2F32",
            ),
            (
                Command::Why {
                    prefix: "192.0.2.1".to_owned(),
                    peer: Some("tor".to_owned()),
                },
                "/why/192.0.2.1?peer=tor",
            ),
        ];
        for (question, expected) in cases {
            assert_eq!(expected, page(&question));
        }
        assert!(part(true, false).query().len() > "?limit=1000000".len());
    }
}
