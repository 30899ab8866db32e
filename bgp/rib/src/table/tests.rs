use bgp_wire::Prefix4;

use super::*;

fn key(number: u32) -> Prefix4 {
    Prefix4::new(number << 8, 24).unwrap()
}

/// The budget of 64 to 100 octets per prefix with one path, hash index included.
#[test]
fn an_ipv4_prefix_with_its_first_path_takes_forty_octets() {
    assert_eq!(size_of::<Slot<Prefix4>>(), 40);
}

#[test]
fn ids_are_stable_over_growth_and_reused_after_removal() {
    let mut table = PrefixTable::new(1);
    let count = 3 * BLOCK as u32 + 7;
    let ids: Vec<_> = (0..count).map(|n| table.find_or_insert(key(n))).collect();
    assert_eq!(ids, (0..count).collect::<Vec<_>>());
    assert_eq!(table.end(), count);
    for number in (0..count).step_by(97) {
        assert_eq!(table.find(key(number)), Some(number));
    }
    table.remove_all(&[5000]);
    assert_eq!(table.find(key(5000)), None);
    assert_eq!((table.len(), table.end()), (count as usize - 1, count));
    assert_eq!(table.find_or_insert(key(999_999)), 5000);
    assert_eq!(table.slot(5000).key, key(999_999));
    assert_eq!(table.iter().count(), count as usize);
}

#[test]
fn removed_prefixes_are_not_iterated() {
    let mut table = PrefixTable::new(1);
    for number in 0..3 {
        table.find_or_insert(key(number));
    }
    table.remove_all(&[1]);
    table.remove_all(&[1]);
    let keys: Vec<_> = table.iter().map(|(id, slot)| (id, slot.key)).collect();
    assert_eq!(keys, [(0, key(0)), (2, key(2))]);
}
