//! Reading UPDATE messages (RFC 4271 §6.3 as revised by RFC 7606).

use std::sync::Arc;

use super::{MAX_VERDICTS, Reach, Unreach, Update, mp};
use crate::attribute::AttributeType;
use crate::attribute::parse::{Fault, Found, Raw, missing};
use crate::notification::subcode::update as subcode;
use crate::reader::Reader;
use crate::{AttributeError, Disposition, Error, Family, NextHop, Nlri, Params, header, nlri};

/// The faults of one UPDATE.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    listed: Vec<AttributeError>,
    withdraws: bool,
}

impl Verdicts {
    /// Notes a fault; one that needs a session reset is returned as the error it is.
    pub(crate) fn add(&mut self, error: AttributeError) -> Result<(), AttributeError> {
        let is_first_withdraw = match error.disposition {
            Disposition::Reset => return Err(error),
            Disposition::Withdraw => !std::mem::replace(&mut self.withdraws, true),
            Disposition::Discard => false,
        };
        if self.listed.len() == MAX_VERDICTS && is_first_withdraw {
            // The one that decides is always listed.
            self.listed.pop();
        }
        if self.listed.len() < MAX_VERDICTS {
            self.listed.push(error);
        }
        Ok(())
    }

    /// The fault for which routes are to be withdrawn, as one that ends the session.
    fn escalate(self) -> Option<AttributeError> {
        let is_withdraw = |error: &AttributeError| error.disposition == Disposition::Withdraw;
        let mut error = self.listed.into_iter().find(is_withdraw)?;
        error.disposition = Disposition::Reset;
        Some(error)
    }
}

impl Update {
    /// `message` is framed: at least 23 octets.
    pub(crate) fn decode(message: &[u8], params: &Params) -> Result<Update, Error> {
        let mut reader = Reader::new(&message[header::LEN..]);
        let withdrawn = field(
            &mut reader,
            "the withdrawn routes do not end within the message",
        )?;
        let attributes = field(
            &mut reader,
            "the path attributes do not end within the message",
        )?;
        let announced = reader.rest();
        let withdrawn = body_routes(withdrawn, "Withdrawn Routes", params)?;
        let announced = body_routes(announced, "NLRI", params)?;
        if withdrawn.is_empty() && attributes.is_empty() && announced.is_empty() {
            return Ok(Update::end_of_rib(Family::IPV4_UNICAST));
        }
        let mut verdicts = Verdicts::default();
        let found = Found::read(attributes, params, &mut verdicts).map_err(Error::Attribute)?;
        let routes = Routes::read(withdrawn, announced, &found, params, &mut verdicts)
            .map_err(Error::Attribute)?;
        routes.into_update(found, params, verdicts)
    }
}

/// The routes of an UPDATE from all four places where they can stand.
struct Routes {
    unreach: Vec<Unreach>,
    reach: Vec<Reach>,
    /// Routes are announced, even if only of a family that is not in use.
    announces: bool,
}

impl Routes {
    fn read(
        withdrawn: Vec<Nlri>,
        announced: Vec<Nlri>,
        found: &Found<'_>,
        params: &Params,
        verdicts: &mut Verdicts,
    ) -> Result<Routes, AttributeError> {
        let mut routes = Routes {
            unreach: Vec::new(),
            reach: Vec::new(),
            announces: !announced.is_empty(),
        };
        let family = Family::IPV4_UNICAST;
        if !withdrawn.is_empty() {
            routes.unreach.push(Unreach {
                family,
                nlri: withdrawn,
            });
        }
        if let Some(raw) = &found.mp_unreach {
            match mp::unreach(raw, params) {
                Ok(unreach) => routes.unreach.push(unreach),
                Err(fault) => verdicts.add(raw.error(fault))?,
            }
        }
        if let Some(raw) = &found.mp_reach {
            match mp::reach(raw, params) {
                Ok(reach) => routes.add_mp_reach(reach, raw, verdicts)?,
                Err(fault) => {
                    routes.announces = true;
                    verdicts.add(raw.error(fault))?;
                }
            }
        }
        if !announced.is_empty() {
            let next_hop = body_next_hop(found.next_hop, verdicts)?;
            let reach = Reach {
                family,
                next_hop,
                nlri: announced,
            };
            routes.reach.push(reach);
        }
        Ok(routes)
    }

