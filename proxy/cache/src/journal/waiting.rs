//! Purges that a store has not numbered yet, where the process may die before it has.
//!
//! A purge that finds its store away is in force here and waits to be sent ([`crate::outer`]'s
//! `unnumbered`). Who asked is told that it is pending, and may count on it: so it is on disk by
//! then. The next process sends it first. What was sent meanwhile is sent again: a purge that is
//! made twice does no harm.
//!
//! The file is as the journal's, in a directory of its own; its numbers are only its order.

use super::{Book, lock};
use crate::generations::Subject;
use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use tokio::task;

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
    book: Mutex<Book>,
}

impl Waiting {
    /// Reads what the process before has left in `dir`.
    ///
    /// # Errors
    /// The directory cannot be written. (A file that cannot be understood is begun anew.)
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let book = Book::read(dir)?;
        let mut left: Vec<(u64, Subject)> =
            book.newest.iter().map(|(subject, sequence)| (*sequence, *subject)).collect();
        left.sort_unstable();
        let left = Mutex::new(left.into_iter().map(|(_, subject)| subject).collect());
        let inner = Arc::new(Inner { dir: dir.to_owned(), book: Mutex::new(book) });
        Ok(Self { inner, left })
    }

    /// What is to be sent, oldest first; nothing from the second time on.
    pub(crate) fn take_left(&self) -> Vec<Subject> {
        std::mem::take(&mut lock(&self.left))
    }

    /// They are on disk when this returns, if it can be written.
    pub(crate) async fn keep(&self, subjects: &[Subject]) {
        let (inner, subjects) = (self.inner.clone(), subjects.to_vec());
        let kept = task::spawn_blocking(move || {
            let kept = lock(&inner.book).append(&inner.dir, &subjects);
            if let Err(error) = kept {
                tracing::warn!(%error, "a purge that waits for its store would be lost with the process");
            }
        });
        // It fails only where the runtime is being taken down.
        let _over = kept.await;
    }

    /// Forgets what is there, if everything that waited was sent.
    pub(crate) fn clear_if(&self, is_sent: impl FnOnce() -> bool) {
        let until = {
            let book = lock(&self.inner.book);
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
