use super::*;

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn ranges(texts: &[&str]) -> Ranges {
    texts.iter().map(|t| cidr(t)).collect()
}

fn walk(pool: &str, block_size: u8, seed: u64, taken: &Ranges, reserved: &Ranges) -> Vec<String> {
    let mut candidates = Candidates::new(cidr(pool), block_size, seed);
    std::iter::from_fn(|| candidates.next(taken, reserved))
        .map(|c| c.to_string())
        .take(100)
        .collect()
}

#[test]
fn ordinals_and_addresses_are_inverse() {
    for (block, ordinal, addr) in [
        ("10.0.1.64/26", 5, "10.0.1.69"),
        ("fd00::40/122", 63, "fd00::7f"),
        ("10.0.0.7/32", 0, "10.0.0.7"),
    ] {
        let addr: IpAddr = addr.parse().unwrap();
        assert_eq!(nth(cidr(block), ordinal), addr);
        assert_eq!(super::ordinal(cidr(block), addr), Some(ordinal));
    }
    assert_eq!(
        ordinal(cidr("10.0.1.64/26"), "10.0.1.63".parse().unwrap()),
        None
    );
    assert_eq!(
        ordinal(cidr("10.0.1.64/26"), "fd00::1".parse().unwrap()),
        None
    );
    assert_eq!(
        (
            size(cidr("10.0.1.64/26")),
            size(cidr("10.0.0.1/32")),
            size(cidr("::/0"))
        ),
        (64, 1, u32::MAX)
    );
}

#[test]
fn ranges_merge_when_they_touch() {
    let set = ranges(&[
        "10.0.0.64/26",
        "10.0.0.0/26",
        "10.0.0.192/26",
        "10.0.0.128/26",
        "fd00::/64",
    ]);
    assert_eq!((set.v4.len(), set.v6.len()), (1, 1));
    assert!(
        set.contains("10.0.0.0".parse().unwrap()) && set.contains("10.0.0.255".parse().unwrap())
    );
    assert!(
        !set.contains("10.0.1.0".parse().unwrap())
            && !set.contains("fd00:0:0:1::".parse().unwrap())
    );
    assert_eq!(ranges(&["0.0.0.0/0", "10.0.0.0/8", "::/0"]).v4.len(), 1);
}

#[test]
fn walk_visits_every_block_once_from_the_seed_on() {
    let none = Ranges::default();
    assert_eq!(
        walk("10.0.0.0/24", 26, 6, &none, &none),
        [
            "10.0.0.128/26",
            "10.0.0.192/26",
            "10.0.0.0/26",
            "10.0.0.64/26"
        ]
    );
    assert_eq!(
        walk("fd00::/121", 122, 1, &none, &none),
        ["fd00::40/122", "fd00::/122"]
    );
    assert_eq!(walk("10.0.0.1/32", 32, 9, &none, &none), ["10.0.0.1/32"]);
    assert_eq!(
        walk("255.255.255.128/25", 26, 1, &none, &none),
        ["255.255.255.192/26", "255.255.255.128/26"]
    );
    assert_eq!(walk("10.0.0.0/27", 26, 0, &none, &none), [""; 0]);
}

#[test]
fn walk_avoids_blocks_of_any_size_that_exist() {
    let none = Ranges::default();
    let taken = ranges(&["10.0.0.16/28", "10.0.0.128/25"]);
    assert_eq!(walk("10.0.0.0/24", 26, 0, &taken, &none), ["10.0.0.64/26"]);
    assert_eq!(walk("10.0.0.0/24", 26, 3, &taken, &none), ["10.0.0.64/26"]);
    assert_eq!(
        walk("10.0.0.0/24", 26, 0, &ranges(&["10.0.0.0/8"]), &none),
        [""; 0]
    );
}

#[test]
fn walk_skips_blocks_that_are_reserved_as_a_whole_only() {
    let none = Ranges::default();
    let reserved = ranges(&["10.0.0.0/26", "10.0.0.64/28"]);
    assert_eq!(
        walk("10.0.0.0/25", 26, 0, &none, &reserved),
        ["10.0.0.64/26"]
    );
    assert_eq!(
        walk("10.0.0.0/25", 26, 0, &none, &ranges(&["10.0.0.0/8"])),
        [""; 0]
    );
}

#[test]
fn walk_crosses_huge_ranges_in_one_step() {
    let none = Ranges::default();
    let most = ranges(&[
        "::/1", "8000::/2", "c000::/3", "e000::/4", "f000::/5", "f800::/6", "fc00::/8",
    ]);
    let mut candidates = Candidates::new(cidr("::/0"), 128, 7);
    assert_eq!(candidates.next(&none, &most).unwrap(), cidr("fd00::/128"));
    assert_eq!(candidates.next(&none, &most).unwrap(), cidr("fd00::1/128"));
    assert_eq!(
        Candidates::new(cidr("::/0"), 128, 7).next(&ranges(&["::/0"]), &none),
        None
    );
    assert_eq!(
        Candidates::new(cidr("::/0"), 128, 7).next(&none, &ranges(&["::/0"])),
        None
    );
}
