//! Many requests to an API server: HTTP to a `kubectl proxy` on a Unix socket.
//!
//! kubectl starts a process for each call and holds itself to 50 requests a second; thousands of
//! objects, and a watch that is read as it comes, want neither.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use super::ApiServer;
use crate::wait;

/// Until the proxy listens.
const START: Duration = Duration::from_secs(20);
/// For the answer to one request.
const ANSWER: Duration = Duration::from_secs(60);
/// Connections that a crowd of requests is sent through.
const CONNECTIONS: usize = 8;

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `POST`, `PATCH`, `DELETE`.
    pub method: &'static str,
    /// From `/api` on.
    pub path: String,
    /// What it carries; nothing is sent for null.
    pub body: Value,
}

impl Request {
    /// Makes an object of this collection.
    pub fn create(collection: &str, object: Value) -> Self {
        Self {
            method: "POST",
            path: collection.to_owned(),
            body: object,
        }
    }

    /// Changes these fields of an object (a merge patch).
    pub fn merge(path: String, body: Value) -> Self {
        Self {
            method: "PATCH",
            path,
            body,
        }
    }

    /// Deletes an object at once.
    pub fn delete(path: String) -> Self {
        Self {
            method: "DELETE",
            path: format!("{path}?gracePeriodSeconds=0"),
            body: Value::Null,
        }
    }
}

/// A proxy to an API server, with the rights of an administrator.
#[derive(Debug)]
pub struct Bulk {
    proxy: Child,
    socket: PathBuf,
}

impl Bulk {
    /// Starts the proxy and waits until it listens.
    pub fn start(api: &ApiServer) -> Result<Self> {
        let socket = api.file("proxy.sock");
        let proxy = api
            .kubectl_command()
            .arg("proxy")
            .arg(format!("--unix-socket={}", socket.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("start kubectl proxy")?;
        let bulk = Self { proxy, socket };
        wait::until("kubectl proxy to listen", START, || {
            bulk.connect()?.json("GET", "/version").map(Some)
        })?;
        Ok(bulk)
    }

    /// A connection of its own.
    pub fn connect(&self) -> Result<Connection> {
        let stream = UnixStream::connect(&self.socket)
            .with_context(|| format!("connect to {}", self.socket.display()))?;
        stream.set_read_timeout(Some(ANSWER))?;
        Ok(Connection {
            stream: BufReader::new(stream),
        })
    }

    /// Sends all of them, several at a time, in no order; the first that is refused is the error.
    pub fn send(&self, requests: &[Request]) -> Result<()> {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let work = || -> Result<()> {
                let mut connection = self.connect()?;
                while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                    connection.ask(request)?;
                }
                Ok(())
            };
            let workers: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(work)).collect();
            for worker in workers {
                worker
                    .join()
                    .map_err(|_| anyhow!("a sender of requests panicked"))??;
            }
            Ok(())
        })
    }

    /// How many objects a collection has, of which the API server sends only one.
    pub fn count(connection: &mut Connection, collection: &str) -> Result<u64> {
        let list = connection.json("GET", &format!("{collection}?limit=1"))?;
        let here = list["items"].as_array().map_or(0, Vec::len);
        let more = list["metadata"]["remainingItemCount"].as_u64();
        Ok(here as u64 + more.unwrap_or(0))
    }
}

impl Drop for Bulk {
    fn drop(&mut self) {
        // It ends with its API server too.
        let _ = self.proxy.kill();
        let _ = self.proxy.wait();
    }
}

/// A connection to the proxy.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<UnixStream>,
}

impl Connection {
    /// Sends a request and returns the body of the answer; a refusal is an error.
    pub fn ask(&mut self, request: &Request) -> Result<Vec<u8>> {
        let line = format!("{} {}", request.method, request.path);
        self.write(request).with_context(|| line.clone())?;
        let head = Head::read(&mut self.stream).with_context(|| line.clone())?;
        let mut body = Vec::new();
        match head.length {
            Some(length) => {
                body.resize(length, 0);
                self.stream.read_exact(&mut body)?;
            }
            None => while read_chunk(&mut self.stream, &mut body)? {},
        }
        ensure!(
            head.is_success(),
            "{line}: {}: {}",
            head.status,
            String::from_utf8_lossy(&body)
        );
        Ok(body)
    }

    /// Asks without a body for JSON.
    pub fn json(&mut self, method: &'static str, path: &str) -> Result<Value> {
        let request = Request {
            method,
            path: path.to_owned(),
            body: Value::Null,
        };
        Ok(serde_json::from_slice(&self.ask(&request)?)?)
    }

