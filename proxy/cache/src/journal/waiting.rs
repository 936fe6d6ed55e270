//! Purges that a store has not numbered yet, where the process may die before it has.
//!
//! A purge that finds its store away is in force here and waits to be sent ([`crate::outer`]'s
//! `unnumbered`). Who asked is told that it is pending, and may count on it: so it is on disk by
//! then. The next process sends it first. What was sent meanwhile is sent again: a purge that is
//! made twice does no harm.
//!
//! Those that come while one is written are written, and synced, together: while a store is away
//! there may be one for every call.
//!
//! The file is as the journal's, in a directory of its own; its numbers are only its order.

use super::{Book, WAITING_MAX, lock};
use crate::generations::Subject;
use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, TryLockError},
};
use tokio::{sync::oneshot, task};

/// The purges on disk that nobody but us may know of.
#[derive(Debug)]
pub struct Waiting {
    inner: Arc<Inner>,
    /// Of the process before, oldest first. Taken once.
    left: Mutex<Vec<Subject>>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    /// Locked before the book where both are.
    queue: Mutex<Queue>,
    book: Mutex<Book>,
}

/// What is to be written.
#[derive(Debug, Default)]
struct Queue {
    subjects: Vec<Subject>,
    /// Those who wait for them.
    told: Vec<oneshot::Sender<()>>,
    /// Somebody writes, and will look here again.
    is_written: bool,
}

impl Waiting {
    /// Reads what the process before has left in `dir`.
    ///
    /// # Errors
    /// The directory cannot be written. (A file that cannot be understood is begun anew.)
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let lost = "purges that were said to be pending may not reach their store; make them again";
        let book = Book::read(dir, lost)?;
        let mut left: Vec<(u64, Subject)> =
            book.newest.iter().map(|(subject, sequence)| (*sequence, *subject)).collect();
        left.sort_unstable();
        let left = Mutex::new(left.into_iter().map(|(_, subject)| subject).collect());
        let (dir, queue) = (dir.to_owned(), Mutex::default());
        let inner = Arc::new(Inner { dir, queue, book: Mutex::new(book) });
        Ok(Self { inner, left })
    }

    /// What is to be sent, oldest first; nothing from the second time on.
    pub(crate) fn take_left(&self) -> Vec<Subject> {
        std::mem::take(&mut lock(&self.left))
    }

    /// Has them written. They are on disk, if it can be written, when what it returns ends; they
    /// come there whether or not anybody waits for that.
    pub(crate) fn keep(&self, subjects: &[Subject]) -> impl Future<Output = ()> + use<> {
        let (told, heard) = oneshot::channel();
        if self.inner.put(subjects, told) {
            let inner = self.inner.clone();
            task::spawn_blocking(move || inner.write());
        }
        async move {
            // It fails only where the runtime is being taken down.
            let _over = heard.await;
        }
    }

    /// A disk on which nothing gets anywhere until this is dropped.
    #[cfg(test)]
    pub(crate) fn stall(&self) -> std::sync::mpsc::Sender<()> {
        let inner = self.inner.clone();
        let ((stalled, is_stalled), (end, ends)) =
            (std::sync::mpsc::channel(), std::sync::mpsc::channel());
        std::thread::spawn(move || {
            let _book = lock(&inner.book);
            stalled.send(()).unwrap();
            ends.recv().unwrap_or_default();
        });
        is_stalled.recv().unwrap();
        end
    }

    /// Forgets what is there, if everything that waited was sent.
    pub(crate) fn clear_if(&self, is_sent: impl FnOnce() -> bool) {
        let until = {
            // Where somebody writes there is something that waits: another time.
            let book = match self.inner.book.try_lock() {
                Ok(book) => book,
                Err(TryLockError::Poisoned(book)) => book.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            if book.newest.is_empty() {
                return;
            }
            book.sequence
        };
        // What is kept from here on may wait still.
        if is_sent() {
            let inner = self.inner.clone();
            task::spawn_blocking(move || inner.clear(until));
        }
    }
}

impl Inner {
    /// Whether nobody writes yet.
    fn put(&self, subjects: &[Subject], told: oneshot::Sender<()>) -> bool {
        let mut queue = lock(&self.queue);
        if queue.subjects.len() >= WAITING_MAX {
            // Nothing is lost: one purge of everything stands for all that waited.
            queue.subjects = vec![Subject::ALL];
        }
        queue.subjects.extend_from_slice(subjects);
        // Who has gone waits no more.
        queue.told.retain(|told| !told.is_closed());
        queue.told.push(told);
        !std::mem::replace(&mut queue.is_written, true)
    }

