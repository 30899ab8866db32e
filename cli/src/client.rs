//! A small HTTP client: one request per connection, over TCP or a Unix socket.
//!
//! Requests are HTTP/1.0, so that an answer ends with its connection and has no chunks.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::de::DeserializeOwned;

use crate::failure::Failure;

/// Where the agent does what root asks for, besides its pages.
pub(crate) const AGENT_SOCKET: &str = "/run/tortie/agent.sock";

/// Where the agent serves its pages to everybody on the node.
pub(crate) const AGENT: &str = "127.0.0.1:9099";

/// Where the stand-alone speaker answers.
pub(crate) const SPEAKER: &str = "/run/tortie/bgp.sock";

/// What is silent for so long is stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Socket(PathBuf),
    Address(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Socket(path) => write!(f, "{}", path.display()),
            Place::Address(address) => f.write_str(address),
        }
    }
}

/// Where an agent is asked: for what the stand-alone speaker does not know.
#[derive(Debug, Args)]
pub(crate) struct AgentPlace {
    /// Unix socket where the agent of the node answers.
    #[arg(long, value_name = "PATH", env = "TORTIE_SOCKET")]
    socket: Option<PathBuf>,
    /// Address where the agent of the node answers.
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "TORTIE_ADDRESS",
        conflicts_with = "socket"
    )]
    address: Option<String>,
}

impl AgentPlace {
    pub(crate) fn client(&self) -> Client {
        match (&self.socket, &self.address) {
            (None, None) => Client {
                places: vec![
                    Place::Socket(AGENT_SOCKET.into()),
                    Place::Address(AGENT.to_owned()),
                ],
            },
            (socket, address) => Client::new(socket.clone(), address.clone()),
        }
    }
}

/// Asks at the first of some places where somebody listens.
#[derive(Debug)]
pub(crate) struct Client {
    places: Vec<Place>,
}

impl Client {
    /// Asks at the socket, at the address, or without both at the agent and then at the
    /// stand-alone speaker.
    pub(crate) fn new(socket: Option<PathBuf>, address: Option<String>) -> Self {
        let mut places = Vec::new();
        places.extend(address.map(Place::Address));
        places.extend(socket.map(Place::Socket));
        if places.is_empty() {
            places.push(Place::Socket(AGENT_SOCKET.into()));
            places.push(Place::Address(AGENT.to_owned()));
            places.push(Place::Socket(SPEAKER.into()));
        }
        Client { places }
    }

    /// The answer to a question, as text.
    pub(crate) fn get(&self, page: &str) -> Result<String, Failure> {
        self.ask("GET", page)
    }

    /// What came of having something done, as text.
    pub(crate) fn post(&self, page: &str) -> Result<String, Failure> {
        self.ask("POST", page)
    }

