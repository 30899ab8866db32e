//! `tortie-cni`, the CNI plugin (specification 0.3.1, 0.4.0, 1.0.0 and 1.1.0).
//!
//! It is thin: it makes the veth and sets up the pod's namespace, which needs the runtime's
//! rights. Addresses, endpoint records and host routes are the agent's, asked over a Unix socket.
//! It holds no credentials, never talks to Kubernetes, and may be killed at any point: the next
//! ADD, DEL or GC of the attachment finds its way from what is there.
//!
//! Besides the verbs of the specification there is `tortie-cni install`.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Instant, SystemTime};

use felix_api::cni::code;
use serde::Serialize;
use serde_json::json;

use crate::conf::{Conf, Document};
use crate::environment::{Environment, Verb};
use crate::error::Error;
use crate::version::Version;

mod agent;
mod conf;
mod environment;
mod error;
mod file;
mod host;
mod install;
mod plan;
mod pod;
mod result;
mod sysctl;
mod verbs;
mod version;

/// Longest network configuration accepted, in bytes.
const MAX_INPUT: u64 = 8 << 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        None => plugin(),
        Some("install") => install::main(arguments.get(1..).unwrap_or_default()),
        Some("--version" | "-V") => {
            print(concat!("tortie-cni ", env!("CARGO_PKG_VERSION")));
            ExitCode::SUCCESS
        }
        Some("--help" | "-h") => {
            print(install::USAGE);
            ExitCode::SUCCESS
        }
        Some(_) => {
            // Without a stderr there is nobody to tell.
            let _ = writeln!(io::stderr(), "{}", install::USAGE);
            ExitCode::FAILURE
        }
    }
}

/// Serves the verb of `CNI_COMMAND` and prints its result or its error.
fn plugin() -> ExitCode {
    // The version an error is reported in, as soon as it is known.
    let mut version = Version::LATEST.text().to_owned();
    // A defect must still answer with JSON; its message is on stderr by then.
    let call = std::panic::AssertUnwindSafe(|| serve(&mut version));
    let outcome = std::panic::catch_unwind(call).unwrap_or_else(|_| {
        Err(Error::new(code::INTERNAL, "a defect in tortie-cni").with_details("see its stderr"))
    });
    let (text, exit) = match outcome {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(error) => (failure(&version, &error), ExitCode::FAILURE),
    };
    if print(&text) {
        exit
    } else {
        ExitCode::FAILURE
    }
}

fn serve(version: &mut String) -> Result<String, Error> {
    let lookup = |name: &str| std::env::var(name).ok();
    let verb = Verb::from(lookup)?;
    let input = read_input()?;
    if verb == Verb::Version && input.trim_ascii().is_empty() {
        return supported(version);
    }
    let document = Document::parse(&input)?;
    if let Some(given) = document.version() {
        given.clone_into(version);
    }
    if verb == Verb::Version {
        return supported(version);
    }
    let conf = Conf::from(document)?;
    conf.version.supports(verb)?;
    let started = Instant::now();
    let environment = Environment::from(verb, lookup);
    let attachment = || environment.as_ref().map_err(Error::clone);
    let silent = |()| String::new();
    let outcome = match verb {
        Verb::Add => attachment()
            .and_then(|environment| verbs::add(&conf, environment))
            .and_then(|result| to_text(&result)),
        Verb::Del => attachment()
            .and_then(|environment| verbs::del(&conf, environment))
            .map(silent),
        Verb::Check => attachment()
            .and_then(|environment| verbs::check(&conf, environment))
            .map(silent),
        Verb::Gc => verbs::gc(&conf).map(silent),
        Verb::Status => verbs::status(&conf).map(silent),
        Verb::Version => supported(version),
    };
    if let Some(path) = &conf.keys.log_file {
        let subject = environment.map_or(String::new(), |environment| format!(" {environment}"));
        log(path, &format!("{verb}{subject}"), started, &outcome);
    }
    outcome
}

/// The answer to VERSION.
fn supported(version: &str) -> Result<String, Error> {
    to_text(&json!({
        "cniVersion": version,
        "supportedVersions": Version::ALL.map(Version::text),
    }))
}

fn read_input() -> Result<Vec<u8>, Error> {
    let mut input = Vec::new();
    io::stdin()
        .take(MAX_INPUT)
        .read_to_end(&mut input)
        .map_err(|error| Error::file("reading", Path::new("stdin"), &error))?;
    Ok(input)
}

/// The error as the specification wants it on stdout.
fn failure(version: &str, error: &Error) -> String {
    #[derive(Serialize)]
    struct Failure<'a> {
        #[serde(rename = "cniVersion")]
        version: &'a str,
        #[serde(flatten)]
        error: &'a Error,
    }
    to_text(&Failure { version, error }).unwrap_or_else(|error| error.to_string())
}

fn to_text<T: Serialize>(value: &T) -> Result<String, Error> {
    serde_json::to_string(value)
        .map_err(|error| Error::new(code::INTERNAL, format!("writing the result: {error}")))
}

/// Prints `text` unless it is empty; false when nobody reads it any more.
fn print(text: &str) -> bool {
    text.is_empty() || writeln!(io::stdout(), "{text}").is_ok()
}

/// Appends a line on this call; a log that cannot be written changes nothing else.
fn log(path: &Path, call: &str, started: Instant, outcome: &Result<String, Error>) {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let mut line = format!("{}.{:03} {call}", now.as_secs(), now.subsec_millis());
    line.push_str(&format!(" {} ms", started.elapsed().as_millis()));
    match outcome {
        Ok(text) if text.is_empty() => line.push_str(" ok\n"),
        Ok(text) => line.push_str(&format!(" {text}\n")),
        Err(error) => line.push_str(&format!(" failed: {error}\n")),
    }
    let file = OpenOptions::new().create(true).append(true).open(path);
    if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
        // The runtime keeps stderr; stdout is the result's.
        let _ = writeln!(io::stderr(), "log_file {}: {error}", path.display());
    }
}
