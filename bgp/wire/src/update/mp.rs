//! MP_REACH_NLRI and MP_UNREACH_NLRI (RFC 4760, RFC 7606 §5.3, §7.11, §7.12).

use super::{Reach, Unreach};
use crate::attribute::parse::{Fault, Raw};
use crate::notification::subcode::update as subcode;
use crate::reader::Reader;
use crate::{Disposition, Family, FamilyParams, NextHop, Params, nlri};

/// Routes that cannot be found can be neither installed nor withdrawn, so only a reset is left.
const fn reset(problem: &'static str) -> Fault {
    Fault::new(Disposition::Reset, subcode::OPTIONAL_ATTRIBUTE, problem)
}

pub(super) fn unreach(raw: &Raw<'_>, params: &Params) -> Result<Unreach, Fault> {
    let mut reader = Reader::new(raw.value);
    let (family, family_params) = family(&mut reader, params)?;
    let nlri =
        nlri::decode_all(reader.rest(), family, family_params.add_path_receive).map_err(reset)?;
    Ok(Unreach { family, nlri })
}

pub(super) fn reach(raw: &Raw<'_>, params: &Params) -> Result<Reach, Fault> {
    let mut reader = Reader::new(raw.value);
    let (family, family_params) = family(&mut reader, params)?;
    let len = reader.u8().ok_or(reset("is too short"))?;
    let next_hop = reader
        .take(len.into())
        .ok_or(reset("the next hop is cut off"))?;
    let next_hop = NextHop::decode(next_hop, family, family_params.extended_next_hop);
    let next_hop = next_hop.ok_or(reset("the length of the next hop does not fit the family"))?;
    // Reserved, to be ignored (RFC 4760 §3), but there it must be.
    reader.u8().ok_or(reset("is too short"))?;
    let nlri =
        nlri::decode_all(reader.rest(), family, family_params.add_path_receive).map_err(reset)?;
    Ok(Reach {
        family,
        next_hop,
        nlri,
    })
}

fn family<'p>(
    reader: &mut Reader<'_>,
    params: &'p Params,
) -> Result<(Family, &'p FamilyParams), Fault> {
    let fields = reader.u16().zip(reader.u8());
    let (afi, safi) = fields.ok_or(reset("is too short"))?;
    let family = Family::new(afi, safi);
    let negotiated = params.family(family).filter(|_| family.is_supported());
    let problem = "its family has not been negotiated";
    let negotiated = negotiated.ok_or(Fault::new(
        Disposition::Discard,
        subcode::OPTIONAL_ATTRIBUTE,
        problem,
    ))?;
    Ok((family, negotiated))
}