    /// Writes until nothing is left, and syncs what came together once.
    fn write(&self) {
        loop {
            let mut queue = lock(&self.queue);
            if queue.subjects.is_empty() {
                queue.is_written = false;
                return;
            }
            let subjects = std::mem::take(&mut queue.subjects);
            let told = std::mem::take(&mut queue.told);
            drop(queue);
            if let Err(error) = lock(&self.book).append(&self.dir, &subjects) {
                tracing::warn!(%error, "purges that wait for their store would be lost with the process");
            }
            for told in told {
                // Who asked may have gone.
                let _gone = told.send(());
            }
        }
    }

    fn clear(&self, until: u64) {
        let mut book = lock(&self.book);
        if book.sequence != until {
            return;
        }
        match Book::begin(&self.dir, book.epoch, book.sequence, HashMap::new()) {
            Ok(empty) => *book = empty,
            Err(error) => tracing::debug!(%error, "purges that were sent will be sent again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generations::{Glob, Target};
    use tempfile::TempDir;

    #[tokio::test]
    async fn what_waited_is_there_for_the_next_process_in_its_order_and_only_once() {
        let dir = TempDir::new().unwrap();
        let glob = Glob::parse("a pattern of several pieces:*").unwrap();
        let told = Subject::told(Target::Pattern(&glob), true);
        let tag = Subject::of(Target::Tag("a"));
        let first = Waiting::open(dir.path()).unwrap();
        assert!(first.take_left().is_empty());
        first.keep(&told).await;
        first.keep(&[tag]).await;
        first.keep(&told).await;
        drop(first);

        let second = Waiting::open(dir.path()).unwrap();
        let left = second.take_left();
        assert_eq!((left[0], &left[1..]), (tag, &*told));
        assert!(second.take_left().is_empty());
        let until = lock(&second.inner.book).sequence;
        second.keep(&[tag]).await;
        second.inner.clear(until);
        assert_eq!(lock(&second.inner.book).newest.len(), 1 + told.len(), "one came meanwhile");
        second.inner.clear(until + 1);
        drop(second);
        assert!(Waiting::open(dir.path()).unwrap().take_left().is_empty());
    }

    /// How often the disk was waited for.
    fn syncs(waiting: &Waiting) -> usize {
        lock(&waiting.inner.book).syncs
    }

    #[tokio::test]
    async fn purges_that_come_while_one_is_written_are_written_together() {
        let dir = TempDir::new().unwrap();
        let waiting = Waiting::open(dir.path()).unwrap();
        let tag = |n: usize| Subject::of(Target::Tag(&n.to_string()));
        let slow_disk = lock(&waiting.inner.book);
        let kept: Vec<_> = (0..500).map(|n| waiting.keep(&[tag(n)])).collect();
        drop(slow_disk);
        for kept in kept {
            kept.await;
        }
        assert!(syncs(&waiting) <= 2, "{}", syncs(&waiting));
        drop(waiting);
        assert_eq!(Waiting::open(dir.path()).unwrap().take_left().len(), 500);
    }

    #[tokio::test]
    async fn more_than_can_wait_for_a_slow_disk_are_one_purge_of_everything() {
        let dir = TempDir::new().unwrap();
        let waiting = Waiting::open(dir.path()).unwrap();
        let slow_disk = lock(&waiting.inner.book);
        let mut last = None;
        for n in 0..3 * WAITING_MAX {
            last = Some(waiting.keep(&[Subject::of(Target::Tag(&n.to_string()))]));
        }
        assert!(lock(&waiting.inner.queue).subjects.len() <= WAITING_MAX);
        drop(slow_disk);
        last.unwrap().await;
        drop(waiting);
        let left = Waiting::open(dir.path()).unwrap().take_left();
        // What was being written already, and what waited for that.
        assert!(left.contains(&Subject::ALL) && left.len() <= 2 * WAITING_MAX, "{}", left.len());
    }

    #[tokio::test]
    async fn who_clears_now_and_then_waits_for_no_disk() {
        let dir = TempDir::new().unwrap();
        let waiting = Waiting::open(dir.path()).unwrap();
        waiting.keep(&[Subject::ALL]).await;
        let slow_disk = lock(&waiting.inner.book);
        waiting.clear_if(|| true);
        drop(slow_disk);
        assert_eq!(lock(&waiting.inner.book).newest.len(), 1, "another time");
    }

    #[tokio::test]
    async fn a_file_that_is_not_ours_is_begun_anew() {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("purges"), b"something else").unwrap();
        let waiting = Waiting::open(dir.path()).unwrap();
        assert!(waiting.take_left().is_empty());
        waiting.keep(&[Subject::ALL]).await;
        drop(waiting);
        assert_eq!(Waiting::open(dir.path()).unwrap().take_left(), [Subject::ALL]);
    }
}
