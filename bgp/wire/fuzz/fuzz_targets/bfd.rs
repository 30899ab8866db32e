//! Any sequence of packets leaves BFD sessions in one piece.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../../bfd/tests/corpus/drive.rs"]
mod drive;

fuzz_target!(|input: &[u8]| {
    let _came_up = drive::drive(input);
});
