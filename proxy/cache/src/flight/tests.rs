//! What a flight promises to those who listen.

use super::*;
use crate::key::{BodyDigest, KeyParts, Scope};
use proptest::prelude::*;
use std::{sync::atomic::AtomicUsize, time::Duration};
use tokio::{runtime::Builder, sync::mpsc, task::JoinSet, time};

/// An upstream that says what a test tells it to say.
struct Told {
    pieces: mpsc::Receiver<Next>,
    log: Arc<Log>,
}

#[derive(Debug, Default)]
struct Log {
    complete: AtomicUsize,
    cut: AtomicUsize,
    dropped: AtomicUsize,
    stored: Mutex<Option<Vec<u8>>>,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.log.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

impl Source for Told {
    /// How much of it may be kept.
    type Head = Option<usize>;
    /// Whether the failure is the leader's own.
    type Failure = bool;
    type Outcome = &'static str;

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        self.pieces.poll_recv(cx).map(|next| next.unwrap_or(Next::Cut))
    }

    fn finish(self, end: End, recording: Option<Recording>) -> &'static str {
        match end {
            End::Complete => self.log.complete.fetch_add(1, Ordering::SeqCst),
            End::Cut => self.log.cut.fetch_add(1, Ordering::SeqCst),
        };
        *self.log.stored.lock().unwrap() = recording.map(|it| it.body.to_vec());
        "outcome"
    }

    fn recorded_bytes_max(head: &Option<usize>) -> Option<usize> {
        *head
    }

    fn is_leaders_own(failure: &bool) -> bool {
        *failure
    }
}

fn key() -> CacheKey {
    let parts = KeyParts {
        namespace: "n",
        upstream: "u",
        method: "POST",
        path: "/",
        query: None,
        model: "m",
        model_version: "",
        versions: &[],
        scope: Scope::Tenant("t"),
        headers: &[],
        body: &BodyDigest::of(b"{}"),
    };
    parts.key().0
}

const RANK: usize = 2;

fn rank(place: usize) -> ClassId {
    ClassId::new(place).unwrap()
}

struct Scene {
    flights: Flights<Told>,
    log: Arc<Log>,
}

impl Scene {
    fn new() -> Self {
        Self { flights: Flights::default(), log: Arc::default() }
    }

    /// Leads a fill whose head takes `head_after`, and gives the hand that feeds it.
    fn lead(
        &self,
        keep: Option<usize>,
        head_after: Duration,
    ) -> (Listener<Told>, mpsc::Sender<Next>) {
        let Join::Lead(lead) = self.flights.join(key(), rank(RANK)) else {
            panic!("somebody leads already")
        };
        let (feed, pieces) = mpsc::channel(64);
        let log = self.log.clone();
        let fetching = Box::pin(async move {
            time::sleep(head_after).await;
            Ok((keep, Told { pieces, log }))
        });
        (lead.start(fetching).unwrap(), feed)
    }

    fn follow(&self) -> Listener<Told> {
        match self.flights.join(key(), rank(RANK)) {
            Join::Follow(listener) => listener,
            Join::Lead(_) => panic!("nobody leads"),
        }
    }
}

async fn read(mut listener: Listener<Told>) -> Result<Vec<u8>, Cut> {
    listener.head().await.map_err(|_| Cut)?;
    let mut all = Vec::new();
    while let Some(piece) = poll_fn(|cx| listener.poll_piece(cx)).await {
        all.extend_from_slice(&piece?);
    }
    Ok(all)
}

#[tokio::test]
async fn everybody_gets_the_whole_answer_of_one_fill() {
    let stage = Scene::new();
    let (leader, feed) = stage.lead(Some(1024), Duration::ZERO);
    let mut readers = JoinSet::new();
    readers.spawn(read(leader));
    for _ in 0..20 {
        readers.spawn(read(stage.follow()));
    }
    for piece in ["a", "b", "c"] {
        feed.send(Next::Piece(piece.into())).await.unwrap();
    }
    feed.send(Next::End).await.unwrap();
    let answers = readers.join_all().await;
    assert!(answers.iter().all(|answer| answer.as_deref() == Ok(b"abc")), "{answers:?}");
    assert_eq!(stage.log.complete.load(Ordering::SeqCst), 1);
    assert_eq!(stage.log.stored.lock().unwrap().as_deref(), Some(b"abc".as_slice()));
    assert!(stage.flights.is_empty());
}

