//! The controllers of the world: who leads, turns, crashes, effects.

use super::{Event, SIGN_INTERVAL, Seat, World};
use crate::bugs::{self, Bug};
use crate::looks;
use crate::net::Place;
use crate::seat::{Caller, CrashPoint, Leader, Message, Outbox, Process, Role, config};
use crate::sweep::Victim;
use crate::wire::{Answer, Owner, Task};
use control::backup::{Done, Job, JobEnd};
use control::{Effect, Input, Record};

impl World {
    pub fn start_controller(&mut self, at: usize) {
        let store = if self.seats[at].foreign { &self.foreign } else { &self.store };
        let log = Box::new(store.handle(at as u64));
        self.story.add(self.now, || format!("controller {at} starts"));
        let seat = &mut self.seats[at];
        seat.life += 1;
        seat.frozen = false;
        seat.began = self.now;
        seat.process = Some(Process::new(log, self.now));
        let life = seat.life;
        // The first to stand lets the others know before they are out of patience.
        if let Some(process) = &mut self.seats[at].process {
            let patience = crate::seat::LEADER_SILENT.saturating_sub(500 + at as u64 * 500);
            process.role = Role::Standby { heard: self.now.saturating_sub(patience) };
            process.due = u64::MAX;
        }
        self.push(self.now + 200 + at as u64 * 100, Event::Sign { at, life });
    }

    /// Starts a controller with a log of its own, which all sidecars are told to ask, too.
    pub fn start_foreign(&mut self) {
        let at = self.seats.len();
        self.seats.push(Seat { process: None, life: 0, frozen: false, foreign: true, began: 0 });
        for machine in &self.machines {
            machine.sidecar.borrow_mut().controllers = self.seats.len();
        }
        self.start_controller(at);
    }

    pub fn kill_controller(&mut self, at: usize) {
        self.story.add(self.now, || format!("controller {at} is killed"));
        let seat = &mut self.seats[at];
        seat.process = None;
        let life = seat.life;
        self.tasks.retain(|_, task| task.owner != Owner::Controller { at, life });
        self.break_calls(at);
    }

    fn break_calls(&mut self, at: usize) {
        let calls: Vec<(u64, u64)> =
            self.calls.iter().filter(|(_, seat)| **seat == at).map(|(call, _)| *call).collect();
        for (task, ask) in calls {
            self.calls.remove(&(task, ask));
            self.push(self.now + 1, Event::Answer { caller: Caller { task, ask }, answer: Answer::Broken });
        }
    }

    /// The seat whose process leads, as far as it knows itself.
    pub fn leader(&self) -> Option<&Leader> {
        let ours = self.seats.iter().filter(|seat| !seat.foreign);
        let leading = ours.filter_map(|seat| match &seat.process.as_ref()?.role {
            Role::Leads(leader) => Some(&**leader),
            _ => None,
        });
        leading.max_by_key(|leader| leader.controller.epoch())
    }

    /// A standby asks the others for a sign of life, and stands for leader when none came for long.
    pub(super) fn standby(&mut self, at: usize, life: u64) {
        if self.seats[at].life != life || self.seats[at].process.is_none() {
            return;
        }
        self.push(self.now + SIGN_INTERVAL, Event::Sign { at, life });
        if self.seats[at].frozen {
            return;
        }
        let heard = match &self.seats[at].process {
            Some(Process { role: Role::Standby { heard }, .. }) => *heard,
            _ => return,
        };
        // The lowest live candidate first: the others wait a little longer.
        if self.now.saturating_sub(heard) >= crate::seat::LEADER_SILENT + at as u64 * 1_000 {
            return self.take_lead(at);
        }
        let foreign = self.seats[at].foreign;
        let same = |other: &usize| *other != at && self.seats[*other].foreign == foreign;
        for other in (0..self.seats.len()).filter(same).collect::<Vec<_>>() {
            if self.net.hears(Place::Controller(at), Place::Controller(other)) {
                self.push(self.now + 1, Event::Message { to: other, message: Message::Sign { from: at } });
            }
        }
    }

