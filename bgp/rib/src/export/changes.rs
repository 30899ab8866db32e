//! Lists of changes that an export policy asks for, each known by a number.
//!
//! What is said about a prefix is copied and sorted by, so it cannot carry a list. A list lives as
//! long as the treatment it belongs to; there are as many as the policy's rules can make of the
//! prefixes that there are.

use std::cell::RefCell;

use bgp_wire::AttributesBuilder;
use hashbrown::HashMap;

use crate::path::ChangesId;
use crate::policy::Change;

/// The lists of one treatment. Numbers are given on the way, which changes nothing that a
/// treatment is: all lists of changes are alike when treatments are compared.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChangeLists(RefCell<Lists>);

#[derive(Debug, Clone, Default)]
struct Lists {
    lists: Vec<Box<[Change]>>,
    /// Asked for last, and mostly next too.
    last: ChangesId,
    numbers: HashMap<Box<[Change]>, ChangesId>,
}

impl PartialEq for ChangeLists {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for ChangeLists {}

impl ChangeLists {
    /// The number of a list; equal lists have equal numbers.
    pub(super) fn number(&self, changes: &[&Change]) -> ChangesId {
        if changes.is_empty() {
            return ChangesId::NONE;
        }
        let mut lists = self.0.borrow_mut();
        let last = lists.get(lists.last);
        if !last.iter().eq(changes.iter().copied()) {
            lists.last = lists.find_or_add(changes);
        }
        lists.last
    }

    /// Makes the changes of a list.
    pub(super) fn apply(&self, number: ChangesId, told: &mut AttributesBuilder) {
        for change in self.0.borrow().get(number) {
            change.apply(told);
        }
    }
}

impl Lists {
    fn get(&self, number: ChangesId) -> &[Change] {
        let index = (number.0 as usize).checked_sub(1);
        let list = index.and_then(|index| self.lists.get(index));
        list.map_or(&[], |list| list)
    }

    fn find_or_add(&mut self, changes: &[&Change]) -> ChangesId {
        let list: Box<[Change]> = changes.iter().copied().cloned().collect();
        if let Some(number) = self.numbers.get(&list) {
            return *number;
        }
        self.lists.push(list.clone());
        let number = ChangesId(self.lists.len() as u32);
        self.numbers.insert(list, number);
        number
    }
}