#[tokio::test(start_paused = true)]
async fn callers_with_less_patience_than_the_fill_are_served_by_those_before() {
    let stage = Scene::new();
    let (leader, feed) = stage.lead(Some(1024), Duration::from_millis(300));
    feed.send(Next::Last("x".into())).await.unwrap();
    let mut callers = JoinSet::new();
    let patience = Duration::from_millis(200);
    callers.spawn(time::timeout(patience, read(leader)));
    for _ in 1..8 {
        time::sleep(Duration::from_millis(50)).await;
        if let Join::Follow(listener) = stage.flights.join(key(), rank(RANK)) {
            callers.spawn(time::timeout(patience, read(listener)));
        }
    }
    let served = callers.join_all().await.into_iter().filter(|it| matches!(it, Ok(Ok(_)))).count();
    // Those who came at 150 ms and later; who came at 100 left at the very moment.
    assert!(served >= 3, "{served} were served");
    assert_eq!(stage.log.complete.load(Ordering::SeqCst), 1, "one fill");
}

#[tokio::test]
async fn a_late_joiner_gets_the_bytes_so_far_and_then_the_rest() {
    let stage = Scene::new();
    let (mut leader, feed) = stage.lead(Some(1024), Duration::ZERO);
    leader.head().await.unwrap();
    feed.send(Next::Piece("so far ".into())).await.unwrap();
    let first = poll_fn(|cx| leader.poll_piece(cx)).await.unwrap().unwrap();
    assert_eq!(first, "so far ");
    let mut late = JoinSet::new();
    late.spawn(read(stage.follow()));
    feed.send(Next::Last("and the rest".into())).await.unwrap();
    let rest = poll_fn(|cx| leader.poll_piece(cx)).await.unwrap().unwrap();
    assert_eq!(rest, "and the rest");
    assert!(leader.is_over());
    assert_eq!(late.join_next().await.unwrap().unwrap().unwrap(), b"so far and the rest");
    assert_eq!(leader.outcome(), Some("outcome"));
}

#[tokio::test]
async fn when_the_last_listener_leaves_the_upstream_call_is_dropped() {
    let stage = Scene::new();
    let (mut leader, _feed) = stage.lead(Some(1024), Duration::ZERO);
    leader.head().await.unwrap();
    let follower = stage.follow();
    drop(leader);
    assert_eq!(stage.log.dropped.load(Ordering::SeqCst), 0, "somebody listens");
    drop(follower);
    assert_eq!(stage.log.dropped.load(Ordering::SeqCst), 1);
    assert_eq!(stage.log.complete.load(Ordering::SeqCst), 0, "a half answer is no answer");
    assert!(stage.flights.is_empty());
}

#[tokio::test]
async fn a_cut_answer_is_a_cut_for_everybody() {
    let stage = Scene::new();
    let (leader, feed) = stage.lead(Some(1024), Duration::ZERO);
    let follower = stage.follow();
    feed.send(Next::Piece("half".into())).await.unwrap();
    feed.send(Next::Cut).await.unwrap();
    assert_eq!(read(leader).await, Err(Cut));
    assert_eq!(read(follower).await, Err(Cut));
    assert_eq!(stage.log.cut.load(Ordering::SeqCst), 1);
    assert!(stage.log.stored.lock().unwrap().is_none());
}

#[tokio::test]
async fn an_answer_that_is_not_kept_is_joined_by_nobody_and_held_by_nobody() {
    let stage = Scene::new();
    let (mut leader, feed) = stage.lead(None, Duration::ZERO);
    leader.head().await.unwrap();
    assert!(matches!(stage.flights.join(key(), rank(RANK)), Join::Lead(_)));
    for _ in 0..10 {
        feed.send(Next::Piece(Bytes::from(vec![0; 1000]))).await.unwrap();
        poll_fn(|cx| leader.poll_piece(cx)).await.unwrap().unwrap();
    }
    assert_eq!(leader.flight.lock().held_pieces(), 0);
}

#[tokio::test]
async fn a_longer_answer_than_may_be_kept_goes_through_and_is_not_stored() {
    let stage = Scene::new();
    let (leader, feed) = stage.lead(Some(10), Duration::ZERO);
    feed.send(Next::Piece("0123456789".into())).await.unwrap();
    feed.send(Next::Piece("more".into())).await.unwrap();
    feed.send(Next::End).await.unwrap();
    assert_eq!(read(leader).await.unwrap(), b"0123456789more");
    assert!(stage.log.stored.lock().unwrap().is_none());
}

#[tokio::test]
async fn when_the_lead_is_given_up_a_follower_leads() {
    let stage = Scene::new();
    let Join::Lead(lead) = stage.flights.join(key(), rank(RANK)) else { panic!("a fresh table") };
    let mut follower = stage.follow();
    drop(lead);
    assert!(matches!(follower.head().await, Err(NoHead::Lead)));
    assert!(matches!(stage.flights.join(key(), rank(RANK)), Join::Lead(_)));
}

