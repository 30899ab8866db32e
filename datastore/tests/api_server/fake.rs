//! An API server that says what a test wants, over plain HTTP.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use datastore::kubernetes::{KubernetesStore, Settings};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// What to answer.
pub(crate) enum Answer {
    /// A status and a body, at once.
    Whole(u16, String),
    /// Lines, as long as the sender lives.
    Lines(mpsc::UnboundedReceiver<String>),
}

impl Answer {
    pub(crate) fn json(status: u16, body: &Value) -> Answer {
        Answer::Whole(status, body.to_string())
    }

    /// A list of pools of these names and versions.
    pub(crate) fn pools(version: &str, pools: &[(&str, &str)]) -> Answer {
        let items: Vec<Value> = pools
            .iter()
            .map(|(name, version)| pool(name, version))
            .collect();
        let metadata = json!({ "resourceVersion": version });
        Answer::json(
            200,
            &json!({ "kind": "IPPoolList", "metadata": metadata, "items": items }),
        )
    }

    /// A refusal.
    pub(crate) fn status(code: u16, reason: &str) -> Answer {
        let status = json!({ "kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason });
        Answer::json(code, &status)
    }
}

pub(crate) fn pool(name: &str, version: &str) -> Value {
    json!({
        "metadata": { "name": name, "resourceVersion": version },
        "spec": { "cidr": "10.0.0.0/16" },
    })
}

pub(crate) fn event(kind: &str, object: Value) -> String {
    json!({ "type": kind, "object": object }).to_string()
}

/// The server. Requests for which it has no answer wait until there is one.
pub(crate) struct Fake {
    address: String,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: mpsc::UnboundedReceiver<String>,
    up: watch::Sender<bool>,
    folder: TempDir,
}

impl Fake {
    pub(crate) async fn start() -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answers = Arc::<Mutex<VecDeque<Answer>>>::default();
        let (asking, asked) = mpsc::unbounded_channel();
        let (up, is_up) = watch::channel(true);
        tokio::spawn(accept(listener, Arc::clone(&answers), asking, is_up));
        Fake {
            address,
            answers,
            asked,
            up,
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// A store on it.
    pub(crate) async fn store(&self, change: impl FnOnce(&mut Settings)) -> KubernetesStore {
        let path = self.folder.path().join("kubeconfig");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": { "server": format!("http://{}", self.address) } }],
            "users": [{ "name": "u", "user": {} }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
        });
        std::fs::write(&path, text.to_string()).unwrap();
        let mut settings = Settings::new("test");
        settings.kubeconfig = Some(path);
        change(&mut settings);
        KubernetesStore::connect(settings).await.unwrap()
    }

    /// Answers one more request in this way.
    pub(crate) fn answer(&self, answer: Answer) {
        self.answers.lock().unwrap().push_back(answer);
    }

    /// Answers one more request with lines that the test sends.
    pub(crate) fn answer_lines(&self) -> mpsc::UnboundedSender<String> {
        let (sender, lines) = mpsc::unbounded_channel();
        self.answer(Answer::Lines(lines));
        sender
    }

    /// The next request: its line.
    pub(crate) async fn asked(&mut self) -> String {
        let asked = tokio::time::timeout(LIMIT, self.asked.recv()).await;
        asked.expect("a request in time").unwrap()
    }

    /// Whether connections are answered; while not, they are cut.
    pub(crate) fn set_up(&self, up: bool) {
        self.up.send_replace(up);
    }
}

async fn accept(
    listener: TcpListener,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asking: mpsc::UnboundedSender<String>,
    is_up: watch::Receiver<bool>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        if !*is_up.borrow() {
            continue;
        }
        let (answers, asking) = (Arc::clone(&answers), asking.clone());
        let mut down = is_up.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = serve(stream, &answers, &asking) => {}
                _ = down.wait_for(|up| !up) => {}
            }
        });
    }
}

async fn serve(
    mut stream: TcpStream,
    answers: &Mutex<VecDeque<Answer>>,
    asking: &mpsc::UnboundedSender<String>,
) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&bytes);
    let lower = head.to_lowercase();
    let length = lower
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let length = length.map_or(0, |text| text.parse().unwrap());
    // What is left unread would cut the connection before the answer.
    stream.read_exact(&mut vec![0; length]).await?;
    let _test_is_over = asking.send(head.lines().next().unwrap_or_default().to_owned());
    let answer = loop {
        let answer = answers.lock().unwrap().pop_front();
        match answer {
            Some(answer) => break answer,
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let type_ = "Content-Type: application/json\r\nConnection: close\r\n";
    match answer {
        Answer::Whole(status, body) => {
            let length = body.len();
            let text =
                format!("HTTP/1.1 {status} x\r\n{type_}Content-Length: {length}\r\n\r\n{body}");
            stream.write_all(text.as_bytes()).await?;
        }
        Answer::Lines(mut lines) => {
            let head = format!("HTTP/1.1 200 OK\r\n{type_}Transfer-Encoding: chunked\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            while let Some(line) = lines.recv().await {
                let chunk = format!("{:x}\r\n{line}\n\r\n", line.len() + 1);
                stream.write_all(chunk.as_bytes()).await?;
            }
            stream.write_all(b"0\r\n\r\n").await?;
        }
    }
    stream.shutdown().await
}
