use super::*;
use crate::table::{Goal, Table, way};

fn messages(mut feed: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let Some(length) = wire::length(feed).unwrap() {
        let (message, rest) = feed.split_at(length);
        messages.push(message);
        feed = rest;
    }
    messages
}

#[test]
fn what_is_announced_is_what_a_receiver_holds() {
    let universe = Rc::new(Universe::full_table(5000));
    let mut random = Random(3);
    let next_hop = crate::link::client(7);
    let feed = Feed::new(&universe, &sets(&universe), |_| {
        realistic(&mut random, Some(65001), next_hop)
    });
    let mut table = Table::new(Rc::clone(&universe), 0);
    table.expect(Goal::Exactly(vec![way(7); 5000].into()));
    assert_eq!(table.wrong(), 5000);
    for message in messages(&feed.announce) {
        table.update(&message[wire::HEADER..]).unwrap();
    }
    assert_eq!((table.wrong(), table.announced), (0, 5000));
    table.expect(Goal::Exactly(vec![0; 5000].into()));
    for message in messages(&feed.withdraw) {
        assert!(message.len() <= LARGEST);
        table.update(&message[wire::HEADER..]).unwrap();
    }
    assert_eq!((table.wrong(), table.withdrawn), (0, 5000));
}

#[test]
fn a_million_prefixes_have_as_many_attribute_sets_as_the_title_says() {
    let sets = sets(&Universe::full_table(1_000_000));
    assert!((158_000..161_000).contains(&sets.len()), "{}", sets.len());
    assert_eq!(sets.last().map(|set| set.end), Some(1_000_000));
}