#[tokio::test]
async fn a_failure_of_the_leaders_own_makes_the_next_lead() {
    for (own, follower_leads) in [(true, true), (false, false)] {
        let stage = Scene::new();
        let Join::Lead(lead) = stage.flights.join(key(), rank(RANK)) else { panic!("fresh") };
        let mut follower = stage.follow();
        let mut leader = lead.start(Box::pin(async move { Err(own) })).unwrap();
        assert!(matches!(leader.head().await, Err(NoHead::Failed(told)) if told == own));
        assert_eq!(matches!(follower.head().await, Err(NoHead::Lead)), follower_leads);
    }
}

#[tokio::test]
async fn the_more_important_do_not_wait_behind_a_leader_that_is_queued() {
    let stage = Scene::new();
    let Join::Lead(lead) = stage.flights.join(key(), rank(RANK)) else { panic!("fresh") };
    let queued = lead.queued();
    queued.raise(None);
    assert!(matches!(stage.flights.join(key(), rank(RANK)), Join::Follow(_)));
    let Join::Lead(urgent) = stage.flights.join(key(), rank(0)) else { panic!("it follows") };
    // And whoever comes now follows the urgent one.
    assert!(matches!(stage.flights.join(key(), rank(RANK)), Join::Follow(_)));
    drop(lead);
    assert!(matches!(stage.flights.join(key(), rank(RANK)), Join::Follow(_)), "not unlisted");
    drop(urgent);
    assert!(stage.flights.is_empty());
}

#[tokio::test]
async fn a_leader_that_can_be_lifted_goes_forward_with_the_more_important() {
    let stage = Scene::new();
    let Join::Lead(lead) = stage.flights.join(key(), rank(RANK)) else { panic!("fresh") };
    let lifted = Arc::new(Mutex::new(Vec::new()));
    let noted = lifted.clone();
    lead.queued().raise(Some(Arc::new(move |class: ClassId| {
        noted.lock().unwrap().push(class.place());
        true
    })));
    assert!(matches!(stage.flights.join(key(), rank(0)), Join::Follow(_)));
    // It is as important as that now: nobody need lift it again.
    assert!(matches!(stage.flights.join(key(), rank(0)), Join::Follow(_)));
    assert_eq!(*lifted.lock().unwrap(), [0]);
    assert_eq!(stage.flights.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_listener_holds_back_only_an_answer_that_is_not_kept() {
    let stage = Scene::new();
    let (mut fast, feed) = stage.lead(Some(1 << 30), Duration::ZERO);
    let mut slow = stage.follow();
    fast.head().await.unwrap();
    slow.head().await.unwrap();
    // More than may be kept from here on.
    fast.flight.lock().give_up();
    let piece = Bytes::from(vec![0; 200 * 1024]);
    for _ in 0..3 {
        feed.send(Next::Piece(piece.clone())).await.unwrap();
    }
    for _ in 0..2 {
        poll_fn(|cx| fast.poll_piece(cx)).await.unwrap().unwrap();
    }
    let third = poll_fn(|cx| Poll::Ready(fast.poll_piece(cx).is_ready())).await;
    assert!(!third, "two pieces are held for the slow one");
    poll_fn(|cx| slow.poll_piece(cx)).await.unwrap().unwrap();
    let third = poll_fn(|cx| Poll::Ready(fast.poll_piece(cx).is_ready())).await;
    assert!(third);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_threads_nobody_sleeps_for_ever() {
    for _ in 0..200 {
        let stage = Scene::new();
        let (leader, feed) = stage.lead(Some(1 << 20), Duration::ZERO);
        let mut readers = JoinSet::new();
        for _ in 0..4 {
            readers.spawn(read(stage.follow()));
        }
        readers.spawn(read(leader));
        let mut feeder = JoinSet::new();
        feeder.spawn(async move {
            for _ in 0..50 {
                feed.send(Next::Piece("x".into())).await.unwrap();
            }
            feed.send(Next::End).await.unwrap();
        });
        let answers = time::timeout(Duration::from_secs(20), readers.join_all()).await.unwrap();
        assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|all| all.len() == 50)));
        feeder.join_all().await;
    }
}

/// A flight whose head has come, with its leader.
async fn streaming(stage: &Scene, keep: Option<usize>) -> (Listener<Told>, mpsc::Sender<Next>) {
    let (mut leader, feed) = stage.lead(keep, Duration::ZERO);
    leader.head().await.unwrap();
    (leader, feed)
}

async fn piece(listener: &mut Listener<Told>) -> Bytes {
    poll_fn(|cx| listener.poll_piece(cx)).await.unwrap().unwrap()
}

