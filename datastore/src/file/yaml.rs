//! YAML text to the JSON value it means.

use std::fmt;

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Deepest nesting within a line. The parser's own limit comes too late: its time grows with the square of the depth.
const MAX_DEPTH: usize = 200;

/// Reads one document. `line` is where it begins in its file; the error says the line in the file.
///
/// Depth and repetition by aliases are bounded; a key that appears twice is an error.
pub(super) fn parse(text: &str, line: usize) -> Result<Value, String> {
    if most_open_brackets(text) > MAX_DEPTH
        || text.lines().any(|line| leading_dashes(line) > MAX_DEPTH)
    {
        return Err(format!("nested deeper than {MAX_DEPTH} levels"));
    }
    let error = match serde_yaml::from_str::<Strict>(text) {
        Ok(Strict(value)) => return Ok(value),
        Err(error) => error,
    };
    if error.location().is_none() || line == 1 {
        return Err(error.to_string());
    }
    // Once more with as many lines before it as in the file, so that every line in the message is right.
    let padded = "\n".repeat(line - 1) + text;
    Err(serde_yaml::from_str::<Strict>(&padded)
        .err()
        .unwrap_or(error)
        .to_string())
}

/// Counted without regard to quotes: more than there are in truth, but only texts that are no manifests have so many.
fn most_open_brackets(text: &str) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// Lists and keys that begin on one line: `- - - a`.
fn leading_dashes(line: &str) -> usize {
    line.bytes()
        .take_while(|byte| b" -?:".contains(byte))
        .filter(|byte| *byte != b' ')
        .count()
}

/// Writes one document.
pub(super) fn write(value: &Value) -> Result<String, String> {
    serde_yaml::to_string(value).map_err(|error| error.to_string())
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        if value.is_finite() {
            Ok(value.into())
        } else {
            Err(E::custom("a number must be finite"))
        }
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Strict(item)) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            if fields.contains_key(&name) {
                return Err(A::Error::custom(format!("{name:?} appears twice")));
            }
            let Strict(value) = access.next_value()?;
            fields.insert(name, value);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_become_json() {
        let value = parse(
            "---\na: 1\nb: ['x', null, -2, 1.5, true]\nc: {d: 0123}\n",
            1,
        )
        .unwrap();
        assert_eq!(
            value,
            json!({ "a": 1, "b": ["x", null, -2, 1.5, true], "c": { "d": "0123" } })
        );
    }

    #[test]
    fn errors_say_the_line_in_the_file() {
        assert!(parse("a: 'x\n", 5).unwrap_err().contains("line 5"));
        assert!(
            parse("a: 1\na: 2\n", 7)
                .unwrap_err()
                .contains("\"a\" appears twice")
        );
    }

    #[test]
    fn bombs_are_errors() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            let refs = vec![format!("*a{}", i - 1); 10].join(", ");
            bomb += &format!("a{i}: &a{i} [{refs}]\n");
        }
        assert!(parse(&bomb, 1).is_err());
        assert!(parse(&"[".repeat(100_000), 1).is_err());
        assert!(parse(&"{a: ".repeat(100_000), 1).is_err());
        assert!(parse(&"- ".repeat(100_000), 1).is_err());
        assert!(parse("a: &a [*a]\n", 1).is_err());
    }

    #[test]
    fn what_is_written_reads_back() {
        let value = json!({ "a": "true", "b": "0123", "c": "x: y\nz", "d": { "0": 9_007_199_254_740_993_i64 }, "e": "é" });
        assert_eq!(parse(&write(&value).unwrap(), 1), Ok(value));
    }
}
