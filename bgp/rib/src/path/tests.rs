use super::*;

fn path(peer: u32) -> Path {
    Path::new(PeerId(peer), AttrId(peer), 0, None)
}

fn peers(paths: &Paths) -> Vec<u32> {
    paths.iter().map(|path| path.peer.0).collect()
}

#[test]
fn a_path_is_sixteen_bytes_and_the_set_three_words() {
    assert_eq!(size_of::<Path>(), 16);
    assert_eq!(size_of::<Paths>(), 24);
}

#[test]
fn removal_keeps_the_order_of_the_others() {
    let mut paths = Paths::default();
    assert_eq!(paths.remove(0), None);
    for peer in 0..4 {
        paths.push(path(peer));
    }
    let mut remove = |position| paths.remove(position).map(|path| path.peer.0);
    assert_eq!(remove(0), Some(0));
    assert_eq!(remove(1), Some(2));
    assert_eq!(peers(&paths), [1, 3]);
    let mut remove = |position| paths.remove(position).map(|path| path.peer.0);
    assert_eq!(remove(5), None);
    assert_eq!(remove(1), Some(3));
    assert_eq!(remove(0), Some(1));
    assert!(paths.is_empty());
}

/// RFC 7911 §3: what an identifier stands for must not change behind the back of the peer.
#[test]
fn identifiers_stay_and_are_not_given_again_soon() {
    let ids = |paths: &Paths| paths.iter().map(|path| path.id).collect::<Vec<_>>();
    let mut paths = Paths::default();
    for peer in 0..3 {
        paths.push(path(peer));
    }
    assert_eq!(ids(&paths), [1, 2, 3]);
    paths.swap(0, 2);
    paths.remove(1);
    paths.push(path(3));
    assert_eq!(ids(&paths), [3, 1, 4]);
}

#[test]
fn identifiers_that_are_free_again_are_found_at_the_end() {
    let mut paths = Paths::default();
    for peer in 0..3 {
        paths.push(path(peer));
    }
    paths.get_mut(1).unwrap().id = u16::MAX;
    paths.push(path(3));
    let ids: Vec<_> = paths.iter().map(|path| path.id).collect();
    assert_eq!(ids, [1, u16::MAX, 3, 2]);
}

#[test]
fn swap_reaches_the_path_in_place_and_the_others() {
    let mut paths = Paths::default();
    for peer in 0..3 {
        paths.push(path(peer));
    }
    paths.swap(2, 0);
    assert_eq!(peers(&paths), [2, 1, 0]);
    paths.swap(1, 2);
    assert_eq!(peers(&paths), [2, 0, 1]);
    paths.swap(0, 0);
    assert_eq!(peers(&paths), [2, 0, 1]);
}

#[test]
fn position_tells_paths_of_one_peer_apart_by_identifier() {
    let mut paths = Paths::default();
    paths.push(path(1));
    paths.push(Path {
        path_id: 7,
        ..path(1)
    });
    assert_eq!(paths.position(PeerId(1), 7), Some(1));
    assert_eq!(paths.position(PeerId(1), 0), Some(0));
    assert_eq!(paths.position(PeerId(2), 0), None);
}
