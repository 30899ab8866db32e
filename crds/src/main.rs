//! Writes the CRD manifests, one file per kind: for people, and once more for the chart.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let given = std::env::args_os().nth(1).map(PathBuf::from);
    let directories = given.map_or_else(
        || vec![own.to_owned(), own.join(crds::manifest::CHART)],
        |directory| vec![directory],
    );
    for directory in directories {
        for (name, text) in crds::manifest::files() {
            let path = directory.join(name);
            if let Err(error) = std::fs::write(&path, text) {
                eprintln!("{}: {error}", path.display());
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
