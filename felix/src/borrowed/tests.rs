use std::sync::Mutex;

use datastore::Object;
use datastore::memory::{Fault, MemoryStore, Operation};
use serde_json::json;

use super::*;

fn addresses(all: &[&str]) -> BTreeSet<IpAddr> {
    all.iter().map(|text| text.parse().unwrap()).collect()
}

/// The task over a store in memory, with the part of the agent that reads its Node.
struct Bench {
    store: MemoryStore,
    board: Arc<Board>,
    writes: Arc<Mutex<usize>>,
    began: Instant,
}

impl Bench {
    async fn start(annotation: Option<&str>) -> Bench {
        let store = MemoryStore::new();
        let annotations = json!({ NODE_BORROWED: annotation });
        let node = match annotation {
            Some(_) => json!({ "metadata": { "annotations": annotations } }),
            None => json!({}),
        };
        let object = Object {
            key: Key::cluster(Kind::Node, "a"),
            resource_version: String::new(),
            value: node,
        };
        store.create(object).await.unwrap();
        let writes = Arc::new(Mutex::new(0));
        let counted = writes.clone();
        store.on_call(move |call| {
            *counted.lock().unwrap() += usize::from(call.operation == Operation::PatchAnnotations);
            None
        });
        let board = Arc::new(Board::default());
        let shared: Arc<dyn Datastore> = Arc::new(store.clone());
        tokio::spawn(run(shared, "a".to_owned(), board.clone()));
        Bench {
            store,
            board,
            writes,
            began: Instant::now(),
        }
    }

    fn borrows(&self, all: &[&str]) {
        let all = addresses(all);
        self.board
            .calc
            .send_modify(|view| view.borrowed = Some(all));
    }

    async fn annotation(&self) -> Option<String> {
        let node = self.store.get(&Key::cluster(Kind::Node, "a")).await;
        let annotations = &node.unwrap().value["metadata"]["annotations"];
        annotations[NODE_BORROWED].as_str().map(str::to_owned)
    }

    /// The keeper of the node's addresses has read the Node anew.
    async fn look(&self) {
        let borrowed = self.annotation().await;
        self.board.node.send_modify(|view| {
            view.is_read = true;
            view.borrowed = borrowed;
        });
    }

    async fn pass(&self, time: Duration) {
        tokio::time::sleep(time).await;
        self.look().await;
        tokio::time::sleep(TOGETHER * 2).await;
    }

    fn writes(&self) -> usize {
        std::mem::take(&mut *self.writes.lock().unwrap())
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_told_changed_and_taken_back() {
    let bench = Bench::start(None).await;
    bench.look().await;
    bench.borrows(&["fd00::5", "10.0.1.5"]);
    bench.pass(TOGETHER * 3).await;
    assert_eq!(
        bench.annotation().await.as_deref(),
        Some("10.0.1.5,fd00::5")
    );
    bench.borrows(&["10.0.1.6"]);
    bench.pass(PAUSE * 2).await;
    assert_eq!(bench.annotation().await.as_deref(), Some("10.0.1.6"));
    bench.borrows(&[]);
    bench.pass(PAUSE * 2).await;
    assert_eq!(bench.annotation().await, None);
    assert_eq!(bench.writes(), 3);
    bench.pass(AGAIN * 10).await;
    assert_eq!(bench.writes(), 0, "nothing changes");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_said_before_everything_is_known() {
    let bench = Bench::start(Some("10.0.1.5")).await;
    bench.pass(AGAIN).await;
    assert_eq!(bench.writes(), 0, "the calculation has said nothing yet");
    bench.borrows(&["10.0.1.5"]);
    bench.pass(AGAIN).await;
    assert_eq!(bench.writes(), 0, "it stands there already");
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_few_writes() {
    let bench = Bench::start(None).await;
    bench.look().await;
    let all: Vec<String> = (1..=100).map(|last| format!("10.0.1.{last}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    for count in 1..=100 {
        bench.borrows(&all[..count]);
        bench.pass(Duration::from_millis(10)).await;
    }
    bench.pass(PAUSE * 2).await;
    let secs = usize::try_from(bench.began.elapsed().as_secs()).unwrap();
    let writes = bench.writes();
    assert!(writes >= 1 && writes <= secs + 1, "{writes} in {secs} s");
    let told = bench.annotation().await.unwrap();
    assert_eq!(told.split(',').count(), 100);
}

#[tokio::test(start_paused = true)]
async fn what_others_write_is_repaired_in_no_hurry() {
    let bench = Bench::start(None).await;
    bench.look().await;
    bench.borrows(&["10.0.1.5"]);
    bench.pass(PAUSE).await;
    assert_eq!(bench.writes(), 1);
    let key = Key::cluster(Kind::Node, "a");
    let wrong = || [(NODE_BORROWED.to_owned(), Some("10.9.9.9".to_owned()))].into();
    for _ in 0..20 {
        bench.store.patch_annotations(&key, wrong()).await.unwrap();
        bench.pass(PAUSE).await;
    }
    let own = bench.writes() - 20;
    assert!(own <= 2, "{own} writes within half a minute");
    bench.pass(AGAIN).await;
    bench.look().await;
    assert_eq!(bench.annotation().await.as_deref(), Some("10.0.1.5"));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_done_later() {
    let bench = Bench::start(None).await;
    bench.look().await;
    let failing = Arc::new(Mutex::new(true));
    let fails = failing.clone();
    bench.store.on_call(move |call| {
        let writes = call.operation == Operation::PatchAnnotations;
        (writes && *fails.lock().unwrap()).then_some(Fault::Unavailable)
    });
    bench.borrows(&["10.0.1.5"]);
    bench.pass(RETRY * 3).await;
    assert_eq!(bench.annotation().await, None);
    *failing.lock().unwrap() = false;
    bench.pass(RETRY * 2).await;
    assert_eq!(bench.annotation().await.as_deref(), Some("10.0.1.5"));
}

#[test]
fn a_flood_is_cut() {
    let many = (0..3000u32).map(|number| IpAddr::from(number.to_be_bytes()));
    let text = text(&many.collect()).unwrap();
    assert_eq!(text.split(',').count(), MOST);
}
