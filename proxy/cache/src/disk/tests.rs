//! The tier on a real directory.

use super::*;
use crate::{
    entry::tests::{entry, key},
    generations::{Stamp, Subject, Target},
    journal::Journal,
    wrap::SealKey,
};
use std::fs;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::DropGuard;

const NOW_MS: u64 = 2_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// One run of a process: the tier, and the purges it knows.
struct Run {
    tier: DiskTier,
    generations: Arc<Generations>,
    journal: Journal,
    tasks: TaskTracker,
    stop: CancellationToken,
    _stop: DropGuard,
}

impl Run {
    async fn of(dir: &TempDir) -> Self {
        Self::with(dir, DiskSettings::new(dir.path().join("entries"))).await
    }

    async fn with(dir: &TempDir, settings: DiskSettings) -> Self {
        let generations = Arc::<Generations>::default();
        let journal = Journal::open(dir.path(), generations.clone()).unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let tier =
            DiskTier::start(settings, generations.clone(), Arc::default(), NOW_MS, &tasks, &stop)
                .unwrap();
        let mut state = tier.state();
        let up = state.wait_for(|state| *state == DiskState::Up);
        time::timeout(PATIENCE, up).await.unwrap().unwrap();
        Self { tier, generations, journal, tasks, _stop: stop.clone().drop_guard(), stop }
    }

    fn entry(&self, n: u8, body: &'static [u8]) -> Arc<Entry> {
        let stamp: Stamp = self.generations.stamp();
        Arc::new(Entry { stamp, ..entry(key(n), body) })
    }

    fn store(&self, n: u8, body: &'static [u8]) {
        self.tier.store(key(n), self.entry(n, body), 60_000, Owed::default());
    }

    async fn find(&self, n: u8) -> Option<Entry> {
        let check = entry(key(n), b"").check;
        self.tier.look_up(key(n), &check, NOW_MS).await
    }

    /// Until what was let go of is off the disk.
    async fn removed(&self) {
        let all = self.tier.removals.acquire_many(u32::try_from(REMOVALS_MAX).unwrap());
        drop(time::timeout(PATIENCE, all).await.unwrap().unwrap());
    }

    /// As a process ends: what is queued is written.
    async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        time::timeout(PATIENCE, self.tasks.wait()).await.unwrap();
    }
}

fn file_of(dir: &TempDir, n: u8) -> PathBuf {
    let prefix = format!("{n:02x}");
    dir.path().join("entries").join(prefix).join(key(n).to_hex())
}

#[tokio::test]
async fn what_was_stored_is_there_after_a_restart() {
    let dir = TempDir::new().unwrap();
    let run = Run::of(&dir).await;
    run.store(1, b"answer");
    run.end().await;

    let run = Run::of(&dir).await;
    let found = run.find(1).await.unwrap();
    assert_eq!(&*found.body, b"answer");
    assert_eq!(found.ttl_ms, 60_000);
    assert!(run.find(2).await.is_none());
    let counters = run.tier.counters();
    assert_eq!((counters.hits.value(), counters.misses.value()), (1, 1));
}

#[tokio::test]
async fn more_reads_than_may_be_under_way_wait_their_turn() {
    let dir = TempDir::new().unwrap();
    let settings =
        || DiskSettings { read_timeout: PATIENCE, ..DiskSettings::new(dir.path().join("entries")) };
    let run = Run::with(&dir, settings()).await;
    for n in 0..200 {
        run.store(n, b"answer");
    }
    run.end().await;
    let run = Arc::new(Run::with(&dir, settings()).await);
    let mut looks = JoinSet::new();
    for n in 0..200 {
        let run = run.clone();
        looks.spawn(async move { run.find(n).await.is_some() });
    }
    let found = looks.join_all().await.into_iter().filter(|found| *found).count();
    assert_eq!((found, run.tier.counters().skipped.value()), (200, 0));
}

