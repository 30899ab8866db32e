//! Requests that wait for one block are served by one write of it.
//!
//! Each joins the queue of its block and waits for the lock of the block or for its answer, whatever comes first. Who gets
//! the lock writes what all want that wait by then, itself among them, and answers; so nobody waits for company, and who
//! came first is served first. Who is cut off in the queue is passed over. When the one that writes is cut off, or the
//! block has changed, the others are left without an answer and begin anew.
//!
//! Handles are raised before joining, many at the same time, each in an era of the block (see [`super::written`]). A group
//! frees addresses of handles that it was asked to release, without ending the era; that is no harm to a handle that was
//! raised in it, as the lock of a handle is held from raising to the answer, and from reading it to its release.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use crds::Cidr;
use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::edit::{self, Done, Edit};
use crate::error::Error;

use super::Ipam;

/// Most requests of one write.
const MOST: usize = 64;

/// One that waits.
struct Waiting {
    edit: Edit,
    /// The era in which it raised its count; `None` = it does not depend on what is known of the block.
    era: Option<u64>,
    answer: oneshot::Sender<Done>,
}

/// Who waits for which block, in the order of coming.
#[derive(Default)]
pub(super) struct Queues(Mutex<BTreeMap<Cidr, VecDeque<Waiting>>>);

impl Queues {
    fn join(&self, cidr: Cidr, era: Option<u64>, edit: Edit) -> oneshot::Receiver<Done> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { edit, era, answer };
        self.change(|queues| queues.entry(cidr).or_default().push_back(waiting));
        answered
    }

    /// The first of those who still wait.
    fn take(&self, cidr: Cidr) -> Vec<Waiting> {
        self.change(|queues| {
            queues.retain(|_, queue| {
                queue.retain(|waiting| !waiting.answer.is_closed());
                !queue.is_empty()
            });
            let Some(queue) = queues.get_mut(&cidr) else {
                return Vec::new();
            };
            queue.drain(..queue.len().min(MOST)).collect()
        })
    }

    fn change<R>(&self, change: impl FnOnce(&mut BTreeMap<Cidr, VecDeque<Waiting>>) -> R) -> R {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Ipam {
    /// Edits a block together with all who wait for it. `None` = it changed meanwhile, or whether it was written is not
    /// known: what the edit depends on must be done again.
    pub(super) async fn commit(
        &self,
        cidr: Cidr,
        era: Option<u64>,
        edit: Edit,
    ) -> Result<Option<Done>, Error> {
        let mut answered = self.queues.join(cidr, era, edit);
        let _block = tokio::select! {
            biased;
            done = &mut answered => return Ok(done.ok()),
            block = self.blocks.lock(&cidr) => block,
        };
        loop {
            match answered.try_recv() {
                Ok(done) => return Ok(Some(done)),
                Err(TryRecvError::Closed) => return Ok(None),
                // Only who has the lock takes of the queue, so this one is still in it.
                Err(TryRecvError::Empty) => self.serve(cidr).await?,
            }
        }
    }

    /// Writes a block for the first of those who wait for it; the lock of the block is held. It is written even when all
    /// find it full: only after that may they lower the counts that they raised.
    async fn serve(&self, cidr: Cidr) -> Result<(), Error> {
        let mut group = self.queues.take(cidr);
        let mut known = self.written.get(cidr);
        let era = known.as_ref().map(|known| known.era);
        group.retain(|waiting| waiting.era.is_none() || waiting.era == era);
        if group.is_empty() {
            return Ok(());
        }
        if known.is_none() {
            let read = self.block(cidr).await?;
            known = read.map(|(object, block)| self.written.keep(object, block, None));
        }
        let (edits, answers): (Vec<_>, Vec<_>) = group
            .into_iter()
            .map(|waiting| (waiting.edit, waiting.answer))
            .unzip();
        let done = match known {
            // Nobody has anything of a block that does not exist.
            None => vec![Done::default(); edits.len()],
            Some(known) => {
                let mut block = known.block.clone();
                let done = edit::apply(&mut block, &edits, self.now());
                let (object, era) = (known.object.clone(), Some(known.era));
                if !self.write_or_delete_block(object, &block, era).await? {
                    self.written.forget(cidr);
                    return Ok(());
                }
                done
            }
        };
        for (answer, done) in answers.into_iter().zip(done) {
            // Who was cut off meanwhile does not hear it; the handle has it all the same.
            let _ = answer.send(done);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_group_is_bounded_and_passes_over_who_has_gone() {
        let queues = Queues::default();
        let [here, there]: [Cidr; 2] =
            ["10.0.0.0/26", "10.0.0.64/26"].map(|cidr| cidr.parse().unwrap());
        let join = |cidr, number: usize| {
            let edit = Edit::Release {
                handle: number.to_string(),
                cooldown: Duration::ZERO,
            };
            queues.join(cidr, None, edit)
        };
        let mut waiting: VecDeque<_> = (0..MOST + 3).map(|number| join(here, number)).collect();
        drop(waiting.pop_front());
        drop(join(there, 0));
        let order = |group: &[Waiting]| -> Vec<String> {
            let ids = group.iter().map(|waiting| match &waiting.edit {
                Edit::Take { handle, .. } | Edit::Release { handle, .. } => handle.clone(),
            });
            ids.collect()
        };
        let expected: Vec<String> = (1..MOST + 3).map(|number| number.to_string()).collect();
        assert_eq!(order(&queues.take(here)), expected[..MOST]);
        assert_eq!(
            queues.0.lock().unwrap().len(),
            1,
            "nothing is kept of who has gone"
        );
        assert_eq!(order(&queues.take(here)), expected[MOST..]);
        assert_eq!(order(&queues.take(here)), [""; 0]);
    }
}
