//! Values that have a form: parsed when read, so that nobody validates twice.

mod asn;
mod cidr;
mod condition;
mod duration;

pub use asn::Asn;
pub use cidr::Cidr;
pub(crate) use cidr::cidr_or_address_list;
pub use condition::{Condition, ConditionStatus};
pub use duration::GoDuration;