#[tokio::test]
async fn a_purge_holds_over_a_restart_and_gives_the_room_back() {
    let dir = TempDir::new().unwrap();
    let run = Run::of(&dir).await;
    run.store(1, b"answer");
    run.end().await;
    let run = Run::of(&dir).await;
    let subject = Subject::of(Target::Tag("kb:7"));
    run.generations.purge_here(subject);
    assert!(run.journal.purge(&[subject]).await);
    run.end().await;

    let run = Run::of(&dir).await;
    assert_eq!(run.tier.entries(), 1);
    assert!(run.find(1).await.is_none());
    assert_eq!(run.tier.counters().purged.value(), 1);
    assert_eq!((run.tier.entries(), run.tier.bytes()), (0, 0));
    run.removed().await;
    assert!(!file_of(&dir, 1).exists());
}

#[tokio::test]
async fn without_the_journal_nothing_that_lies_there_is_believed() {
    let dir = TempDir::new().unwrap();
    let run = Run::of(&dir).await;
    run.store(1, b"answer");
    run.end().await;
    fs::remove_file(dir.path().join("purges")).unwrap();
    let run = Run::of(&dir).await;
    assert!(run.find(1).await.is_none());
}

#[tokio::test]
async fn a_torn_twisted_or_moved_file_is_a_miss_and_leaves() {
    let dir = TempDir::new().unwrap();
    let run = Run::of(&dir).await;
    run.store(1, b"answer");
    run.store(2, b"another");
    run.end().await;
    let whole = fs::read(file_of(&dir, 1)).unwrap();
    let mut twisted = whole.clone();
    let last = twisted.len() - 20;
    twisted[last] ^= 1;
    let torn = whole[..whole.len() - 1].to_vec();
    let moved = fs::read(file_of(&dir, 2)).unwrap();
    for (bytes, kept) in [(torn, 1), (twisted, 1), (moved, 1), (b"TG".to_vec(), 0), (vec![], 0)] {
        fs::write(file_of(&dir, 1), &bytes).unwrap();
        let run = Run::of(&dir).await;
        assert!(run.find(1).await.is_none());
        assert_eq!(run.tier.counters().foreign.value(), kept, "{} bytes", bytes.len());
        run.removed().await;
        assert!(!file_of(&dir, 1).exists());
        run.end().await;
    }
}

#[tokio::test]
async fn the_files_never_take_more_room_than_they_may() {
    let dir = TempDir::new().unwrap();
    let settings =
        || DiskSettings { size_max: 64 * 1024, ..DiskSettings::new(dir.path().join("entries")) };
    let run = Run::with(&dir, settings()).await;
    for n in 0..100 {
        run.store(n, b"answer");
    }
    run.end().await;
    let run = Run::with(&dir, settings()).await;
    assert!((1..=16).contains(&run.tier.entries()), "{}", run.tier.entries());
    assert!(run.tier.bytes() <= 64 * 1024);
    let there = (0..100).filter(|n| file_of(&dir, *n).exists()).count();
    assert_eq!(there, run.tier.entries());
    run.end().await;
    // A smaller size is kept to after a restart, too.
    let smaller = DiskSettings { size_max: 16 * 1024, ..settings() };
    let run = Run::with(&dir, smaller).await;
    assert!(run.tier.entries() <= 4);
    assert!((0..100).filter(|n| file_of(&dir, *n).exists()).count() <= 4);
}

#[tokio::test]
async fn what_is_past_its_time_leaves_by_itself() {
    let dir = TempDir::new().unwrap();
    let run = Run::of(&dir).await;
    run.store(1, b"answer");
    run.end().await;
    let run = Run::of(&dir).await;
    run.tier.sweep(61_999);
    assert_eq!(run.tier.entries(), 1);
    let check = entry(key(1), b"").check;
    assert!(run.tier.look_up(key(1), &check, 61_000).await.is_none(), "past the entry's own time");
    assert_eq!(run.tier.entries(), 0);
}

#[tokio::test]
async fn sealed_files_say_nothing_and_open_with_their_key_only() {
    let dir = TempDir::new().unwrap();
    let sealed = |byte| DiskSettings {
        seals: Some(Seals { current: SealKey::new([byte; 32]), previous: Vec::new() }),
        compress: true,
        ..DiskSettings::new(dir.path().join("entries"))
    };
    let run = Run::with(&dir, sealed(1)).await;
    run.store(1, b"a very secret answer");
    run.end().await;
    let bytes = fs::read(file_of(&dir, 1)).unwrap();
    for clear in ["secret", "acme", "application/json"] {
        assert!(!bytes.windows(clear.len()).any(|window| window == clear.as_bytes()), "{clear}");
    }
    let run = Run::with(&dir, sealed(1)).await;
    assert_eq!(&*run.find(1).await.unwrap().body, b"a very secret answer");
    run.end().await;
    let run = Run::with(&dir, sealed(2)).await;
    assert!(run.find(1).await.is_none());
    assert_eq!(run.tier.counters().locked.value(), 1);
}

