//! One step after the other: observe, plan, apply, until nothing is left to do.

use netlink::{Error, Link, Socket};

use crate::apply::{self, Outcome, Target};
use crate::plan::{self, Observed, Op, Plan};
use crate::{Carrier, Problem, Tunnel};

/// How often a step looks again at what it has done: some changes undo others, such as a new
/// hardware address, with which the kernel forgets the neighbours.
const ROUNDS: usize = 4;

/// A tunnel and who carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What it shall be like.
    pub tunnel: Tunnel,
    /// Who moves its packets.
    pub carrier: Carrier,
}

impl Device {
    /// Brings about what must be before routes lead through the tunnel.
    ///
    /// # Errors
    /// When the kernel cannot be asked at all; what it refuses is among the outcome's problems.
    pub fn prepare(&self, socket: &mut Socket) -> Result<Outcome, Error> {
        self.run(socket, plan::prepare)
    }

    /// Takes away what no route needs any more.
    ///
    /// # Errors
    /// As for [`Device::prepare`].
    pub fn sweep(&self, socket: &mut Socket) -> Result<Outcome, Error> {
        self.run(socket, plan::sweep)
    }

    /// Ends the device of a name, of one of the kinds made here. Another kind of device is left
    /// alone.
    ///
    /// # Errors
    /// As for [`Device::prepare`].
    pub fn retire(socket: &mut Socket, name: &str) -> Result<Outcome, Error> {
        let mut outcome = Outcome {
            observed: apply::observe_device(socket, name)?,
            ..Outcome::default()
        };
        let mut target = Target {
            index: outcome.observed.link.as_ref().map(|link| link.index),
            socket,
            name,
        };
        for op in plan::retire(&outcome.observed) {
            match target.apply(&op, None) {
                Ok(()) => outcome.written += 1,
                Err(error) if error.refusal().is_some() => {
                    outcome.problems.push(Problem::Refused(error.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
        outcome.observed = apply::observe_device(socket, name)?;
        Ok(outcome)
    }

    /// Whether a tunnel in user space, of this run or an earlier one, has a device here.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn has_stand_in(&self, socket: &mut Socket) -> Result<bool, Error> {
        let link = socket.link(&self.tunnel.name)?;
        Ok(link.is_some_and(|link| plan::is_of_kind(&self.tunnel, Carrier::User, &link)))
    }

    /// Whether the kernel can make such devices.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn is_supported(&self, socket: &mut Socket) -> Result<bool, Error> {
        socket.can_make(self.tunnel.kind())
    }

    /// Whether there is something that [`Device::retire`] would end.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn is_left(socket: &mut Socket, name: &str) -> Result<bool, Error> {
        let observed = apply::observe_device(socket, name)?;
        Ok(!plan::retire(&observed).is_empty())
    }

    /// Whether the device of a name bears the mark of ours, and there is something to end: whoever
    /// else made one of the same name, or took it over, keeps it.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn is_left_of_ours(socket: &mut Socket, name: &str) -> Result<bool, Error> {
        let observed = apply::observe_device(socket, name)?;
        let marked = |link: &Link| link.alias.as_deref() == Some(plan::MARK);
        Ok(observed.link.as_ref().is_some_and(marked) && !plan::retire(&observed).is_empty())
    }

    /// Whether routes may lead through the device: it is there, of the right kind, and up.
    pub fn carries(&self, link: &Link) -> bool {
        link.admin_up && plan::is_of_kind(&self.tunnel, self.carrier, link)
    }

    fn run(
        &self,
        socket: &mut Socket,
        plan: fn(&Tunnel, Carrier, &Observed) -> Plan,
    ) -> Result<Outcome, Error> {
        let mut outcome = Outcome::default();
        let mut refused: Vec<(Op, Problem)> = Vec::new();
        let mut go_on = true;
        for _ in 0..ROUNDS {
            outcome.observed = apply::observe(socket, &self.tunnel, self.carrier)?;
            let plan = plan(&self.tunnel, self.carrier, &outcome.observed);
            let is_refused = |op: &Op| refused.iter().any(|(known, _)| known == op);
            let todo: Vec<Op> = plan.ops.into_iter().filter(|op| !is_refused(op)).collect();
            if todo.is_empty() || !go_on {
                outcome.problems = plan.problems;
                outcome.problems.extend(refused.into_iter().map(|(_, p)| p));
                return Ok(outcome);
            }
            go_on = self.carry_out(socket, &todo, &mut outcome, &mut refused)?;
        }
        outcome.problems.push(Problem::Contested);
        outcome.problems.extend(refused.into_iter().map(|(_, p)| p));
        Ok(outcome)
    }

    /// Whether there is a device to go on with.
    fn carry_out(
        &self,
        socket: &mut Socket,
        todo: &[Op],
        outcome: &mut Outcome,
        refused: &mut Vec<(Op, Problem)>,
    ) -> Result<bool, Error> {
        let mut target = Target {
            index: outcome.observed.link.as_ref().map(|link| link.index),
            socket,
            name: &self.tunnel.name,
        };
        for op in todo {
            match target.apply(op, Some((&self.tunnel, &outcome.observed))) {
                Ok(()) => outcome.written += 1,
                Err(error) if is_answer(&error) => {
                    let problem = apply::problem(op, &error, &self.tunnel, &outcome.observed);
                    refused.push((op.clone(), problem));
                    match op {
                        Op::Create | Op::Delete | Op::ChangeVxlan => return Ok(false),
                        // The device went away: the next round makes another.
                        _ if matches!(error, Error::NoDevice(_)) => break,
                        _ => {}
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Whether the kernel understood and said no, so that other questions make sense.
fn is_answer(error: &Error) -> bool {
    error.refusal().is_some() || matches!(error, Error::System { .. })
}
