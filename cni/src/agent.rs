//! The socket to the agent: one request, one reply, always with a deadline.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use felix_api::cni::{self as api, MAX_LINE, Op, Reply, Request, code};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::error::Error;

/// Why there is no answer to a request.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nobody listens, or the answer did not come in time.
    Away(String),
    /// The agent answered with an error.
    Refused(api::Error),
    /// The answer is not one to this request.
    Unexpected(String),
}

/// Sends `op` to the agent that listens on `path` and waits for its reply.
///
/// # Errors
/// [`Failure::Refused`] when the reply is an error, so that a reply in hand is a good one.
pub(crate) fn ask(path: &Path, op: Op) -> Result<Reply, Failure> {
    let limit = limit(&op);
    let deadline = Instant::now() + limit;
    let line =
        api::to_line(&Request::new(op)).map_err(|error| Failure::Unexpected(error.to_string()))?;
    let answer = exchange(path, &line, deadline).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            Failure::Away(format!("no answer within {} s", limit.as_secs()))
        }
        _ => Failure::Away(error.to_string()),
    })?;
    match serde_json::from_slice(&answer) {
        Ok(Reply::Error(error)) => Err(Failure::Refused(error)),
        Ok(reply) => Ok(reply),
        Err(error) => Err(Failure::Unexpected(error.to_string())),
    }
}

/// How long the runtime is kept waiting for each answer at most.
fn limit(op: &Op) -> Duration {
    Duration::from_secs(match op {
        Op::Add(_) => 30,
        Op::Activate(_) => 15,
        Op::Del(_) | Op::Check(_) => 10,
        Op::Gc(_) => 60,
        Op::Status => 5,
    })
}

fn exchange(path: &Path, line: &[u8], deadline: Instant) -> std::io::Result<Vec<u8>> {
    let mut stream = connect_until(path, deadline)?;
    stream.set_write_timeout(Some(remaining(deadline)?))?;
    stream.write_all(line)?;
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        stream.set_read_timeout(Some(remaining(deadline)?))?;
        let count = match stream.read(&mut chunk) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        };
        let Some(bytes) = chunk.get(..count).filter(|bytes| !bytes.is_empty()) else {
            return Err(std::io::Error::other(
                "the agent closed the connection without an answer",
            ));
        };
        if let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            answer.extend(bytes.iter().take(end));
            return Ok(answer);
        }
        answer.extend(bytes);
        if answer.len() > MAX_LINE {
            return Err(std::io::Error::other("the agent's answer is too long"));
        }
    }
}

/// Connects; a full queue of a stalled agent would otherwise block for ever.
fn connect_until(path: &Path, deadline: Instant) -> std::io::Result<UnixStream> {
    let fd = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let left = i64::try_from(remaining(deadline)?.as_millis()).unwrap_or(i64::MAX);
    setsockopt(&fd, sockopt::SendTimeout, &TimeVal::milliseconds(left))?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(fd))
}

fn remaining(deadline: Instant) -> std::io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    // A zero timeout means "none" to the socket.
    if left < Duration::from_millis(1) {
        return Err(ErrorKind::TimedOut.into());
    }
    Ok(left)
}

impl Failure {
    /// The CNI error for a verb that cannot do without the answer.
    pub(crate) fn into_error(self, path: &Path) -> Error {
        match self {
            Failure::Away(reason) => Error::new(
                code::TRY_AGAIN,
                format!("the agent does not answer on {}: {reason}", path.display()),
            )
            .with_details("check that tortie-felix runs on this node; the runtime tries again"),
            Failure::Refused(error) => {
                Error::new(error.code, error.message).with_details(error.details)
            }
            Failure::Unexpected(problem) => Error::new(
                code::PROTOCOL,
                format!(
                    "the agent on {} gave an unusable answer: {problem}",
                    path.display()
                ),
            )
            .with_details("agent and plugin come from different releases: install both from one"),
        }
    }
}

/// The failure of a reply that is good but does not fit the request.
pub(crate) fn unexpected(reply: &Reply) -> Failure {
    Failure::Unexpected(format!("a reply to another request: {reply:?}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// What `ask` returns when the peer answers with `answer` and closes.
    #[allow(
        clippy::unwrap_in_result,
        reason = "the result is that of the function under test"
    )]
    fn answered(answer: &'static [u8]) -> Result<Reply, Failure> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 512];
                assert!(stream.read(&mut request).unwrap() > 0);
                stream.write_all(answer).unwrap();
            });
            ask(&path, Op::Status)
        })
    }

    #[test]
    fn a_reply_line_is_a_reply() {
        assert_eq!(answered(b"\"done\"\n").unwrap(), Reply::Done);
    }

    #[test]
    fn an_error_of_the_agent_keeps_its_code() {
        let failure =
            answered(b"{\"error\":{\"code\":102,\"message\":\"pool full\"}}\n").unwrap_err();
        assert_eq!(
            failure.into_error(Path::new("/s")),
            Error::new(102, "pool full")
        );
    }

    #[test]
    fn half_a_line_is_an_agent_that_went_away() {
        let error = answered(b"\"do").unwrap_err().into_error(Path::new("/s"));
        assert_eq!(error.code, code::TRY_AGAIN);
    }

    #[test]
    fn an_unknown_reply_tells_of_different_releases() {
        let error = answered(b"{\"later\":1}\n")
            .unwrap_err()
            .into_error(Path::new("/s"));
        assert_eq!(error.code, code::PROTOCOL);
        assert!(error.details.contains("different releases"));
    }

    #[test]
    fn nobody_listening_is_worth_another_try() {
        let error = ask(Path::new("/nonexistent/sock"), Op::Status).unwrap_err();
        let error = error.into_error(Path::new("/nonexistent/sock"));
        assert_eq!(error.code, code::TRY_AGAIN);
        assert!(error.message.contains("/nonexistent/sock"), "{error}");
    }

    #[test]
    fn a_passed_deadline_is_an_agent_that_is_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let soon = Instant::now() + Duration::from_millis(50);
        let error = exchange(&path, b"x\n", soon).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            "{error}"
        );
    }
}