    fn take_lead(&mut self, at: usize) {
        let (settings, seed, bug) = (self.settings.clone(), self.chance.draw(), self.bug);
        let Some(process) = &mut self.seats[at].process else { return };
        if process.log.recover().is_err() {
            return;
        }
        match Leader::open(&*process.log, |log_id| config(at, log_id, &settings, seed)) {
            Ok(mut leader) => {
                leader.one_queue = bug == Some(Bug::DeadNodeBlocks);
                process.role = Role::Leads(Box::new(leader));
                process.due = self.now;
            }
            // The log cannot be reached: another tries, or this one later.
            Err(error) if error.contains("injected") || error.contains("reached") => {}
            Err(error) => self.violate("5 leaders", format!("the log does not open: {error}")),
        }
    }

    pub(super) fn message(&mut self, to: usize, message: Message) {
        let now = self.now;
        let seat = &mut self.seats[to];
        let Some(process) = &mut seat.process else {
            if let Message::Poll { caller, .. } | Message::Statement { caller, .. } = message {
                self.push(now + 1, Event::Answer { caller, answer: Answer::Refused });
            }
            return;
        };
        match (&mut process.role, message) {
            (Role::Leads(_), message) if seat.frozen => process.inbox.push_back(message),
            _ if seat.frozen => {}
            (Role::Leads(_), message) => {
                process.inbox.push_back(message);
                process.due = process.due.min(now + 2);
            }
            (Role::Standby { heard }, Message::Lives) => *heard = now,
            (_, Message::Poll { caller, .. } | Message::Statement { caller, .. }) => {
                self.push(now + 1, Event::Answer { caller, answer: Answer::NotLeader });
            }
            _ => {}
        }
    }

    pub fn freeze(&mut self, at: usize) {
        self.story.add(self.now, || format!("controller {at} is frozen"));
        self.seats[at].frozen = true;
    }

    /// Goes on where it stood, with the messages that came meanwhile.
    pub fn thaw(&mut self, at: usize) {
        let now = self.now;
        self.seats[at].frozen = false;
        if let Some(process) = &mut self.seats[at].process
            && !matches!(process.role, Role::Standby { .. })
        {
            process.due = now;
        }
    }

    pub(super) fn turn(&mut self, at: usize) {
        let (now, rate) = (self.now, self.controller_crashes);
        let Some(mut process) = self.seats[at].process.take() else { return };
        if let Role::Rereads { at: when } = process.role {
            process.due = when;
            self.seats[at].process = Some(process);
            if now >= when {
                self.take_lead(at);
                if let Some(process) = &mut self.seats[at].process
                    && matches!(process.role, Role::Rereads { .. })
                {
                    process.role = Role::Rereads { at: now + 200 };
                    process.due = now + 200;
                }
            }
            return;
        }
        if matches!(process.role, Role::Standby { .. }) {
            process.due = u64::MAX;
            self.seats[at].process = Some(process);
            return;
        }
        let mut out = Outbox::default();
        let mut sweep = std::mem::take(&mut self.sweep);
        let mut chance = self.chance.clone();
        let crash = |_: CrashPoint| {
            if sweep.passes(Victim::Controller) {
                sweep.crashed = true;
                return true;
            }
            rate > 0 && chance.hits(rate)
        };
        let bend = |state: &_, node, command, undo| bugs::bend_command(self, state, node, command, undo);
        let bend_records = |records| bugs::bend_records(self, records);
        let ended = process.turn((now, self.unix()), crash, bend, bend_records, self.bug, &mut out);
        (self.sweep, self.chance) = (sweep, chance);
        let deposed = !matches!(process.role, Role::Leads(_));
        if deposed {
            process.due = if let Role::Rereads { at } = process.role { at } else { u64::MAX };
        }
        self.seats[at].process = Some(process);
        self.carry_out(at, out);
        if ended.is_err() && !deposed {
            self.count_fault("controller crash");
            self.kill_controller(at);
            let back = now + self.chance.between(100, 2_000);
            self.push(back, Event::Fault(crate::faults::Turn::StartController { at }));
        }
    }