#[tokio::test]
async fn a_disk_that_takes_nothing_costs_nobody_anything() {
    let dir = TempDir::new().unwrap();
    let run = Run::of(&dir).await;
    // Even root cannot make a file of that name while a directory has it.
    fs::create_dir(dir.path().join("entries/new/0")).unwrap();
    run.store(1, b"answer");
    assert!(run.find(1).await.is_none());
    let counters = run.tier.counters().clone();
    run.end().await;
    assert_eq!((counters.stored.value(), counters.dropped_down.value()), (0, 1));
}

#[tokio::test]
async fn a_directory_that_was_cleared_is_made_again() {
    let dir = TempDir::new().unwrap();
    let run = Run::of(&dir).await;
    run.store(1, b"answer");
    run.end().await;
    let run = Run::of(&dir).await;
    fs::remove_dir_all(dir.path().join("entries")).unwrap();
    assert!(run.find(1).await.is_none(), "what is gone is a miss");
    run.store(2, b"another");
    run.end().await;
    assert!(file_of(&dir, 2).exists());
    let run = Run::of(&dir).await;
    assert_eq!(&*run.find(2).await.unwrap().body, b"another");
}

/// Method: the file that is written first is led to the device on which there never is room.
#[tokio::test]
async fn a_full_disk_is_given_an_eighth_of_the_files_back() {
    let dir = TempDir::new().unwrap();
    let run = Run::of(&dir).await;
    for n in 0..16 {
        run.store(n, b"answer");
    }
    run.end().await;
    let files = || (0..16).filter(|n| file_of(&dir, *n).exists()).count();
    assert_eq!(files(), 16);
    let run = Run::of(&dir).await;
    let counters = run.tier.counters().clone();
    std::os::unix::fs::symlink("/dev/full", dir.path().join("entries/new/0")).unwrap();
    run.store(16, b"answer");
    run.end().await;
    assert_eq!((counters.stored.value(), counters.dropped_down.value()), (0, 1));
    assert_eq!(files(), 14);
    // Of what is left nothing is torn, and there is room for the next.
    let run = Run::of(&dir).await;
    run.store(17, b"answer");
    run.end().await;
    assert!(file_of(&dir, 17).exists());
}

/// Method: the one thread that may wait for the disk is taken.
#[test]
fn a_disk_that_hangs_holds_no_caller_who_finds_what_is_past_its_time() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let dir = TempDir::new().unwrap();
    runtime.block_on(async {
        let run = Run::of(&dir).await;
        for n in 0..=u8::try_from(REMOVALS_MAX).unwrap() {
            run.store(n, b"answer");
        }
        run.end().await;
        let run = Run::of(&dir).await;
        let (hang, hung) = std::sync::mpsc::channel::<()>();
        let thread = task::spawn_blocking(move || hung.recv());
        for n in 0..=u8::try_from(REMOVALS_MAX).unwrap() {
            let check = entry(key(n), b"").check;
            assert!(run.tier.look_up(key(n), &check, u64::MAX).await.is_none());
            assert!(file_of(&dir, n).exists(), "whoever looked has waited for the disk");
        }
        assert_eq!(run.tier.entries(), 1, "no more wait than may; its room stays counted");
        drop(hang);
        thread.await.unwrap().unwrap_err();
        run.removed().await;
        assert!(!file_of(&dir, 0).exists());
        let check = entry(key(0), b"").check;
        let last = u8::try_from(REMOVALS_MAX).unwrap();
        assert!(run.tier.look_up(key(last), &check, u64::MAX).await.is_none());
        run.removed().await;
        assert_eq!((run.tier.entries(), file_of(&dir, last).exists()), (0, false));
    });
}
