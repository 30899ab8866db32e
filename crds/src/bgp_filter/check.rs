//! What the types of a filter cannot express.

use super::{BgpFilterSpec, FilterAction, FilterRule};
use crate::FieldError;
use crate::bgp_configuration::CommunityValue;

const COMMUNITY: &str = "write 65000:100 or 65000:100:200";
/// Greatest priority: the LOCAL_PREF it stands for is 1.
const MAX_PRIORITY: u32 = 2_147_483_646;

impl BgpFilterSpec {
    pub(super) fn check(&self, errors: &mut Vec<FieldError>) {
        for (list, rules, v6) in [
            ("exportV4", &self.export_v4, false),
            ("importV4", &self.import_v4, false),
            ("exportV6", &self.export_v6, true),
            ("importV6", &self.import_v6, true),
        ] {
            for (index, rule) in rules.iter().enumerate() {
                let mut found = Found {
                    at: format!("spec.{list}[{index}]"),
                    errors,
                };
                rule.check(v6, &mut found);
            }
        }
    }
}

struct Found<'a> {
    at: String,
    errors: &'a mut Vec<FieldError>,
}

impl Found<'_> {
    fn push(&mut self, field: &str, problem: impl Into<String>, remedy: &str) {
        let field = format!("{}.{field}", self.at);
        self.errors.push(FieldError::new(field, problem, remedy));
    }
}

impl FilterRule {
    fn check(&self, v6: bool, found: &mut Found<'_>) {
        if let Some(cidr) = self.cidr.filter(|cidr| cidr.is_ipv6() != v6) {
            let (problem, remedy) = if v6 {
                (
                    format!("{cidr} is IPv4"),
                    "move the rule to the list for V4",
                )
            } else {
                (
                    format!("{cidr} is IPv6"),
                    "move the rule to the list for V6",
                )
            };
            found.push("cidr", problem, remedy);
        }
        match (self.cidr, self.match_operator) {
            (Some(_), None) => found.push(
                "matchOperator",
                "is missing beside cidr",
                "write Equal, NotEqual, In or NotIn",
            ),
            (None, Some(_)) => found.push(
                "cidr",
                "is missing beside matchOperator",
                "write a prefix, or remove matchOperator",
            ),
            (Some(_), Some(_)) | (None, None) => {}
        }
        if self.prefix_length.is_some() && self.cidr.is_none() {
            found.push(
                "prefixLength",
                "is about the prefixes in cidr, which is not set",
                "set cidr or remove it",
            );
        }
        self.check_matches(found);
        self.check_operations(found);
    }

    fn check_matches(&self, found: &mut Found<'_>) {
        if let Some(communities) = &self.communities {
            match &communities.values[..] {
                [value] if CommunityValue::parse(value).is_some() => {}
                [value] => {
                    let problem = format!("{value:?} is not a community");
                    found.push("communities.values[0]", problem, COMMUNITY);
                }
                _ => found.push(
                    "communities.values",
                    "does not hold exactly one community",
                    "write one; use a rule for each",
                ),
            }
        }
        if self.priority.is_some_and(|p| p == 0 || p > MAX_PRIORITY) {
            found.push("priority", "is out of range", "write 1 to 2147483646");
        }
    }

    fn check_operations(&self, found: &mut Found<'_>) {
        if self.action == FilterAction::Reject && !self.operations.is_empty() {
            found.push(
                "operations",
                "change what is accepted, but the action is Reject",
                "set action to Accept or remove them",
            );
        }
        for (index, operation) in self.operations.iter().enumerate() {
            let at = format!("operations[{index}]");
            if let Some(add) = &operation.add_community
                && CommunityValue::parse(&add.value).is_none()
            {
                let problem = format!("{:?} is not a community", add.value);
                found.push(&format!("{at}.addCommunity.value"), problem, COMMUNITY);
                continue;
            }
            if operation
                .set_priority
                .is_some_and(|set| set.value == 0 || set.value > MAX_PRIORITY)
            {
                let field = format!("{at}.setPriority.value");
                found.push(&field, "is out of range", "write 1 to 2147483646");
            }
            if operation.change().is_none() {
                found.push(
                    &at,
                    "does not say exactly one thing",
                    "set one of addCommunity, prependASPath and setPriority",
                );
            }
        }
    }
}