    fn ask(&self, method: &str, page: &str) -> Result<String, Failure> {
        let mut tried = Vec::new();
        for place in &self.places {
            match connect(place) {
                Ok(stream) => return converse(place, stream, method, page),
                Err(error) => tried.push((place, error)),
            }
        }
        Err(unreachable(&tried))
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn connect(place: &Place) -> io::Result<Box<dyn Stream>> {
    match place {
        Place::Socket(path) => {
            let stream = UnixStream::connect(path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(Box::new(stream))
        }
        Place::Address(address) => {
            let mut last = io::Error::new(io::ErrorKind::InvalidInput, "no such host");
            for address in address.to_socket_addrs()? {
                match open(&address) {
                    Ok(stream) => return Ok(Box::new(stream)),
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
    }
}

fn open(address: &SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn unreachable(tried: &[(&Place, io::Error)]) -> Failure {
    let all: Vec<String> = tried
        .iter()
        .map(|(place, error)| format!("{place} ({})", words(error)))
        .collect();
    let denied = tried
        .iter()
        .any(|(_, error)| error.kind() == io::ErrorKind::PermissionDenied);
    let remedy = if denied {
        "ask as root, or as a user who may open the socket"
    } else {
        "start tortie-felix or tortie-bgp, or say with --address or --socket where one answers"
    };
    Failure::Unreachable(format!(
        "no speaker answers at {}; {remedy}",
        all.join(" or ")
    ))
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such socket".to_owned(),
        io::ErrorKind::ConnectionRefused => "nobody listens".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::TimedOut => "no answer in time".to_owned(),
        _ => error.to_string(),
    }
}

fn converse(
    place: &Place,
    mut stream: Box<dyn Stream>,
    method: &str,
    page: &str,
) -> Result<String, Failure> {
    let broken = |error: io::Error| match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failure::Unreachable(format!(
            "{place} took the question and was silent for {} s; is it stuck? Its log may say why",
            PATIENCE.as_secs()
        )),
        _ => Failure::Unreachable(format!("{place}: the connection broke: {error}")),
    };
    let request = format!("{method} {page} HTTP/1.0\r\nHost: tortie\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(broken)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(broken)?;
    let answer = String::from_utf8_lossy(&answer);
    let parsed = answer.split_once("\r\n\r\n").and_then(|(head, body)| {
        let status: u16 = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body))
    });
    match parsed {
        Some((200..=299, body)) => Ok(body.to_owned()),
        Some((status, body)) => Err(refused(place, page, status, body)),
        None => Err(Failure::NotUnderstood(format!(
            "{place} does not speak HTTP; is it the socket of another program?"
        ))),
    }
}

/// The speaker says what is wrong; a page without that is not one of a speaker.
fn refused(place: &Place, page: &str, status: u16, body: &str) -> Failure {
    match (serde_json::from_str::<bgp_api::Failure>(body), status) {
        (Ok(failure), 400..=499) => Failure::NoSuchThing(failure.error),
        (Ok(failure), _) => Failure::Unreachable(format!("{place}: {}", failure.error)),
        (Err(_), _) => Failure::NotUnderstood(format!(
            "{place} answers {page} with status {status}; is it a speaker of another version?"
        )),
    }
}

/// An answer as its type.
pub(crate) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| {
        Failure::NotUnderstood(format!(
            "the answer is not understood ({error}); is the speaker of another version?"
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// Answers one request with these bytes, and returns the request.
    fn serve(answer: &'static str) -> (String, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 4096];
            let count = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..count]).into_owned()
        });
        (address, server)
    }

    fn ask(answer: &'static str) -> Result<String, Failure> {
        let (address, server) = serve(answer);
        let result = Client::new(None, Some(address)).get("/bgp/summary");
        let request = server.join().unwrap_or_default();
        assert!(request.starts_with("GET /bgp/summary HTTP/1.0\r\n"));
        result
    }

    #[test]
    fn answers_and_refusals_are_told_apart() {
        assert_eq!(
            Ok("[1]".to_owned()),
            ask("HTTP/1.0 200 OK\r\na: b\r\n\r\n[1]")
        );
        let missing = ask("HTTP/1.0 404 Not Found\r\n\r\n{\"error\":\"no peer x\"}");
        assert_eq!(Err(Failure::NoSuchThing("no peer x".to_owned())), missing);
        let other = ask("HTTP/1.0 404 Not Found\r\n\r\n").unwrap_err();
        assert!(other.to_string().contains("another version"), "{other}");
        let not_yet = ask("HTTP/1.0 503 x\r\n\r\n{\"error\":\"not started yet\"}").unwrap_err();
        assert!(matches!(not_yet, Failure::Unreachable(_)), "{not_yet}");
        let strange = ask("220 mail.example SMTP").unwrap_err();
        assert!(
            strange.to_string().contains("does not speak HTTP"),
            "{strange}"
        );
    }

    #[test]
    fn nobody_there_is_told_with_the_places_and_a_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bgp.sock");
        let client = Client::new(Some(path.clone()), None);
        let text = client.get("/bgp/summary").unwrap_err().to_string();
        assert!(text.contains("bgp.sock (no such socket)"), "{text}");
        assert!(text.contains("start tortie-felix or tortie-bgp"), "{text}");
        // A socket file whose owner is gone.
        drop(UnixListener::bind(&path).unwrap());
        let text = client.get("/bgp/summary").unwrap_err().to_string();
        assert!(text.contains("(nobody listens)"), "{text}");
    }

    #[test]
    fn without_a_place_the_agent_is_asked_first() {
        let places = Client::new(None, None).places;
        assert_eq!(
            [AGENT_SOCKET, AGENT, SPEAKER],
            [&places[0], &places[1], &places[2]].map(|p| p.to_string())[..]
        );
    }
}
