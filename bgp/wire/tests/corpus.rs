//! The inputs that the fuzz targets start from, and their neighbours: each with every octet
//! changed in a few ways, and cut at every length.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "corpus/drive.rs"]
mod drive;
#[path = "mutation/round_trip.rs"]
mod round_trip;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let files = std::fs::read_dir(folder.join(target)).unwrap();
    let mut inputs: Vec<Vec<u8>> = files
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect();
    assert!(inputs.len() > 1, "the corpus of {target} is empty");
    inputs.sort();
    inputs
}

fn with_neighbours(target: &str, drive: fn(&[u8])) {
    for input in corpus(target) {
        for len in 0..=input.len() {
            drive(&input[..len]);
        }
        for at in 0..input.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut changed = input.clone();
                changed[at] ^= change;
                drive(&changed);
            }
        }
    }
}

#[test]
fn inputs_of_decode() {
    with_neighbours("decode", drive::decode_input);
}

#[test]
fn inputs_of_open() {
    with_neighbours("open", drive::open_input);
}
