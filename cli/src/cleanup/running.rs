//! Whether an agent or a speaker runs on this node.

use std::fs;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// On loopback nobody takes as long.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where one answers: at a socket of the folder, or at the address.
pub(super) fn place(run_dir: &Path, address: &str) -> Option<String> {
    let answers = |path: &PathBuf| UnixStream::connect(path).is_ok();
    if let Some(path) = sockets(run_dir).into_iter().find(answers) {
        return Some(path.display().to_string());
    }
    let mut addresses = address.to_socket_addrs().ok()?;
    addresses
        .any(|address| TcpStream::connect_timeout(&address, PATIENCE).is_ok())
        .then(|| address.to_owned())
}

/// Sockets of a folder, answered or left behind.
pub(super) fn sockets(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sockets = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()));
    let mut paths: Vec<PathBuf> = sockets.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn who_answers_runs_and_a_socket_without_owner_is_a_leftover() {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert_eq!(place(folder.path(), &address), Some(address.clone()));
        drop(listener);
        assert_eq!(place(folder.path(), &address), None);
        let path = folder.path().join("agent.sock");
        let listener = UnixListener::bind(&path).unwrap();
        assert_eq!(
            place(folder.path(), &address),
            Some(path.display().to_string())
        );
        drop(listener);
        assert_eq!(place(folder.path(), &address), None);
        assert_eq!(sockets(folder.path()), [path]);
        assert_eq!(place(Path::new("/nowhere"), &address), None);
    }
}
