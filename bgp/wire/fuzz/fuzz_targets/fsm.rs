//! Any sequence of events, OPENs of any octets among them, leaves a peer in one piece.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../fsm/tests/corpus/drive.rs"]
mod drive;

fuzz_target!(|input: &[u8]| {
    let _came_up = drive::drive(input);
});
