use std::net::Ipv4Addr;

use bgp_wire::{AsPath, AttributesBuilder, NextHop};

use super::*;

fn attributes(asn: u32) -> Attributes {
    let builder = AttributesBuilder {
        as_path: AsPath::sequence(&[asn]),
        ..AttributesBuilder::default()
    };
    builder.build().unwrap()
}

fn via(number: u8) -> Option<NextHop> {
    Some(NextHop::V4(Ipv4Addr::new(172, 16, 0, number)))
}

#[test]
fn equal_sets_are_held_once() {
    let mut attrs = Attrs::new(1);
    let first = attrs.acquire(&attributes(64501), via(1));
    assert_eq!(attrs.acquire(&attributes(64501), via(1)), first);
    assert_ne!(attrs.acquire(&attributes(64501), via(2)), first);
    assert_ne!(attrs.acquire(&attributes(64502), via(1)), first);
    assert_ne!(attrs.acquire(&attributes(64501), None), first);
    assert_eq!((attrs.len(), attrs.next_hops.len()), (4, 3));
}

#[test]
fn a_set_goes_with_its_last_reference_and_its_place_is_reused() {
    let mut attrs = Attrs::new(1);
    let id = attrs.acquire(&attributes(64501), via(1));
    attrs.add_reference(id);
    attrs.release(id);
    assert_eq!(attrs.get(id).attributes, attributes(64501));
    attrs.release(id);
    assert_eq!((attrs.len(), attrs.next_hops.len()), (0, 0));
    assert_eq!(attrs.acquire(&attributes(64502), via(2)), id);
    assert_eq!(attrs.get(id).attributes, attributes(64502));
    assert_eq!(attrs.next_hops.get(attrs.get(id).next_hop), via(2));
}

#[test]
fn the_index_survives_growth() {
    let mut attrs = Attrs::new(1);
    let ids: Vec<_> = (1..2000)
        .map(|asn| attrs.acquire(&attributes(asn), via(1)))
        .collect();
    for (asn, id) in (1..2000).zip(&ids) {
        assert_eq!(attrs.acquire(&attributes(asn), via(1)), *id);
    }
    assert_eq!(attrs.len(), ids.len());
}
