//! Files that are either whole or not there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Puts `content` at `path` with the permissions `mode`, replacing what is there.
///
/// The temporary name is a function of `path`, so that what a kill leaves behind is
/// overwritten by the next attempt, and it starts with a dot, so that nobody reads it.
///
/// # Errors
/// Code 5, naming the file.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), Error> {
    let temporary = temporary(path);
    write(&temporary, content, mode).map_err(|error| Error::file("writing", &temporary, &error))?;
    fs::rename(&temporary, path).map_err(|error| Error::file("writing", path, &error))?;
    let directory = path.parent().unwrap_or(Path::new("/"));
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| Error::file("syncing", directory, &error))
}

/// As [`replace`], unless the file has this content and these permissions already; whether it was
/// written.
///
/// # Errors
/// Code 5, naming the file.
pub(crate) fn replace_if_other(path: &Path, content: &[u8], mode: u32) -> Result<bool, Error> {
    let has_mode = |file: fs::Metadata| file.is_file() && file.permissions().mode() & 0o777 == mode;
    let is_same = fs::symlink_metadata(path).is_ok_and(has_mode)
        && fs::read(path).is_ok_and(|there| there == content);
    if !is_same {
        replace(path, content, mode)?;
    }
    Ok(!is_same)
}

/// Waits until nobody else holds this directory, and holds it until the value goes, or the process.
///
/// # Errors
/// Code 5, naming the directory.
pub(crate) fn lock(directory: &Path) -> Result<File, Error> {
    let held = File::open(directory).and_then(|file| file.lock().map(|()| file));
    held.map_err(|error| Error::file("locking", directory, &error))
}

fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)?;
    // An older temporary file may have other permissions, and the umask takes some away.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_is_replaced_with_the_permissions_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("conf");
        fs::write(&path, "old").unwrap();
        fs::write(temporary(&path), "left by a kill, and longer").unwrap();
        replace(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    }
}
