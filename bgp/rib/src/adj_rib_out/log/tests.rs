use super::*;

fn chunk(text: &'static str, own: Vec<Own>) -> Chunk<&'static str> {
    Chunk {
        bytes: Bytes::from_static(text.as_bytes()),
        own,
        units: text,
    }
}

fn read(log: &mut Log<&'static str>, position: u64, peer: u32) -> String {
    let mut out = Vec::new();
    let octets = log.read(position, PeerId(peer), &mut out);
    assert_eq!(octets, out.iter().map(Bytes::len).sum::<usize>());
    assert!(out.iter().all(|bytes| !bytes.is_empty()));
    String::from_utf8(out.concat()).unwrap()
}

#[test]
fn a_member_gets_its_own_part_replaced() {
    let own = |peer, start, end, instead| Own {
        peer: PeerId(peer),
        start,
        end,
        instead: Bytes::from_static(instead),
    };
    let mut log = Log::new();
    log.push(
        chunk("aabbcc", vec![own(1, 0, 2, b""), own(2, 2, 4, b"xy")]),
        3,
    );
    assert_eq!(read(&mut log, 0, 1), "bbcc");
    assert_eq!(read(&mut log, 0, 2), "aaxycc");
    assert_eq!(read(&mut log, 0, 3), "aabbcc");
}

#[test]
fn chunks_go_once_every_reader_has_passed_them() {
    let mut log = Log::new();
    log.push(chunk("one", vec![]), 2);
    log.push(chunk("two", vec![]), 2);
    assert_eq!((log.end(), log.octets()), (2, 6));
    assert_eq!(read(&mut log, 0, 1), "one");
    assert_eq!(read(&mut log, 1, 1), "two");
    assert_eq!(log.octets(), 6);
    let mut skipped = Vec::new();
    log.skip(0, |&text| skipped.push(text));
    assert_eq!(skipped, ["one", "two"]);
    assert_eq!((log.end(), log.octets()), (2, 0));
}
