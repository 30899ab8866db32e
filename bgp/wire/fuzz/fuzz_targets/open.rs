//! Any octets are the body of an OPEN or an error, and its capabilities are written and read back.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/corpus/drive.rs"]
mod drive;
#[path = "../../tests/mutation/round_trip.rs"]
mod round_trip;

fuzz_target!(|input: &[u8]| drive::open_input(input));