    /// Whoever writes to a shard itself knows its group by what people were told: not a group that a hand-over is just filling.
    fn tell_homes(&self) {
        let Some(leader) = self.leader() else { return };
        let homes = leader.controller.state().tables.values().flat_map(|table| table.homes.iter().cloned());
        self.play.borrow_mut().homes = homes.collect();
    }

    fn carry_out(&mut self, at: usize, out: Outbox) {
        let life = self.seats[at].life;
        crate::story::records(self, at, &out.records);
        // The invariants are those of the log that the nodes are bound to.
        if !self.seats[at].foreign {
            crate::invariants::leaders::appended(self, at, &out.records);
            crate::invariants::plans::appended(self, &out.records);
            self.tell_homes();
        }
        self.freeze_for(&out.records);
        let commands = out.records.iter().any(|record| matches!(record, Record::StepStarted { .. }));
        self.end_jobs(at, &out.effects);
        if commands && std::mem::take(&mut self.freeze_leader_at_next_command) {
            return self.freeze(at);
        }
        for (caller, answer) in out.answers {
            self.calls.remove(&(caller.task, caller.ask));
            let arrival = self.now + 1 + self.chance.below(self.net.delay_max);
            let there = self.tasks.get(&caller.task).map(|task| Self::place(task.owner));
            if there.is_some_and(|there| self.net.hears(Place::Controller(at), there)) {
                let lost = self.net.lost_replies > 0 && self.chance.hits(self.net.lost_replies);
                let answer = if lost { Answer::Broken } else { answer };
                self.push(arrival, Event::Answer { caller, answer });
            }
        }
        for other in out.signs {
            if self.net.hears(Place::Controller(at), Place::Controller(other)) {
                self.push(self.now + 1, Event::Message { to: other, message: Message::Lives });
            }
        }
        let owner = Owner::Controller { at, life };
        for effect in out.effects {
            match effect {
                Effect::Poll { node, token, tables, timeout_ms } => {
                    self.spawn(Task::new(owner, |wire| looks::poll(wire, node, token, tables, timeout_ms)));
                }
                Effect::Measure { node, token, tables, deep } => {
                    self.spawn(Task::new(owner, move |wire| looks::measure(wire, node, token, tables, deep)));
                }
                Effect::Command { .. }
                | Effect::Job { .. }
                | Effect::Answer { .. }
                | Effect::NamesChanged
                | Effect::EndJob { .. }
                | Effect::Announce(_) => {}
            }
        }
    }

    /// A controller that stands still has begun them all the same.
    fn end_jobs(&mut self, at: usize, effects: &[Effect]) {
        for effect in effects {
            let Effect::Job { operation, step, attempt, job } = effect else { continue };
            let (operation, step, attempt) = (*operation, *step, *attempt);
            let end = match **job {
                Job::Facts { .. } => JobEnd::Done(Done::default()),
                _ => JobEnd::Failed { why: "documents are not kept in a simulation".to_owned(), last: true },
            };
            self.message(at, Message::Seen(Input::JobOver { operation, step, attempt, end }));
        }
    }

    /// The sidecar that one of these steps is for stands still from now on, when one is to.
    fn freeze_for(&mut self, records: &[Record]) {
        let node = records.iter().find_map(|record| match record {
            Record::StepStarted { node, .. } => Some(node),
            _ => None,
        });
        let machine = node.and_then(|node| self.machines.iter_mut().find(|machine| machine.node == *node));
        if let (true, Some(machine)) = (self.freeze_at_next_command, machine) {
            self.freeze_at_next_command = false;
            // Some longer than a command may wait.
            machine.sidecar_frozen_until = self.now + self.chance.between(1_000, 60_000);
        }
    }
}
