//! Names of error codes and subcodes, for people.

/// Names of code and subcode; an empty subcode name when there is none; `None` for an unknown code.
pub(super) fn of(code: u8, subcode: u8) -> Option<(&'static str, &'static str)> {
    let (name, subcodes): (&str, &[&str]) = match code {
        1 => ("Message Header Error", &HEADER),
        2 => ("OPEN Message Error", &OPEN),
        3 => ("UPDATE Message Error", &UPDATE),
        4 => ("Hold Timer Expired", &[]),
        5 => ("Finite State Machine Error", &FSM),
        6 => ("Cease", &CEASE),
        7 => (
            "ROUTE-REFRESH Message Error",
            &["", "Invalid Message Length"],
        ),
        8 => ("Send Hold Timer Expired", &[]),
        _ => return None,
    };
    let subcode = subcodes
        .get(usize::from(subcode))
        .copied()
        .unwrap_or_default();
    Some((name, subcode))
}

const HEADER: [&str; 4] = [
    "",
    "Connection Not Synchronized",
    "Bad Message Length",
    "Bad Message Type",
];

const OPEN: [&str; 12] = [
    "Unspecific",
    "Unsupported Version Number",
    "Bad Peer AS",
    "Bad BGP Identifier",
    "Unsupported Optional Parameter",
    "Authentication Failure",
    "Unacceptable Hold Time",
    "Unsupported Capability",
    "",
    "",
    "",
    "Role Mismatch",
];

const UPDATE: [&str; 12] = [
    "",
    "Malformed Attribute List",
    "Unrecognized Well-known Attribute",
    "Missing Well-known Attribute",
    "Attribute Flags Error",
    "Attribute Length Error",
    "Invalid ORIGIN Attribute",
    "AS Routing Loop",
    "Invalid NEXT_HOP Attribute",
    "Optional Attribute Error",
    "Invalid Network Field",
    "Malformed AS_PATH",
];

const FSM: [&str; 4] = [
    "Unspecified Error",
    "Unexpected Message in OpenSent State",
    "Unexpected Message in OpenConfirm State",
    "Unexpected Message in Established State",
];

const CEASE: [&str; 11] = [
    "",
    "Maximum Number of Prefixes Reached",
    "Administrative Shutdown",
    "Peer De-configured",
    "Administrative Reset",
    "Connection Rejected",
    "Other Configuration Change",
    "Connection Collision Resolution",
    "Out of Resources",
    "Hard Reset",
    "BFD Down",
];
