use super::*;

#[test]
fn a_full_table_has_distinct_prefixes_that_are_found_again() {
    let universe = Universe::full_table(20_000);
    for (number, (address, bits)) in universe.prefixes().iter().enumerate() {
        assert_eq!(universe.number(*address, *bits).unwrap(), number);
        assert_eq!(
            address.trailing_zeros().max(32 - u32::from(*bits)),
            address.trailing_zeros()
        );
    }
}

#[test]
fn a_million_prefixes_fit_below_class_d() {
    let universe = Universe::full_table(1_000_000);
    assert_eq!(universe.len(), 1_000_000);
    assert!(
        universe
            .prefixes()
            .iter()
            .all(|(address, _)| address >> 24 < 224)
    );
}

#[test]
fn a_prefix_that_is_not_there_is_named() {
    let universe = Universe::blocks(0x0a00_0000, 4);
    assert_eq!(universe.number(0x0a00_0040, 26).unwrap(), 1);
    for (address, bits) in [(0x0a00_0040, 27), (0x0a00_0100, 26), (0x0a00_0041, 26)] {
        let error = universe.number(address, bits).unwrap_err().to_string();
        assert!(error.contains(&show((address, bits))), "{error}");
    }
}
