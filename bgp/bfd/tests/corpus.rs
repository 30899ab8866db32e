//! The inputs that the fuzz target `bfd` starts from, and their neighbours: each with every octet
//! changed in a few ways, and cut at every length.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

#[path = "corpus/drive.rs"]
mod drive;

#[test]
fn inputs_of_bfd() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/fuzz/corpus/bfd");
    let (mut count, mut ups) = (0, 0);
    for file in std::fs::read_dir(folder).unwrap() {
        let input = std::fs::read(file.unwrap().path()).unwrap();
        for len in 0..=input.len() {
            drive::drive(&input[..len]);
        }
        for at in 0..input.len() {
            for change in [0x01, 0x10, 0x80, 0xff] {
                let mut changed = input.clone();
                changed[at] ^= change;
                drive::drive(&changed);
            }
        }
        ups += usize::from(drive::drive(&input));
        count += 1;
    }
    assert!(
        count > 1 && ups > 1,
        "{count} inputs bring {ups} sessions up"
    );
}
