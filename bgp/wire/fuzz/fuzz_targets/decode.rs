//! Any octets are a message or an error, and a message is written and read back as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/corpus/drive.rs"]
mod drive;
#[path = "../../tests/mutation/round_trip.rs"]
mod round_trip;

fuzz_target!(|input: &[u8]| drive::decode_input(input));
