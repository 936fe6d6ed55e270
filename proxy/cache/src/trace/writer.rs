//! Writes a trace. The way of a call has only [`Trace::write`]: a digest and a place in a queue, no
//! allocation, no wait; the first call after a pause wakes the thread, which takes the queue's own
//! short lock. That thread does the rest, because it blocks on the disk.
//!
//! What finds no place in the queue, or none on the disk, is dropped and counted: a trace with holes
//! is a worse trace, and no caller's trouble. Nothing is synced: a process that is killed loses the
//! last moment, a machine that dies what the kernel had not written.

use super::{
    CURRENT, Head, Line, PREVIOUS, SAMPLE_ALL,
    codec::{self, Block, Counts},
};
use crate::{counters::Count, key::CacheKey, memory::Policy};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::{
    collections::{HashMap, HashSet},
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Lines that may wait, about 1.9 MB of them, allocated while a trace is written: at one look each
/// [`GATHER`] room for 160,000 calls a second.
const QUEUE_MAX: usize = 16_384;
/// How long lines are gathered before the thread looks at them: so none of them has to wake it.
const GATHER: Duration = Duration::from_millis(100);
/// Between two lines of the log about the same trouble, in looks at the queue: about a minute.
const COMPLAINT_LOOKS: u32 = 600;
const PPM: u64 = 1_000_000;
/// Every route beyond so many is called by one number.
const ROUTES_MAX: usize = 10_000;

/// What a trace is written by.
#[derive(Clone, Debug)]
pub struct Settings {
    pub dir: PathBuf,
    /// Of both files together.
    pub bytes_max: u64,
    /// The part of all keys that is noted, in millionths; at least 1.
    pub sample_ppm: u32,
    /// What memory may hold, and what it keeps: for who replays.
    pub memory_bytes_max: u64,
    pub policy: Policy,
    /// Bytes that are in memory now.
    pub held_bytes: u64,
    /// Unix time.
    pub now_ms: u64,
}

/// What became of lines, of all traces of a process.
#[derive(Debug, Default)]
pub struct TraceCounters {
    pub written: Count,
    /// The queue was full, or the disk was.
    pub dropped: Count,
}

/// A trace that is being written.
#[derive(Debug)]
pub struct Trace {
    queue: SyncSender<Message>,
    secret: [u8; 32],
    sample: u64,
    shared: Arc<Shared>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
enum Message {
    Line(Line<Arc<str>>),
    End,
}

#[derive(Debug, Default)]
struct Shared {
    asked: AtomicU32,
    answered: AtomicU32,
    lost: AtomicU32,
    counters: Arc<TraceCounters>,
}

impl Trace {
    /// Begins a trace in `settings.dir`; the file of the one before is kept until this one needs its
    /// room.
    ///
    /// # Errors
    /// The directory cannot be written, or there is no randomness for a secret.
    pub fn begin(settings: &Settings, counters: Arc<TraceCounters>) -> io::Result<Self> {
        let mut random = [0; 40];
        let no_secret = |_| io::Error::other("no randomness for the secret of a trace");
        SystemRandom::new().fill(&mut random).map_err(no_secret)?;
        let mut secret = [0; 32];
        let mut run = 0_u64;
        for (place, byte) in secret.iter_mut().zip(random) {
            *place = byte;
        }
        for byte in random.iter().skip(secret.len()) {
            run = run << 8 | u64::from(*byte);
        }
        let sample = u64::from(settings.sample_ppm).saturating_mul(SAMPLE_ALL) / PPM;
        let head = Head {
            run,
            part: 0,
            begun_ms: settings.now_ms,
            sample: sample.clamp(1, SAMPLE_ALL),
            memory_bytes_max: settings.memory_bytes_max,
            policy: settings.policy,
            held_bytes: settings.held_bytes,
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&settings.dir)?;
        let part_bytes_max = settings.bytes_max / 2;
        let mut files = Files { dir: settings.dir.clone(), part_bytes_max, head, open: None };
        files.begin()?;
        let (queue, waiting) = sync_channel(QUEUE_MAX);
        let shared = Arc::new(Shared { counters, ..Shared::default() });
        let keeper = Keeper {
            waiting,
            files,
            shared: shared.clone(),
            block: Block::default(),
            numbers: HashMap::new(),
            named: HashSet::new(),
            complain_in: 0,
        };
        let keeper =
            thread::Builder::new().name("tollgate-trace".to_owned()).spawn(|| keeper.run())?;
        let keeper = Mutex::new(Some(keeper));
        Ok(Self { queue, secret, sample: head.sample, shared, keeper })
    }

    /// Notes a call about `key`, if that is one of those that are noted. Its digest is put in here.
    pub fn write(&self, key: &CacheKey, mut line: Line<Arc<str>>) {
        let shared = &self.shared;
        if line.is_call() {
            shared.asked.fetch_add(1, Relaxed);
            shared.answered.fetch_add(u32::from(line.is_answered()), Relaxed);
        }
        let digest = blake3::keyed_hash(&self.secret, key.as_bytes());
        let digest = digest.as_bytes().first_chunk().copied().unwrap_or_default();
        line.digest = u64::from_le_bytes(digest);
        if line.digest >> 32 >= self.sample {
            return;
        }
        if self.queue.try_send(Message::Line(line)).is_err() {
            shared.lose(1);
        }
    }

    /// Writes what waits, and ends. Blocks on the disk. What is noted later is dropped.
    pub fn end(&self) {
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(keeper) = keeper else { return };
        // Only a thread that is gone does not take it.
        self.queue.send(Message::End).ok();
        keeper.thread().unpark();
        if keeper.join().is_err() {
            tracing::error!("the thread of the key trace died; the trace may end too early");
        }
    }
}

impl Shared {
    fn lose(&self, lines: u32) {
        self.lost.fetch_add(lines, Relaxed);
        self.counters.dropped.add(u64::from(lines));
    }

    /// Since the block before.
    fn counts(&self) -> Counts {
        Counts {
            asked: self.asked.swap(0, Relaxed),
            answered: self.answered.swap(0, Relaxed),
            lost: self.lost.swap(0, Relaxed),
        }
    }
}

/// The thread.
struct Keeper {
    waiting: Receiver<Message>,
    files: Files,
    shared: Arc<Shared>,
    block: Block,
    numbers: HashMap<Arc<str>, u16>,
    /// Numbers whose names are in the file.
    named: HashSet<u16>,
    complain_in: u32,
}

impl Keeper {
    fn run(mut self) {
        let mut has_ended = false;
        while !has_ended {
            // Nobody calls: nothing is done.
            match self.waiting.recv() {
                Ok(Message::Line(line)) => self.add(&line),
                Ok(Message::End) | Err(_) => has_ended = true,
            }
            if !has_ended {
                thread::park_timeout(GATHER);
            }
            has_ended |= self.take_all();
            // The last calls are counted, even where none of them was one to note.
            if !self.block.is_empty() || has_ended {
                self.flush();
            }
            self.complain_in = self.complain_in.saturating_sub(1);
        }
    }

    /// Whether the end is among what waits.
    fn take_all(&mut self) -> bool {
        let mut has_ended = false;
        // No more than there is room for: who calls without end does not keep a block from the disk.
        for _ in 0..QUEUE_MAX {
            match self.waiting.try_recv() {
                Ok(Message::Line(line)) => self.add(&line),
                Ok(Message::End) => has_ended = true,
                Err(_) => break,
            }
        }
        has_ended
    }

    fn add(&mut self, line: &Line<Arc<str>>) {
        if self.block.is_full() {
            self.flush();
        }
        let next = u16::try_from(self.numbers.len().min(ROUTES_MAX)).unwrap_or(u16::MAX);
        let number = match self.numbers.get(&line.route) {
            Some(number) => *number,
            None => {
                if self.numbers.len() < ROUTES_MAX {
                    self.numbers.insert(line.route.clone(), next);
                }
                next
            }
        };
        if self.named.insert(number) {
            self.block.name(number, &line.route);
        }
        self.block.line(line, number);
    }

    fn flush(&mut self) {
        let counts = self.shared.counts();
        if self.block.is_empty() && counts == Counts::default() {
            return;
        }
        let bytes = self.block.finish(counts);
        let lines = self.block.lines;
        match self.files.write(&bytes) {
            Ok(Wrote::Here) => self.shared.counters.written.add(u64::from(lines)),
            Ok(Wrote::Next) => {
                self.shared.counters.written.add(u64::from(lines));
                // In that file no route has a name yet.
                self.named.clear();
            }
            Err(error) => {
                for (count, more) in [
                    (&self.shared.asked, counts.asked),
                    (&self.shared.answered, counts.answered),
                    (&self.shared.lost, counts.lost),
                ] {
                    count.fetch_add(more, Relaxed);
                }
                self.shared.lose(lines);
                self.named.clear();
                self.complain(&error);
            }
        }
        self.block.clear();
    }

    fn complain(&mut self, error: &io::Error) {
        if self.complain_in == 0 {
            self.complain_in = COMPLAINT_LOOKS;
            let dir = self.files.dir.display();
            tracing::warn!(%error, %dir, "calls are missing from the key trace: free space, or turn cache.trace off");
        }
    }
}

/// The two files that take turns.
struct Files {
    dir: PathBuf,
    part_bytes_max: u64,
    /// Of the next file that is begun.
    head: Head,
    open: Option<Open>,
}

struct Open {
    file: File,
    /// Up to where it is whole.
    len: u64,
}

/// Which file a block went to.
enum Wrote {
    Here,
    /// One that this block is the first of.
    Next,
}

impl Files {
    fn begin(&mut self) -> io::Result<()> {
        let path = self.dir.join(CURRENT);
        let head = codec::write_head(&self.head);
        let len = crate::key::len_u64(&head);
        match fs::metadata(&path) {
            // One without a call is not worth the calls of the one before.
            Ok(known) if known.len() > len => fs::rename(&path, self.dir.join(PREVIOUS))?,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
        file.write_all(&head)?;
        self.open = Some(Open { file, len });
        // What memory holds then, nobody asks.
        self.head =
            Head { part: self.head.part.saturating_add(1), held_bytes: u64::MAX, ..self.head };
        Ok(())
    }

    fn write(&mut self, block: &[u8]) -> io::Result<Wrote> {
        let len = crate::key::len_u64(block);
        let fits = |open: &Open| open.len.saturating_add(len) <= self.part_bytes_max;
        let wrote = if self.open.as_ref().is_some_and(fits) {
            Wrote::Here
        } else {
            self.open = None;
            self.begin()?;
            Wrote::Next
        };
        let Some(open) = &mut self.open else { return Err(io::Error::other("no file")) };
        let written = open.file.write_all(block);
        match written {
            Ok(()) => open.len = open.len.saturating_add(len),
            // A part of a block would hide all that follow.
            Err(_) => {
                if open.file.set_len(open.len).is_err() || rewind(open).is_err() {
                    self.open = None;
                }
            }
        }
        written.map(|()| wrote)
    }
}

fn rewind(open: &mut Open) -> io::Result<()> {
    use io::Seek as _;
    open.file.seek(io::SeekFrom::Start(open.len)).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::{super::Outcome, *};
    use crate::trace::{Recording, read};

    fn keeper(bytes_max: u64, dir: &tempfile::TempDir) -> Keeper {
        let head = Head {
            run: 1,
            part: 0,
            begun_ms: 0,
            sample: SAMPLE_ALL,
            memory_bytes_max: 1 << 20,
            policy: Policy::Lfu,
            held_bytes: 0,
        };
        let dir = dir.path().to_owned();
        Keeper {
            waiting: sync_channel(1).1,
            files: Files { dir, part_bytes_max: bytes_max / 2, head, open: None },
            shared: Arc::default(),
            block: Block::default(),
            numbers: HashMap::new(),
            named: HashSet::new(),
            complain_in: 0,
        }
    }

    fn line(at_ms: u64) -> Line<Arc<str>> {
        Line {
            at_ms,
            digest: at_ms,
            route: "chat".into(),
            outcome: Outcome::Missed,
            is_stale: false,
            by_content: true,
            asks_memory: true,
            kept: None,
        }
    }

    fn write(keeper: &mut Keeper, times: std::ops::Range<u64>) {
        for at_ms in times {
            keeper.add(&line(at_ms));
            if at_ms % 100 == 99 {
                keeper.flush();
            }
        }
    }

    fn bytes(dir: &tempfile::TempDir) -> u64 {
        fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum()
    }

    #[test]
    fn the_older_half_goes_and_both_are_never_more_than_there_is_room_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = keeper(20_000, &dir);
        for round in 0..40 {
            write(&mut keeper, round * 100..(round + 1) * 100);
            assert!(bytes(&dir) <= 20_000);
        }
        let Recording { lines, head, routes, .. } = read(dir.path()).unwrap();
        let times: Vec<u64> = lines.iter().map(|line| line.at_ms).collect();
        let first = times[0];
        assert!((1_000..3_500).contains(&first), "{first}: at least a half of the room is used");
        assert!(times.iter().copied().eq(first..4_000));
        assert!(head.part > 0 && head.held_bytes == u64::MAX, "{head:?}");
        assert!(routes.values().any(|name| &**name == "chat"), "each file names its routes");
    }

    #[test]
    fn calls_that_are_not_noted_are_counted_to_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = keeper(1 << 20, &dir);
        write(&mut keeper, 0..100);
        keeper.shared.asked.fetch_add(3, Relaxed);
        let (queue, waiting) = sync_channel(1);
        keeper.waiting = waiting;
        queue.send(Message::End).unwrap();
        keeper.run();
        let read = read(dir.path()).unwrap();
        assert_eq!((read.asked, read.lines.len()), (3, 100));
    }

    #[test]
    fn what_the_disk_does_not_take_is_dropped_and_counted_and_the_rest_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let mut keeper = keeper(1 << 20, &dir);
        write(&mut keeper, 0..100);
        // A file that cannot be written: as if the disk were full.
        let open = keeper.files.open.as_mut().unwrap();
        open.file = File::open(dir.path().join(CURRENT)).unwrap();
        write(&mut keeper, 100..200);
        assert_eq!(keeper.shared.counters.dropped.value(), 100);
        write(&mut keeper, 200..300);
        let read = read(dir.path()).unwrap();
        let times: Vec<u64> = read.lines.iter().map(|line| line.at_ms).collect();
        assert!(times.iter().copied().eq((0..100).chain(200..300)), "{times:?}");
        assert_eq!((read.lost, read.unread_bytes), (100, 0));
    }
}
