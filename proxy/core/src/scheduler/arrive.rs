//! How a call joins those who wait, and who leaves when there are too many.
//!
//! It is put into its line first and asked about room after: the rules that say whose turn
//! it is then hold for it too, and one that may run never needs a place in the queue.

use super::{Arrival, Ask, Scheduler, Shed, Stage, Waiter, WaiterId, rules::Class};

impl Scheduler {
    pub(super) fn enqueue(&mut self, place: usize, ask: &Ask, now_ns: u64) -> Arrival {
        let Some(class) = self.classes.get(place) else {
            debug_assert!(false, "there is always a class");
            return Arrival::Shed(Shed::QueueFull);
        };
        let latest_ns = ask.latest_ns();
        let (expires_ns, at_end) = class.patience(now_ns, latest_ns);
        let waiter = Waiter {
            place,
            home: place,
            tenant: ask.tenant,
            weight: ask.weight,
            line: 0,
            cost: ask.cost(),
            arrived_ns: now_ns,
            latest_ns,
            expires_ns,
            at_end,
        };
        let Some(id) = self.waiters.insert(waiter) else {
            return Arrival::Shed(Shed::QueueFull);
        };
        self.line_up(id, place);
        self.waiters.append_arrival(&mut self.arrivals, id);
        self.waiting += 1;
        // Others may wait for what it does not need: a slot of their class, more budget.
        self.fill(now_ns);
        let mut stays = Ok(());
        if self.waiters.stage(id) == Some(Stage::Waiting) {
            stays = if expires_ns <= now_ns { Err(at_end) } else { self.make_room(id, place) };
            self.fill(now_ns);
        }
        match (self.waiters.stage(id), stays) {
            (Some(Stage::Granted { run, way, .. }), _) => {
                self.waiters.remove(id);
                Arrival::Granted(self.runs.take(run, way))
            }
            (_, Err(shed)) => {
                self.unlink(id);
                self.waiters.remove(id);
                self.fill(now_ns);
                Arrival::Shed(shed)
            }
            (_, Ok(())) => {
                self.expiry.set(id.idx(), (expires_ns, now_ns));
                if place == 0 {
                    self.preempt(now_ns);
                }
                Arrival::Waiting { waiter: id, expires_ns }
            }
        }
    }

    /// Puts a waiter at the end of its line in that class.
    pub(super) fn line_up(&mut self, id: WaiterId, place: usize) {
        if let Some(class) = self.classes.get_mut(place) {
            if class.queue.is_empty() {
                class.vtime = class.vtime.max(self.virtual_now);
            }
            class.queue.push(id, &mut self.waiters);
        }
    }

    /// Makes room for one that came to wait and for whom there is none. `Err`: it is
    /// the one to go.
    ///
    /// Only here is a shared buffer fair or not: whoever fills it pays for it, with the
    /// newest of the costliest of its tenants; and where all classes together are too
    /// many, the least important one pays.
    fn make_room(&mut self, newcomer: WaiterId, place: usize) -> Result<(), Shed> {
        loop {
            let is_over = self.classes.get(place).is_some_and(Class::is_over);
            if !is_over && self.waiting <= self.bounds.queue_max {
                return Ok(());
            }
            let mut below = self.classes.iter().enumerate().skip(place + 1);
            let lowest = below.rfind(|(_, class)| !is_over && !class.queue.is_empty());
            let from = lowest.map_or(place, |(lowest, _)| lowest);
            let mine = self.waiters.waiter(newcomer).map(|waiter| waiter.line);
            let queue = self.classes.get(from).map(|class| &class.queue);
            let victim = queue.and_then(|queue| queue.costliest(mine.filter(|_| from == place)));
            match victim {
                Some(victim) if victim != newcomer => {
                    self.unlink(victim);
                    self.settle(victim, Stage::Shed(Shed::PushedOut));
                }
                Some(_) | None => return Err(Shed::QueueFull),
            }
        }
    }
}
