//! How an answer looks.

use clap::ValueEnum;

use crate::client::parse;
use crate::failure::Failure;

/// How an answer looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Table,
    /// For people with wide windows.
    Wide,
    /// For programs, as the speaker says it.
    Json,
    /// The same as YAML.
    Yaml,
}

/// What is printed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Printed {
    /// On standard output.
    pub(crate) text: String,
    /// On standard error, where it is a terminal.
    pub(crate) note: Option<String>,
}

/// An answer for programs; `None` where people shall read it.
pub(crate) fn for_programs(output: Output, answer: &str) -> Result<Option<String>, Failure> {
    let bad = |error: &dyn std::error::Error| Failure::Output(error.to_string());
    match output {
        Output::Table | Output::Wide => Ok(None),
        Output::Json => {
            let value: serde_json::Value = parse(answer)?;
            let text = serde_json::to_string_pretty(&value).map_err(|error| bad(&error))?;
            Ok(Some(text + "\n"))
        }
        Output::Yaml => {
            let value: serde_yaml::Value = parse(answer)?;
            let text = serde_yaml::to_string(&value).map_err(|error| bad(&error))?;
            Ok(Some(text))
        }
    }
}
