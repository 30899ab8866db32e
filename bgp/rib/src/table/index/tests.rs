use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn v4(addr: u32, len: u8) -> Prefix4 {
    Prefix4::new(addr, len).unwrap()
}

/// An index with the prefixes beside it.
struct Both {
    index: Index,
    keys: Vec<Prefix4>,
}

impl Both {
    fn new(seed: u64) -> Self {
        Self {
            index: Index::new(seed),
            keys: Vec::new(),
        }
    }

    fn find(&self, key: Prefix4) -> Option<PrefixId> {
        let home = self.index.home(key);
        self.index.find(home, |id| self.keys[id as usize] == key)
    }

    fn insert(&mut self, key: Prefix4) -> PrefixId {
        let id = self.keys.len() as PrefixId;
        self.keys.push(key);
        let home = self.index.home(key);
        let keys = &self.keys;
        self.index
            .insert(home, id, |homes, id| homes.home(keys[id as usize]));
        id
    }

    fn passed_on(&self) -> usize {
        let lines = self.index.lines.iter();
        lines.map(|line| line.passed_on as usize).sum()
    }
}

#[test]
fn a_line_is_as_long_as_a_line_of_the_cache() {
    assert_eq!((size_of::<Line>(), align_of::<Line>()), (64, 64));
}

#[test]
fn neighbours_have_one_home_and_tags_of_their_own() {
    let homes = Homes(FixedState::with_seed(1));
    let all: Vec<_> = (0..8)
        .map(|n| homes.home(v4(0x0a00_0000 + (n << 8), 24)))
        .collect();
    assert!(all.iter().all(|home| home.hash == all[0].hash));
    let tags: std::collections::BTreeSet<_> = all.iter().map(|home| home.tag).collect();
    assert_eq!(tags.len(), 8);
    assert_ne!(homes.home(v4(0x0a00_0800, 24)).hash, all[0].hash);
    assert_ne!(homes.home(v4(0x0a00_0000, 25)).hash, all[0].hash);
    let v6 = |bits: u128, len| homes.home(Prefix6::new(bits, len).unwrap());
    assert_eq!(v6(5 << 80, 48).hash, v6(0, 48).hash);
    assert_ne!(v6(8 << 80, 48).hash, v6(0, 48).hash);
}

#[test]
fn the_shortest_prefixes_are_found() {
    let mut both = Both::new(3);
    let all: Vec<_> = (0..=32).map(|len| v4(0, len)).collect();
    for (id, key) in all.iter().enumerate() {
        assert_eq!(both.insert(*key), id as PrefixId);
    }
    for (id, key) in all.iter().enumerate() {
        assert_eq!(both.find(*key), Some(id as PrefixId));
    }
    assert_eq!(both.find(v4(1 << 31, 1)), None);
}

/// Neighbours fill lines by eights, the worst case for a table of lines with room for ten.
#[test]
fn few_prefixes_of_a_table_full_of_neighbours_are_passed_on() {
    let mut both = Both::new(5);
    for number in 0..200_000 {
        both.insert(v4(0x1000_0000 + (number << 8), 24));
    }
    let passed_on = both.passed_on();
    assert!(
        passed_on < 200_000,
        "{passed_on} steps for 200,000 prefixes"
    );
}

proptest! {
    /// Few distinct prefixes, so that the same ones come and go.
    #[test]
    fn it_knows_what_a_map_knows(
        seed: u64,
        steps in prop::collection::vec((any::<bool>(), 0_u32..200, 22_u8..=24), 0..2000),
    ) {
        let mut both = Both::new(seed);
        let mut map = BTreeMap::new();
        for (adds, number, len) in steps {
            let key = v4(number << 8, len);
            prop_assert_eq!(both.find(key), map.get(&key).copied());
            if adds && !map.contains_key(&key) {
                map.insert(key, both.insert(key));
            } else if !adds && let Some(id) = map.remove(&key) {
                let home = both.index.home(key);
                prop_assert!(both.index.remove(home, id));
                prop_assert!(!both.index.remove(home, id));
            }
            prop_assert_eq!(both.index.len(), map.len());
        }
        for (key, id) in &map {
            prop_assert_eq!(both.find(*key), Some(*id));
        }
        for (key, id) in map {
            let home = both.index.home(key);
            prop_assert!(both.index.remove(home, id));
        }
        prop_assert_eq!(both.passed_on(), 0);
    }
}
