//! The task around the calculation: takes updates from everybody, hands out what follows.

use std::sync::Arc;

use anyhow::Result;
use felix_calc::{Bgp, Calc, NextHops, Output, Update};
use tokio::sync::{mpsc, oneshot, watch};

use crate::board::{Board, CalcView};
use crate::dataplane::Inbox;

/// At most so many updates are taken before an output is made, and of learned routes so many: then
/// the kernel has something to do while the next ones are taken, and little waits.
const BATCH: usize = 1024;
const ROUTES: usize = 4096;

/// Ends of the task.
pub struct Ends {
    /// Updates of all sources but the speaker; when the last source is gone, the task ends.
    pub updates: mpsc::Receiver<Update>,
    /// Updates of the speaker, which can be large.
    pub learned: mpsc::Receiver<Update>,
    /// Probes: answered at once by a task that is alive.
    pub probes: mpsc::Receiver<oneshot::Sender<()>>,
    /// The BGP section for the speaker.
    pub bgp: watch::Sender<Option<Arc<Bgp>>>,
    /// How BGP next hops are reached, for the speaker.
    pub next_hops: watch::Sender<Arc<NextHops>>,
    /// Everything else, for the dataplane.
    pub dataplane: Arc<Inbox>,
    /// What is known, for everybody.
    pub board: Arc<Board>,
}

/// Calculates until every source is gone.
///
/// # Errors
/// None so far.
pub async fn run(mut calc: Calc, mut ends: Ends) -> Result<()> {
    publish(&calc, &ends.board, None);
    loop {
        let first = tokio::select! {
            Some(probe) = ends.probes.recv() => {
                let _gone = probe.send(());
                continue;
            }
            update = ends.updates.recv() => match update {
                Some(update) => update,
                None => return Ok(()),
            },
            Some(update) = ends.learned.recv() => update,
        };
        let converged = take(&mut calc, &mut ends, first);
        let output = calc.flush();
        publish(&calc, &ends.board, output.as_ref());
        if converged {
            let learned = |view: &mut CalcView| view.learned = Some(view.generation);
            ends.board.calc.send_modify(learned);
        }
        if let Some(output) = output {
            hand_out(output, &ends);
        }
    }
}

/// Takes an update, and with it what waits already. Whether the speaker has converged with it: then
/// everything that was learned before has been taken too.
fn take(calc: &mut Calc, ends: &mut Ends, first: Update) -> bool {
    let says_so = |update: &Update| matches!(update, Update::Speaker(state) if state.converged);
    let mut converged = says_so(&first);
    let size = |update: &Update| match update {
        Update::Learned(changes) => changes.len(),
        _ => 0,
    };
    let mut routes = size(&first);
    calc.update(first);
    for _ in 1..BATCH {
        if routes >= ROUTES {
            break;
        }
        let waiting = ends.updates.try_recv();
        let Ok(update) = waiting.or_else(|_| ends.learned.try_recv()) else {
            break;
        };
        routes += size(&update);
        converged |= says_so(&update);
        calc.update(update);
    }
    converged
}

/// The speaker comes first: what is withdrawn is withdrawn before its routes go.
fn hand_out(output: Output, ends: &Ends) {
    tracing::debug!(
        generation = output.generation,
        routes = output.routes.len(),
        endpoints = output.endpoints.is_some(),
        bgp = output.bgp.is_some(),
        "output"
    );
    if let Some(problems) = &output.problems {
        for problem in problems.iter() {
            tracing::warn!(%problem, "configuration");
        }
    }
    if let Some(next_hops) = &output.next_hops {
        ends.next_hops.send_replace(next_hops.clone());
    }
    if let Some(bgp) = &output.bgp {
        ends.bgp.send_replace(Some(bgp.clone()));
    }
    ends.dataplane.put(output);
}

fn publish(calc: &Calc, board: &Board, output: Option<&Output>) {
    let waiting_for = calc.waiting_for();
    let blocks = calc.blocks();
    let tunnels = calc.tunnel_facts().cloned();
    let borrowed = calc.borrowed();
    board.calc.send_if_modified(|view| {
        let mut changed = view.waiting_for != waiting_for || view.blocks != blocks;
        changed |= view.tunnels != tunnels || view.borrowed != borrowed;
        view.borrowed = borrowed;
        view.tunnels = tunnels;
        view.blocks = blocks;
        view.waiting_for = waiting_for;
        if let Some(output) = output {
            changed = true;
            view.routes = calc.route_numbers();
            view.generation = output.generation;
            if let Some(endpoints) = &output.endpoints {
                view.endpoints = endpoints.clone();
            }
            if let Some(overlay) = &output.overlay {
                view.overlay = Some(overlay.clone());
            }
            if let Some(bgp) = &output.bgp {
                view.bgp = Some(bgp.clone());
            }
            if let Some(problems) = &output.problems {
                view.problems = problems.clone();
            }
        }
        changed
    });
}