#[tokio::test]
async fn late_joiners_share_the_bytes_so_far_and_have_no_copies_of_their_own() {
    let stage = Scene::new();
    let (mut leader, feed) = streaming(&stage, Some(1 << 20)).await;
    for _ in 0..2 {
        feed.send(Next::Piece(Bytes::from(vec![7; 1000]))).await.unwrap();
        piece(&mut leader).await;
    }
    let mut late = [stage.follow(), stage.follow(), stage.follow()];
    let [one, other, _] = &mut late;
    let (one, other) = (piece(one).await, piece(other).await);
    assert_eq!((one.len(), other.len()), (2000, 2000));
    assert_eq!(one.as_ptr(), other.as_ptr());
    feed.send(Next::Last(Bytes::from(vec![8; 1000]))).await.unwrap();
    piece(&mut leader).await;
    let [one, other, last] = late;
    assert_eq!(read(one).await.unwrap(), vec![8; 1000]);
    assert_eq!(read(other).await.unwrap(), vec![8; 1000]);
    let all = [vec![7; 2000], vec![8; 1000]].concat();
    assert_eq!(read(last).await.as_deref(), Ok(all.as_slice()));
    assert_eq!(stage.log.stored.lock().unwrap().as_deref(), Some(all.as_slice()));
}

#[tokio::test]
async fn a_slow_listener_of_what_is_kept_has_a_window_held_for_it_and_reads_the_rest_later() {
    let stage = Scene::new();
    let (mut fast, feed) = streaming(&stage, Some(1 << 20)).await;
    let (slow, leaves) = (stage.follow(), stage.follow());
    let mut all = Vec::new();
    for n in 0..2_000_u32 {
        all.extend_from_slice(&n.to_le_bytes());
        feed.send(Next::Piece(Bytes::copy_from_slice(&n.to_le_bytes()))).await.unwrap();
        piece(&mut fast).await;
        assert!(fast.flight.lock().held_pieces() <= 257);
    }
    drop(leaves);
    feed.send(Next::End).await.unwrap();
    assert!(poll_fn(|cx| fast.poll_piece(cx)).await.is_none());
    assert_eq!(stage.log.stored.lock().unwrap().as_deref(), Some(all.as_slice()));
    assert_eq!(read(slow).await.unwrap(), all);
}

/// What may happen at a flight.
#[derive(Clone, Debug)]
enum Step {
    Comes(usize),
    Joins,
    Reads(usize),
    Leaves(usize),
    IsDisplaced,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..200_usize).prop_map(|len| Step::Comes(len * len)),
        3 => Just(Step::Joins),
        6 => any::<usize>().prop_map(Step::Reads),
        1 => any::<usize>().prop_map(Step::Leaves),
        1 => Just(Step::IsDisplaced),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn whoever_listens_has_every_byte_once_and_in_its_order(
        steps in steps(),
        keep in prop_oneof![Just(None), (0..3_000_000_usize).prop_map(Some)],
    ) {
        // A machine that stands still for a second takes nothing from anybody's patience here.
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _time = runtime.enter();
        let stage = Scene::new();
        let Join::Lead(lead) = stage.flights.join(key(), rank(RANK)) else { panic!("fresh") };
        let (feed, pieces) = mpsc::channel(64);
        let log = stage.log.clone();
        let leader = lead.start(Box::pin(async move { Ok((keep, Told { pieces, log })) })).unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        let mut listeners = vec![(leader, Vec::new())];
        prop_assert!(listeners[0].0.poll_head(&mut cx).is_ready());
        let mut all = Vec::new();
        for step in steps {
            match step {
                Step::Comes(len) => {
                    let piece = vec![u8::try_from(all.len() % 251).unwrap(); len];
                    all.extend_from_slice(&piece);
                    feed.try_send(Next::Piece(piece.into())).unwrap();
                }
                Step::Joins => {
                    if let Join::Follow(joiner) = stage.flights.join(key(), rank(RANK)) {
                        listeners.push((joiner, Vec::new()));
                    }
                }
                Step::Reads(who) => {
                    let who = who % listeners.len();
                    let (listener, had) = &mut listeners[who];
                    if let Poll::Ready(piece) = listener.poll_piece(&mut cx) {
                        had.extend_from_slice(&piece.unwrap().unwrap());
                    }
                }
                Step::Leaves(who) if listeners.len() > 1 => {
                    drop(listeners.swap_remove(who % listeners.len()));
                }
                Step::Leaves(_) => {}
                Step::IsDisplaced => listeners[0].0.flight.lock().give_up(),
            }
            for (_, had) in &listeners {
                prop_assert!(all.starts_with(had));
            }
        }
        feed.try_send(Next::End).unwrap();
        // One that is not kept waits for the slowest: all read by turns.
        while listeners.iter().any(|(listener, _)| !listener.is_over()) {
            for (listener, had) in &mut listeners {
                if let Poll::Ready(Some(piece)) = listener.poll_piece(&mut cx) {
                    had.extend_from_slice(&piece.unwrap());
                }
            }
        }
        for (_, had) in &listeners {
            prop_assert!(*had == all);
        }
    }
}

mod order;
mod slow;
