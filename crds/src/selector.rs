//! Calico's selector language over labels.
//!
//! `all()`, `global()`, `has(key)`, `key == 'value'`, `key != 'value'`, `key in {'a', 'b'}`, `key not in {'a'}`,
//! `key contains 'x'`, `key starts with 'x'`, `key ends with 'x'`, `!`, `&&`, `||` and parentheses, in the usual order
//! of binding. The empty selector chooses everything. As in Calico `!=` and `not in` hold for objects without the label.
//! Length and nesting are bounded, so no text can exhaust the stack.

mod lex;
mod parse;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use crate::FieldError;

/// A parsed selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector(Expression);

/// Why a text is not a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at character {position}: {problem}")]
pub struct ParseError {
    /// Where, counted in characters from 1.
    pub position: usize,
    /// What was expected and what was found.
    pub problem: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expression {
    All,
    Not(Box<Expression>),
    And(Vec<Expression>),
    Or(Vec<Expression>),
    Label(String, Test),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Present,
    Equal(String),
    NotEqual(String),
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Contains(String),
    StartsWith(String),
    EndsWith(String),
}

impl Selector {
    /// The selector that chooses everything.
    pub fn all() -> Selector {
        Selector(Expression::All)
    }

    /// Reads a selector.
    pub fn parse(text: &str) -> Result<Selector, ParseError> {
        parse::parse(text).map(Selector)
    }

    /// Whether an object with these labels is chosen.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.matches(labels)
    }

    /// Whether every object is chosen, whatever its labels.
    pub fn is_all(&self) -> bool {
        self.0 == Expression::All
    }
}

impl Expression {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Expression::All => true,
            Expression::Not(inner) => !inner.matches(labels),
            Expression::And(parts) => parts.iter().all(|part| part.matches(labels)),
            Expression::Or(parts) => parts.iter().any(|part| part.matches(labels)),
            Expression::Label(key, test) => test.matches(labels.get(key).map(String::as_str)),
        }
    }
}

impl Test {
    fn matches(&self, value: Option<&str>) -> bool {
        match self {
            Test::Present => value.is_some(),
            Test::Equal(text) => value == Some(text),
            Test::NotEqual(text) => value != Some(text),
            Test::In(set) => value.is_some_and(|v| set.contains(v)),
            Test::NotIn(set) => !value.is_some_and(|v| set.contains(v)),
            Test::Contains(text) => value.is_some_and(|v| v.contains(text)),
            Test::StartsWith(text) => value.is_some_and(|v| v.starts_with(text)),
            Test::EndsWith(text) => value.is_some_and(|v| v.ends_with(text)),
        }
    }
}

impl FromStr for Selector {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Selector::parse(text)
    }
}

/// Writes a form that reads back as the same selector.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expression::All => f.write_str("all()"),
            Expression::Not(inner) => write!(f, "!{inner}"),
            Expression::And(parts) => write_joined(f, parts, " && "),
            Expression::Or(parts) => write_joined(f, parts, " || "),
            Expression::Label(key, Test::Present) => write!(f, "has({key})"),
            Expression::Label(key, Test::Equal(text)) => write!(f, "{key} == {}", quoted(text)),
            Expression::Label(key, Test::NotEqual(text)) => write!(f, "{key} != {}", quoted(text)),
            Expression::Label(key, Test::In(set)) => write!(f, "{key} in {}", quoted_set(set)),
            Expression::Label(key, Test::NotIn(set)) => {
                write!(f, "{key} not in {}", quoted_set(set))
            }
            Expression::Label(key, Test::Contains(text)) => {
                write!(f, "{key} contains {}", quoted(text))
            }
            Expression::Label(key, Test::StartsWith(text)) => {
                write!(f, "{key} starts with {}", quoted(text))
            }
            Expression::Label(key, Test::EndsWith(text)) => {
                write!(f, "{key} ends with {}", quoted(text))
            }
        }
    }
}

fn write_joined(f: &mut fmt::Formatter<'_>, parts: &[Expression], separator: &str) -> fmt::Result {
    f.write_str("(")?;
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            f.write_str(separator)?;
        }
        write!(f, "{part}")?;
    }
    f.write_str(")")
}

// A text read from a selector holds at most one of the two quotes.
fn quoted(text: &str) -> String {
    if text.contains('\'') {
        format!("\"{text}\"")
    } else {
        format!("'{text}'")
    }
}

fn quoted_set(set: &BTreeSet<String>) -> String {
    let values: Vec<String> = set.iter().map(|text| quoted(text)).collect();
    format!("{{{}}}", values.join(", "))
}

/// Checks an optional selector field of a resource.
pub(crate) fn check_selector(field: &str, text: Option<&str>, errors: &mut Vec<FieldError>) {
    let Some(text) = text else { return };
    if let Err(error) = Selector::parse(text) {
        let problem = format!("{text:?} is not a selector: {error}");
        errors.push(FieldError::new(
            field,
            problem,
            "write one like all(), has(key) or key == 'value'",
        ));
    }
}

#[cfg(test)]
mod tests;