    fn add_mp_reach(
        &mut self,
        reach: Reach,
        raw: &Raw<'_>,
        verdicts: &mut Verdicts,
    ) -> Result<(), AttributeError> {
        if reach.nlri.is_empty() {
            return Ok(());
        }
        if !reach.next_hop.is_host() {
            verdicts.add(raw.error(NO_HOST))?;
        }
        self.announces = true;
        self.reach.push(reach);
        Ok(())
    }

    /// Adds the attributes, or does what the faults ask for.
    fn into_update(
        mut self,
        found: Found<'_>,
        params: &Params,
        mut verdicts: Verdicts,
    ) -> Result<Update, Error> {
        let has_others = found.has_others;
        // An empty MP_UNREACH_NLRI is an End-of-RIB, but only when there is nothing else.
        if has_others || self.announces || self.unreach.len() > 1 || !verdicts.listed.is_empty() {
            self.unreach.retain(|unreach| !unreach.nlri.is_empty());
        }
        // A family that is not in use has been checked like any other; its routes lead nowhere.
        self.unreach
            .retain(|unreach| params.family(unreach.family).is_some());
        self.reach
            .retain(|reach| params.family(reach.family).is_some());
        let mut attributes = None;
        if !self.reach.is_empty() && !verdicts.withdraws {
            match found.into_attributes(params) {
                Ok(set) => attributes = Some(Arc::new(set)),
                Err(error) => verdicts.add(error).map_err(Error::Attribute)?,
            }
        }
        if verdicts.withdraws {
            // RFC 7606 §5.2: the routes to withdraw may have got lost with the attribute that cannot be read.
            if has_others && !self.announces {
                return verdicts
                    .escalate()
                    .map_or(Ok(Update::default()), |error| Err(Error::Attribute(error)));
            }
            let withdrawn = self.reach.drain(..);
            self.unreach
                .extend(withdrawn.map(|Reach { family, nlri, .. }| Unreach { family, nlri }));
        }
        Ok(Update {
            unreach: self.unreach,
            reach: self.reach,
            attributes,
            verdicts: verdicts.listed,
        })
    }
}

const NO_HOST: Fault = Fault::new(
    Disposition::Withdraw,
    subcode::INVALID_NEXT_HOP,
    "the next hop is no router's address",
);

/// A field behind its two-octet length.
fn field<'a>(reader: &mut Reader<'a>, problem: &'static str) -> Result<&'a [u8], Error> {
    let value = reader.u16().and_then(|len| reader.take(len.into()));
    value.ok_or(Error::MalformedAttributeList { problem })
}

/// IPv4 routes in the fields of RFC 4271.
fn body_routes(bytes: &[u8], field: &'static str, params: &Params) -> Result<Vec<Nlri>, Error> {
    let family = Family::IPV4_UNICAST;
    let add_path = params
        .family(family)
        .is_some_and(|params| params.add_path_receive);
    nlri::decode_all(bytes, family, add_path)
        .map_err(|problem| Error::InvalidNetworkField { field, problem })
}

/// NEXT_HOP of routes in the NLRI field. Any address stands in for one that cannot be read: it withdraws the routes.
fn body_next_hop(raw: Option<Raw<'_>>, verdicts: &mut Verdicts) -> Result<NextHop, AttributeError> {
    let unreadable = NextHop::V4([0; 4].into());
    let Some(raw) = raw else {
        // When an attribute before it could not be read, that fault is the one to report.
        if !verdicts.withdraws {
            verdicts.add(missing(AttributeType::NEXT_HOP))?;
        }
        return Ok(unreadable);
    };
    let Ok(octets) = <[u8; 4]>::try_from(raw.value) else {
        let fault = Fault::new(
            Disposition::Withdraw,
            subcode::LENGTH,
            "has not four octets",
        );
        verdicts.add(raw.error(fault))?;
        return Ok(unreadable);
    };
    let next_hop = NextHop::V4(octets.into());
    if !next_hop.is_host() {
        verdicts.add(raw.error(NO_HOST))?;
    }
    Ok(next_hop)
}