    /// Opens a watch; `path` says so.
    pub fn watch(mut self, path: &str) -> Result<Events> {
        let request = Request {
            method: "GET",
            path: path.to_owned(),
            body: Value::Null,
        };
        self.write(&request)?;
        let head = Head::read(&mut self.stream)?;
        ensure!(head.is_success(), "GET {path}: {}", head.status);
        // What is silent is no failure.
        self.stream.get_ref().set_read_timeout(None)?;
        Ok(Events {
            stream: self.stream,
            buffer: Vec::new(),
        })
    }

    fn write(&mut self, request: &Request) -> Result<()> {
        let body = match &request.body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let kind = match request.method {
            "PATCH" => "application/merge-patch+json",
            _ => "application/json",
        };
        let text = format!(
            "{} {} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            request.method,
            request.path,
            body.len()
        );
        Ok(self.stream.get_mut().write_all(text.as_bytes())?)
    }
}

/// Events of a watch as they come.
#[derive(Debug)]
pub struct Events {
    stream: BufReader<UnixStream>,
    buffer: Vec<u8>,
}

impl Events {
    /// Ends the watch from elsewhere.
    pub fn closer(&self) -> Result<UnixStream> {
        Ok(self.stream.get_ref().try_clone()?)
    }
}

impl Iterator for Events {
    type Item = Value;

    /// The next event, nothing when the watch has ended.
    fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|octet| *octet == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line).ok();
            }
            match read_chunk(&mut self.stream, &mut self.buffer) {
                Ok(true) => {}
                Ok(false) | Err(_) => return None,
            }
        }
    }
}

/// What matters of the head of an answer.
#[derive(Debug)]
struct Head {
    status: String,
    /// Nothing means that the body comes in chunks.
    length: Option<usize>,
}

impl Head {
    fn read(stream: &mut impl BufRead) -> Result<Self> {
        let status = read_line(stream)?;
        let mut length: Option<usize> = None;
        let mut chunked = false;
        loop {
            let line = read_line(stream)?.to_ascii_lowercase();
            match line.split_once(':') {
                Some(("content-length", value)) => length = Some(value.trim().parse()?),
                Some(("transfer-encoding", value)) => chunked = value.trim() == "chunked",
                Some(_) => {}
                None => break,
            }
        }
        let status = status.trim_start_matches("HTTP/1.1 ").to_owned();
        ensure!(
            chunked || length.is_some(),
            "{status}: an answer of unknown length"
        );
        Ok(Self {
            status,
            // Where both are said, chunks count (RFC 9112 §6.3).
            length: length.filter(|_| !chunked),
        })
    }

    fn is_success(&self) -> bool {
        self.status.starts_with('2')
    }
}

fn read_line(stream: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    ensure!(stream.read_line(&mut line)? > 0, "the connection has ended");
    Ok(line.trim_end().to_owned())
}

/// Appends a chunk (RFC 9112 §7.1); false when it was the last one.
fn read_chunk(stream: &mut impl BufRead, body: &mut Vec<u8>) -> Result<bool> {
    let line = read_line(stream)?;
    let size = line.split(';').next().unwrap_or_default();
    let size = usize::from_str_radix(size.trim(), 16).with_context(|| format!("chunk {line:?}"))?;
    let begin = body.len();
    body.resize(begin + size, 0);
    stream.read_exact(&mut body[begin..])?;
    read_line(stream)?;
    Ok(size > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_how_long_its_body_is() {
        let text = "HTTP/1.1 201 Created\r\nContent-Type: x\r\nContent-Length: 12\r\n\r\n";
        let head = Head::read(&mut text.as_bytes()).unwrap();
        assert!(head.is_success());
        assert_eq!(head.length, Some(12));
        let text = "HTTP/1.1 409 Conflict\r\nTransfer-Encoding: chunked\r\n\r\n";
        let head = Head::read(&mut text.as_bytes()).unwrap();
        assert!(!head.is_success());
        assert_eq!(head.length, None);
        let text = "HTTP/1.1 200 OK\r\n\r\n";
        assert!(Head::read(&mut text.as_bytes()).is_err());
    }

    #[test]
    fn chunks_are_joined_until_the_empty_one() {
        let text = "4\r\nwiki\r\n6;a=b\r\npedia \r\n0\r\n\r\n";
        let (mut stream, mut body) = (text.as_bytes(), Vec::new());
        assert!(read_chunk(&mut stream, &mut body).unwrap());
        assert!(read_chunk(&mut stream, &mut body).unwrap());
        assert!(!read_chunk(&mut stream, &mut body).unwrap());
        assert_eq!(body, b"wikipedia ");
        assert!(read_chunk(&mut stream, &mut body).is_err());
    }
}
