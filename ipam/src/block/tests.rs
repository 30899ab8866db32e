use super::*;

const NODE: &str = "node-1";

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn block(cidr: &str) -> Block {
    Block::new(cidr.parse().unwrap(), NODE, start())
}

fn holder(handle: &str) -> Arc<AllocationAttribute> {
    Arc::new(AllocationAttribute {
        handle_id: Some(handle.to_owned()),
        ..Default::default()
    })
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Through the object and back, as every write goes.
fn written(block: &Block) -> Block {
    decode(block.to_spec()).unwrap()
}

fn decode(spec: IpamBlockSpec) -> Result<Block, BrokenBlock> {
    Block::decode(&crds::IpamBlock::new("the-block", spec))
}

fn free(block: &mut Block, texts: &[&str], cooldown: Duration) {
    for text in texts {
        block
            .release(addr(text), Guard::default(), start(), cooldown)
            .unwrap();
    }
}

#[test]
fn addresses_are_taken_in_order_and_reused_last() {
    let mut block = block("10.0.0.0/30");
    let none = Ranges::default();
    assert_eq!(
        block.take(2, &holder("a"), &none),
        [addr("10.0.0.0"), addr("10.0.0.1")]
    );
    free(&mut block, &["10.0.0.1", "10.0.0.0"], Duration::ZERO);
    let order = ["10.0.0.2", "10.0.0.3", "10.0.0.1", "10.0.0.0"].map(addr);
    assert_eq!(written(&block).take(9, &holder("b"), &none), order);
}

#[test]
fn reserved_addresses_are_passed_over_and_keep_their_turn() {
    let mut block = block("10.0.0.0/30");
    let reserved: Ranges = ["10.0.0.0/31".parse().unwrap()].into_iter().collect();
    assert_eq!(block.take(1, &holder("a"), &reserved), [addr("10.0.0.2")]);
    let usage = Usage {
        free: 1,
        reserved: 2,
        held: 1,
        cooling: 0,
    };
    assert_eq!(block.usage(&reserved), usage);
    assert_eq!(
        block.take(1, &holder("a"), &Ranges::default()),
        [addr("10.0.0.0")]
    );
}

#[test]
fn released_addresses_rest_for_the_cooldown() {
    let (mut block, cooldown, none) = (
        block("10.0.0.0/31"),
        Duration::from_secs(30),
        Ranges::default(),
    );
    block.take(2, &holder("a"), &none);
    free(&mut block, &["10.0.0.1"], cooldown);
    let mut block = written(&block);
    assert_eq!((block.usage(&none).cooling, block.is_empty()), (1, false));
    assert_eq!(block.held_by("a"), [addr("10.0.0.0")]);
    block.thaw(start() + Duration::from_secs(29), cooldown);
    assert_eq!(block.take(1, &holder("b"), &none), [] as [IpAddr; 0]);
    block.thaw(start() + Duration::from_secs(30), cooldown);
    assert_eq!(block.take(1, &holder("b"), &none), [addr("10.0.0.1")]);
}

#[test]
fn cooldown_ends_when_it_is_shortened_or_the_clock_was_ahead() {
    let (cooldown, none) = (Duration::from_secs(30), Ranges::default());
    for now in [
        start() + Duration::from_secs(1),
        start() - Duration::from_secs(31),
    ] {
        let mut block = block("10.0.0.0/32");
        block.take(1, &holder("a"), &none);
        free(&mut block, &["10.0.0.0"], cooldown);
        let shortened = if now > start() {
            Duration::from_secs(1)
        } else {
            cooldown
        };
        block.thaw(now, shortened);
        assert!(block.is_empty());
    }
}

#[test]
fn a_certain_address_can_be_had_even_while_it_rests() {
    let mut block = block("10.0.0.0/30");
    block.take(1, &holder("a"), &Ranges::default());
    free(&mut block, &["10.0.0.0"], Duration::from_secs(30));
    block.assign(addr("10.0.0.0"), &holder("b")).unwrap();
    block.assign(addr("10.0.0.3"), &holder("b")).unwrap();
    assert_eq!(
        written(&block).held_by("b"),
        [addr("10.0.0.0"), addr("10.0.0.3")]
    );
    let taken = block
        .assign(addr("10.0.0.3"), &holder("c"))
        .unwrap_err()
        .unwrap();
    assert_eq!(taken.attribute, holder("b"));
    assert_eq!(block.assign(addr("10.0.0.4"), &holder("c")), Err(None));
    assert_eq!(block.take(9, &holder("c"), &Ranges::default()).len(), 2);
}

#[test]
fn release_is_guarded_by_handle_and_stamp() {
    let mut block = block("10.0.0.0/30");
    block.take(1, &holder("a"), &Ranges::default());
    let old = block.allocations().next().unwrap().stamp;
    let mut block = written(&block);
    let mut release = |handle, stamp| {
        block.release(
            addr("10.0.0.0"),
            Guard { handle, stamp },
            start(),
            Duration::ZERO,
        )
    };
    assert_eq!(
        release(Some("b"), None),
        Err(Refusal::OtherHandle(Some("a".to_owned())))
    );
    assert_eq!(release(None, Some(1)), Err(Refusal::Reallocated));
    release(Some("A"), old).unwrap();
    assert_eq!(release(Some("a"), old), Err(Refusal::NotAllocated));
}

#[test]
fn renewed_and_reassigned_addresses_have_another_stamp() {
    let mut block = block("10.0.0.0/32");
    block.take(1, &holder("a"), &Ranges::default());
    let stamp = |block: &Block| block.allocations().next().unwrap().stamp;
    let first = stamp(&block);
    let mut block = written(&block);
    block.renew("A");
    let renewed = stamp(&block);
    assert_ne!(renewed, first);
    let mut block = written(&block);
    free(&mut block, &["10.0.0.0"], Duration::ZERO);
    block.take(1, &holder("a"), &Ranges::default());
    assert!(stamp(&block) != first && stamp(&block) != renewed);
}

#[test]
fn equal_attributes_are_stored_once_and_unused_ones_not_at_all() {
    let mut block = block("10.0.0.0/29");
    for handle in ["a", "b", "a"] {
        block.take(1, &holder(handle), &Ranges::default());
    }
    free(&mut block, &["10.0.0.1"], Duration::ZERO);
    let spec = block.to_spec();
    assert_eq!(spec.attributes.len(), 1);
    assert_eq!(
        spec.allocations,
        [Some(0), None, Some(0), None, None, None, None, None]
    );
    assert_eq!(spec.unallocated, [3, 4, 5, 6, 7, 1]);
    assert_eq!(
        spec.sequence_number_for_allocation
            .keys()
            .collect::<Vec<_>>(),
        ["0", "2"]
    );
}

#[test]
fn what_other_tools_keep_with_an_address_survives() {
    let mut block = block("10.0.0.0/31");
    let attribute = AllocationAttribute {
        handle_id: None,
        secondary: [("pod".to_owned(), "web-0".to_owned())].into(),
        alternate_owner_attrs: [("pod".to_owned(), "web-1".to_owned())].into(),
        released_at: None,
    };
    block.take(1, &Arc::new(attribute.clone()), &Ranges::default());
    let mut block = written(&written(&block));
    block.take(1, &holder("a"), &Ranges::default());
    assert_eq!(
        *written(&block).allocations().next().unwrap().attribute,
        attribute
    );
}

#[test]
fn every_write_counts() {
    let block = block("10.0.0.0/31");
    let (first, second) = (block.to_spec(), written(&block).to_spec());
    assert_eq!(first.sequence_number, 1_800_000_000_000_000_001);
    assert_eq!(second.sequence_number, first.sequence_number + 1);
}

#[test]
fn owner_changes() {
    let mut block = block("10.0.0.0/31");
    assert!(block.owned_by(NODE) && !block.owned_by("node") && block.claimed_at() == Some(start()));
    block.disown();
    let mut block = written(&block);
    assert_eq!(
        (block.affinity(), block.claimed_at(), block.owned_by(NODE)),
        (None, None, false)
    );
    block.claim("node-2", start());
    assert_eq!(written(&block).affinity(), Some("host:node-2"));
}

#[test]
fn contradictions_are_refused_and_lost_positions_found() {
    let good = block("10.0.0.0/30").to_spec();
    let mut lost = good.clone();
    lost.unallocated = vec![3, 1];
    assert_eq!(
        decode(lost)
            .unwrap()
            .take(9, &holder("a"), &Ranges::default()),
        ["10.0.0.3", "10.0.0.1", "10.0.0.0", "10.0.0.2"].map(addr)
    );
    let mut twice = good.clone();
    twice.unallocated = vec![0, 0, 1, 2, 3];
    let mut short = good.clone();
    short.allocations.pop();
    let mut dangling = good.clone();
    dangling.allocations[0] = Some(0);
    let mut huge = good.clone();
    huge.cidr = "10.0.0.0/8".parse().unwrap();
    let mut undated = good;
    undated.unallocated.remove(0);
    undated.allocations[0] = Some(0);
    undated.attributes = vec![AllocationAttribute {
        released_at: Some("yesterday".to_owned()),
        ..Default::default()
    }];
    for (spec, field) in [
        (twice, "spec.unallocated[1]"),
        (short, "spec.allocations"),
        (dangling, "spec.allocations[0]"),
        (huge, "spec.cidr"),
        (undated, "spec.attributes[0].releasedAt"),
    ] {
        let broken = decode(spec).unwrap_err();
        assert_eq!(
            (broken.name.as_str(), broken.error.field.as_str()),
            ("the-block", field)
        );
    }
}
