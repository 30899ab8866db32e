//! From paths to octets: attributes encoded once, as many prefixes behind them as fit.

use bgp_wire::{
    EncodeError, Message, Nlri, ReachBlock, RefreshSubtype, RouteRefresh, pack_end_of_rib,
    pack_unreach,
};
use bytes::BytesMut;

use crate::export::Treatment;
use crate::key::{FamilyIndex, Key, Unit};
use crate::path::Said;
use crate::peer::Shared;

/// Appends messages that announce what was said about these prefixes.
///
/// What cannot be put into a message for this kind of peer is withdrawn instead, so that it does
/// not keep an older path (RFC 8654 §4).
pub(crate) fn announce<U: Unit>(
    out: &mut BytesMut,
    shared: &Shared,
    treatment: &Treatment,
    said: Said,
    units: impl Iterator<Item = U>,
) {
    let routes: Vec<Nlri> = units.map(Unit::nlri).collect();
    let before = out.len();
    if try_announce::<U::Key>(out, shared, treatment, said, &routes).is_err() {
        out.truncate(before);
        put_unreach::<U::Key>(out, treatment, &routes);
    }
}

fn try_announce<K: Key>(
    out: &mut BytesMut,
    shared: &Shared,
    treatment: &Treatment,
    said: Said,
    routes: &[Nlri],
) -> Result<(), EncodeError> {
    let Some(first) = routes.first() else {
        return Ok(());
    };
    let Some(next_hop) = treatment.next_hop(shared, first.prefix, said) else {
        put_unreach::<K>(out, treatment, routes);
        return Ok(());
    };
    let attributes = treatment.attributes(shared, said)?;
    let family = K::INDEX.family();
    ReachBlock::new(&attributes, next_hop, family, &treatment.params)?.pack(routes, out)?;
    Ok(())
}

/// Appends messages that withdraw these prefixes.
pub(crate) fn withdraw<U: Unit>(
    out: &mut BytesMut,
    treatment: &Treatment,
    units: impl Iterator<Item = U>,
) {
    let routes: Vec<Nlri> = units.map(Unit::nlri).collect();
    put_unreach::<U::Key>(out, treatment, &routes);
}

fn put_unreach<K: Key>(out: &mut BytesMut, treatment: &Treatment, routes: &[Nlri]) {
    let family = K::INDEX.family();
    let packed = pack_unreach(family, routes, &treatment.params, out);
    debug_assert!(packed.is_ok(), "all routes are of the family of K");
}

/// Appends the End-of-RIB of a family (RFC 4724 §2).
pub(crate) fn end_of_rib(out: &mut BytesMut, family: FamilyIndex) {
    pack_end_of_rib(family.family(), out);
}

/// Appends a mark around the answer to a route refresh (RFC 7313 §3.2).
pub(crate) fn refresh_mark(
    out: &mut BytesMut,
    treatment: &Treatment,
    family: FamilyIndex,
    subtype: RefreshSubtype,
) {
    let mark = Message::RouteRefresh(RouteRefresh {
        family: family.family(),
        subtype,
    });
    let encoded = mark.encode(&treatment.params, out);
    debug_assert!(encoded.is_ok(), "a route refresh always has an encoding");
}
