//! Blocks as objects: decoding refuses contradictions, encoding shares equal attributes and counts the write.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crds::core::{parse_time, time_text};
use crds::ipam_block::AllocationAttribute;
use crds::{FieldError, IpamBlock, IpamBlockSpec, Resource};

use super::{Block, MAX_SIZE, Slot};

/// Texts have whole seconds: an address rests rather longer than too short.
const ROUND_UP: Duration = Duration::from_nanos(999_999_999);

/// A block object that contradicts itself: no address of it is given out or freed until it is mended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("IPAMBlock {name} {error}")]
pub struct BrokenBlock {
    /// Name of the object.
    pub name: String,
    /// What is wrong with it.
    pub error: FieldError,
}

impl BrokenBlock {
    /// A block whose object cannot be read at all.
    pub(crate) fn unreadable(name: &str, problem: String) -> BrokenBlock {
        BrokenBlock {
            name: name.to_owned(),
            error: FieldError::new("spec", problem, "mend or delete the object"),
        }
    }
}

impl Block {
    /// Reads a block. Positions that are neither free nor in use count as free.
    ///
    /// # Errors
    /// The first contradiction in it.
    pub(crate) fn decode(object: &IpamBlock) -> Result<Block, BrokenBlock> {
        let broken = |error| BrokenBlock {
            name: object.name().to_owned(),
            error,
        };
        let spec = &object.spec;
        if spec.size() > u128::from(MAX_SIZE) {
            let problem = format!("{} has more than {MAX_SIZE} addresses", spec.cidr);
            return Err(broken(FieldError::new(
                "spec.cidr",
                problem,
                "delete the object; blocks are /20 or /116 at most",
            )));
        }
        if let Err(errors) = object.validate()
            && let Some(error) = errors.into_iter().next()
        {
            return Err(broken(error));
        }
        let slots = decode_slots(spec).map_err(broken)?;
        let mut free: VecDeque<u32> = spec.unallocated.iter().copied().collect();
        let mut listed = vec![false; slots.len()];
        for ordinal in &free {
            // Validation has bounded the positions.
            listed[*ordinal as usize] = true;
        }
        let unmentioned = (0..)
            .zip(&slots)
            .filter(|(ordinal, slot)| **slot == Slot::Free && !listed[*ordinal as usize]);
        free.extend(unmentioned.map(|(ordinal, _)| ordinal));
        Ok(Block {
            cidr: spec.cidr,
            affinity: spec
                .affinity
                .clone()
                .filter(|affinity| !affinity.is_empty()),
            claimed_at: spec.affinity_claim_time.as_deref().and_then(parse_time),
            slots,
            free,
            sequence: u64::try_from(spec.sequence_number).unwrap_or(0),
        })
    }

    /// The block as a new object's spec.
    pub(crate) fn to_spec(&self) -> IpamBlockSpec {
        let mut spec = IpamBlockSpec {
            cidr: self.cidr,
            affinity: None,
            affinity_claim_time: None,
            allocations: Vec::new(),
            unallocated: Vec::new(),
            attributes: Vec::new(),
            sequence_number: 0,
            sequence_number_for_allocation: BTreeMap::new(),
            strict_affinity: false,
            deleted: false,
        };
        self.encode(&mut spec);
        spec
    }

    /// Writes the block into its object and counts the write, so that the object differs from before in any case.
    pub(crate) fn encode(&self, spec: &mut IpamBlockSpec) {
        spec.affinity.clone_from(&self.affinity);
        spec.affinity_claim_time = self.claimed_at.map(time_text);
        spec.unallocated = self.free.iter().copied().collect();
        spec.sequence_number = i64::try_from(self.sequence.saturating_add(1)).unwrap_or(i64::MAX);
        spec.allocations.clear();
        spec.attributes.clear();
        spec.sequence_number_for_allocation.clear();
        let mut known = BTreeMap::new();
        for (ordinal, slot) in self.slots.iter().enumerate() {
            let attribute = match slot {
                Slot::Free => None,
                Slot::Held { attribute, stamp } => {
                    if let Some(stamp) = stamp.and_then(|stamp| i64::try_from(stamp).ok()) {
                        spec.sequence_number_for_allocation
                            .insert(ordinal.to_string(), stamp);
                    }
                    Some(AllocationAttribute::clone(attribute))
                }
                Slot::Cooling { released_at } => Some(AllocationAttribute {
                    released_at: Some(time_text(*released_at + ROUND_UP)),
                    ..Default::default()
                }),
            };
            spec.allocations.push(
                attribute.map(|attribute| intern(attribute, &mut known, &mut spec.attributes)),
            );
        }
    }
}

fn decode_slots(spec: &IpamBlockSpec) -> Result<Vec<Slot>, FieldError> {
    let attributes: Vec<Arc<AllocationAttribute>> =
        spec.attributes.iter().cloned().map(Arc::new).collect();
    let mut slots = Vec::with_capacity(spec.allocations.len());
    for (ordinal, allocation) in spec.allocations.iter().enumerate() {
        let Some(index) = allocation else {
            slots.push(Slot::Free);
            continue;
        };
        // Validation has bounded the index.
        let attribute = &attributes[*index as usize];
        slots.push(match attribute.released_at.as_deref() {
            Some(text) => Slot::Cooling {
                released_at: release_time(*index, text)?,
            },
            None => Slot::Held {
                attribute: Arc::clone(attribute),
                stamp: spec
                    .sequence_number_for_allocation
                    .get(&ordinal.to_string())
                    .and_then(|stamp| u64::try_from(*stamp).ok()),
            },
        });
    }
    Ok(slots)
}

fn release_time(index: u32, text: &str) -> Result<SystemTime, FieldError> {
    parse_time(text).ok_or_else(|| {
        let field = format!("spec.attributes[{index}].releasedAt");
        FieldError::new(
            field,
            format!("{text:?} is not a time"),
            "write one like 2026-01-31T12:00:00Z",
        )
    })
}

type AttributeKey = (
    Option<String>,
    BTreeMap<String, String>,
    BTreeMap<String, String>,
    Option<String>,
);

fn intern(
    attribute: AllocationAttribute,
    known: &mut BTreeMap<AttributeKey, u32>,
    attributes: &mut Vec<AllocationAttribute>,
) -> u32 {
    let copy = attribute.clone();
    let key = (
        copy.handle_id,
        copy.secondary,
        copy.alternate_owner_attrs,
        copy.released_at,
    );
    *known.entry(key).or_insert_with(|| {
        attributes.push(attribute);
        attributes.len() as u32 - 1
    })
}
