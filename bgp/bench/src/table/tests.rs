use super::*;
use crate::feed::{Attributes, Feed};

fn table() -> (Rc<Universe>, Table) {
    let universe = Rc::new(Universe::blocks(0x0a00_0000, 4));
    let table = Table::new(Rc::clone(&universe), 0);
    (universe, table)
}

fn announced_by(client: usize, prefixes: &[(u32, u8)]) -> Vec<u8> {
    let feed = Feed::plain(prefixes, &Attributes::new(link::client(client)));
    feed.announce[wire::HEADER..].to_vec()
}

#[test]
fn a_wrong_next_hop_is_counted_until_it_is_right() {
    let (universe, mut table) = table();
    table.expect(Goal::Exactly([0, way(1), way(1), way(2)].into()));
    table
        .update(&announced_by(1, &universe.prefixes()[1..]))
        .unwrap();
    assert_eq!(table.wrong(), 1);
    assert!(
        table
            .example()
            .unwrap()
            .starts_with("10.0.0.192/26 is by client 1")
    );
    table
        .update(&announced_by(2, &universe.prefixes()[3..]))
        .unwrap();
    assert_eq!((table.wrong(), table.replaced), (0, 1));
}

#[test]
fn its_own_routes_are_not_held_and_counted_apart() {
    let (universe, mut table) = table();
    table.expect(Goal::Exactly([way(0), way(0), 0, 0].into()));
    assert_eq!(table.wrong(), 0);
    table
        .update(&announced_by(0, &universe.prefixes()[..2]))
        .unwrap();
    assert_eq!((table.wrong(), table.echoes), (0, 2));
    assert!(table.no_echoes().is_err());
}

#[test]
fn a_next_hop_of_nobody_is_an_error() {
    let (universe, mut table) = table();
    let stranger = Attributes::new(std::net::Ipv4Addr::new(192, 0, 2, 1));
    let feed = Feed::plain(&universe.prefixes()[..1], &stranger);
    let error = table.update(&feed.announce[wire::HEADER..]).unwrap_err();
    assert!(error.to_string().contains("192.0.2.1"), "{error}");
}

#[test]
fn what_is_gone_is_missing_again() {
    let (universe, mut table) = table();
    table.expect(Goal::Exactly([way(1); 4].into()));
    table.update(&announced_by(1, universe.prefixes())).unwrap();
    assert_eq!(table.wrong(), 0);
    table.clear();
    assert_eq!(table.wrong(), 4);
}
