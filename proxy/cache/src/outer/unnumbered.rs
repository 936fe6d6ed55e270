//! This instance's purges that the keeper has not numbered yet.
//!
//! They are in force here already, also against what other stores still have
//! ([`Generations::await_number`]); what is missing is that the others hear of them. Until the
//! keeper has, they wait here, oldest first, and are pushed before anything else when it is back.

use super::UNNUMBERED_MAX;
use crate::{
    counters::TierCounters,
    generations::{Generations, Subject},
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{Notify, oneshot};

#[derive(Debug)]
pub(crate) struct Unnumbered {
    generations: Arc<Generations>,
    counters: Arc<TierCounters>,
    waiting: Mutex<VecDeque<Waiting>>,
    came: Notify,
}

#[derive(Debug)]
struct Waiting {
    subject: Subject,
    numbered: oneshot::Sender<()>,
}

impl Unnumbered {
    pub(crate) fn new(generations: Arc<Generations>, counters: Arc<TierCounters>) -> Self {
        Self { generations, counters, waiting: Mutex::default(), came: Notify::new() }
    }

    /// Puts a purge on its way. The receiver hears when the keeper has numbered it.
    pub(crate) fn push(&self, subject: Subject) -> oneshot::Receiver<()> {
        let (numbered, heard) = oneshot::channel();
        let mut waiting = self.waiting();
        if waiting.len() >= UNNUMBERED_MAX {
            // Nothing is lost: one purge of everything stands for all that waited.
            self.counters.pending_dropped.add_one();
            self.generations.await_number(Subject::ALL);
            for given_up in waiting.drain(..) {
                self.generations.number_came(given_up.subject);
            }
            waiting.push_back(Waiting { subject: Subject::ALL, numbered });
        } else {
            self.generations.await_number(subject);
            waiting.push_back(Waiting { subject, numbered });
        }
        drop(waiting);
        self.came.notify_one();
        heard
    }

    /// Puts a purge, and before it what goes with it, on its way, as [`Self::push`] does.
    pub(crate) fn push_all(&self, subjects: &[Subject]) -> oneshot::Receiver<()> {
        // The keeper numbers them in their order: the last stands for all.
        subjects
            .iter()
            .map(|subject| self.push(*subject))
            .last()
            .unwrap_or_else(|| oneshot::channel().1)
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting().len()
    }

    /// Returns when one was pushed since the last time.
    pub(crate) async fn came(&self) {
        self.came.notified().await;
    }

    /// All that wait, oldest first.
    pub(crate) fn all(&self) -> Vec<Subject> {
        self.waiting().iter().map(|waiting| waiting.subject).collect()
    }

    pub(crate) fn oldest(&self) -> Option<Subject> {
        self.waiting().front().map(|waiting| waiting.subject)
    }

    /// The keeper has numbered a purge of `subject`, and the table says so: the oldest waiting for
    /// that is done.
    pub(crate) fn numbered(&self, subject: Subject) {
        let mut waiting = self.waiting();
        let place = waiting.iter().position(|waiting| waiting.subject == subject);
        let done = place.and_then(|place| waiting.remove(place));
        drop(waiting);
        if let Some(done) = done {
            self.generations.number_came(subject);
            // The asker may have gone; the purge is done all the same.
            let _gone = done.numbered.send(());
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
