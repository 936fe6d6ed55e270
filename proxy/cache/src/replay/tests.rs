//! A cache is run, its calls are written down, and the replay is held against what other caches
//! really do with the same calls.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

const ROUTE: u16 = 3;

/// One call of a made-up day: what is asked, how long the answer is.
#[derive(Clone, Copy)]
struct Ask {
    name: u64,
    bytes: u64,
}

fn mixed(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Calls about `2^bits` keys of which the first are asked for most (about Zipf 1), and a tenth about
/// keys that nobody asks for again.
fn day(calls: u64, bits: u64) -> Vec<Ask> {
    let mut state = 7;
    let ask = |_| {
        let mut draw = |below: u64| mixed(&mut state) % below;
        let name = if draw(10) == 0 {
            draw(u64::MAX)
        } else {
            let least = 1 << draw(bits);
            least + draw(least)
        };
        Ask { name, bytes: 700 + mixed(&mut name.clone()) % 6_000 }
    };
    (0..calls).map(ask).collect()
}

fn digest(name: u64) -> u64 {
    mixed(&mut (name ^ 0x5eed))
}

fn kept(weight: u64) -> Kept {
    let (ttl_ms, after_ms, took_ms) = (u64::MAX, 0, 20);
    Kept { weight, worth: weight, is_priced: true, ttl_ms, after_ms, took_ms }
}

fn line(at_ms: u64, name: u64, outcome: Outcome, kept: Option<Kept>) -> Line<u16> {
    let (is_stale, by_content, asks_memory) = (false, true, true);
    let digest = digest(name);
    Line { at_ms, digest, route: ROUTE, outcome, is_stale, by_content, asks_memory, kept }
}

fn recording(lines: Vec<Line<u16>>, memory_bytes_max: u64, policy: Policy) -> Recording {
    let head = Head {
        run: 1,
        part: 0,
        begun_ms: 0,
        sample: SAMPLE_ALL,
        memory_bytes_max,
        policy,
        held_bytes: 0,
    };
    let of = |is: fn(&Line<u16>) -> bool| {
        u64::try_from(lines.iter().filter(|line| is(line)).count()).unwrap()
    };
    let (asked, answered) = (of(Line::is_call), of(|line| line.is_call() && line.is_answered()));
    let routes = BTreeMap::from([(ROUTE, "chat".into())]);
    let (lost, unread_bytes, left_alone) = (0, 0, false);
    Recording { head, lines, routes, asked, answered, lost, unread_bytes, left_alone }
}

/// What a cache really does with `asks`, and what is written down of it.
fn really(asks: &[Ask], bytes_max: u64, policy: Policy) -> Recording {
    let tier = MemoryTier::with_policy(bytes_max, policy);
    let generations = Generations::default();
    let any =
        Replay::new(recording(vec![line(0, 0, Outcome::Missed, Some(kept(8_000)))], 1, policy));
    let lines = asks.iter().zip(1..).map(|(ask, at_ms)| {
        // As unlike the replay's as real keys are.
        let own = CacheKey::of_record(&ask.name.to_le_bytes());
        let of = kept(ask.bytes);
        if tier.look_up(&own, &CHECK, at_ms, &generations).is_some() {
            return line(at_ms, ask.name, Outcome::Memory, Some(Kept { took_ms: 0, ..of }));
        }
        tier.store(own, Arc::new(any.entry(&of, at_ms, None)), u64::MAX);
        line(at_ms, ask.name, Outcome::Missed, Some(of))
    });
    recording(lines.collect(), bytes_max, policy)
}

fn sampled(mut recording: Recording, sample: u64) -> Recording {
    recording.head.sample = sample;
    recording.lines.retain(|line| line.digest >> 32 < sample);
    recording
}

/// Whether what really happens under `setting` is within what the replay of `recording` says.
fn assert_foretells(replay: &Replay, as_it_was: &Score, setting: Setting, asks: &[Ask]) {
    let said = replay.estimate(&replay.play(&setting, |_| {}), as_it_was);
    let really = really(asks, setting.memory_bytes_max, setting.policy);
    let really_ppm = score::ratio_ppm(really.answered, really.asked);
    let off_ppm = said.ratio_ppm.abs_diff(really_ppm);
    assert!(off_ppm <= said.error_ppm, "{setting:?}: {said:?}, really {really_ppm}");
    assert!(said.error_ppm < 100_000, "{setting:?}: {said:?} says nothing");
}

#[test]
fn the_cache_as_it_was_and_every_other_size_and_policy_is_foretold_within_the_error() {
    let asks = day(20_000, 11);
    for was in [Policy::Lfu, Policy::Cost] {
        let replay = Replay::new(really(&asks, 2 << 20, was));
        let as_it_was = replay.play(&replay.as_it_was(), |_| {});
        let sizes = [2 << 20, 1 << 20, 4 << 20];
        for (memory_bytes_max, policy) in sizes.into_iter().zip([was, Policy::Lru, Policy::Lfu]) {
            let setting = Setting { memory_bytes_max, policy, ttl_ms: None };
            assert_foretells(&replay, &as_it_was, setting, &asks);
        }
    }
}

#[test]
fn a_sample_of_the_keys_foretells_within_an_error_that_it_knows() {
    let asks = day(40_000, 13);
    let recorded = really(&asks, 4 << 20, Policy::Lfu);
    for part in [4, 10] {
        let replay = Replay::new(sampled(recorded.clone(), SAMPLE_ALL / part));
        let as_it_was = replay.play(&replay.as_it_was(), |_| {});
        for memory_bytes_max in [4 << 20, 12 << 20] {
            let setting = Setting { memory_bytes_max, policy: Policy::Lfu, ttl_ms: None };
            assert_foretells(&replay, &as_it_was, setting, &asks);
        }
    }
}

/// Plays a few calls with room for all.
fn few(lines: Vec<Line<u16>>, ttl_ms: Option<u64>) -> Score {
    let replay = Replay::new(recording(lines, 1 << 20, Policy::Lfu));
    replay.play(&Setting { ttl_ms, ..replay.as_it_was() }, |_| {})
}

#[test]
fn who_asks_while_the_answer_is_on_its_way_joins_it() {
    let slow = Kept { after_ms: 100, ..kept(1_000) };
    let calls = |by_content| {
        let missed = line(10, 1, Outcome::Missed, Some(slow));
        let joined = line(50, 1, Outcome::Joined, None);
        let late = line(110, 1, Outcome::Memory, Some(kept(1_000)));
        let all = [missed, joined, late].map(|line| Line { by_content, ..line });
        let score = few(all.into(), None);
        (score.hits, score.joined, score.calls)
    };
    assert_eq!(calls(true), (1, 1, 3));
    assert_eq!(calls(false), (1, 0, 3), "in HTTP mode nobody joins");
}

#[test]
fn a_time_to_live_is_replaced_where_the_operator_says_it() {
    let short = Kept { ttl_ms: 100, ..kept(1_000) };
    let calls = |ttl_ms, by_content| {
        let all = [10, 150, 260]
            .map(|at_ms| Line { by_content, ..line(at_ms, 1, Outcome::Missed, Some(short)) });
        few(all.into(), ttl_ms).hits
    };
    assert_eq!(calls(None, true), 0);
    assert_eq!(calls(Some(200), true), 1, "until 210");
    assert_eq!(calls(Some(1_000), true), 2);
    assert_eq!(calls(Some(1_000), false), 0, "what HTTP caching keeps is its origin's to say");
    assert_eq!(calls(Some(0), true), 0);
}

#[test]
fn what_was_in_memory_before_the_trace_is_in_no_ratio() {
    let hit = || Some(kept(1_000));
    let lines = vec![
        line(1, 1, Outcome::Memory, hit()),
        line(2, 1, Outcome::Memory, hit()),
        line(3, 2, Outcome::Missed, hit()),
    ];
    let replay = Replay::new(recording(lines, 1 << 20, Policy::Lfu));
    let score = replay.play(&replay.as_it_was(), |_| {});
    for score in [&score, replay.recorded()] {
        assert_eq!((score.calls, score.hits, score.from_before), (2, 1, 1));
    }
}

#[test]
fn an_answer_that_was_not_kept_is_not_kept_again() {
    let failed = line(1, 1, Outcome::Missed, None);
    let lines = vec![failed, line(2, 1, Outcome::Missed, Some(kept(1_000)))];
    assert_eq!(few(lines, None).hits, 0);
    let anew = line(5, 1, Outcome::Anew, Some(kept(1_000)));
    let lines = vec![line(2, 1, Outcome::Missed, Some(kept(1_000))), anew, anew];
    assert_eq!(few(lines, None).hits, 0, "who wants it anew is given nothing that lies there");
}

#[test]
fn a_renewal_renews_what_is_there_and_nothing_else() {
    let short = Some(Kept { ttl_ms: 100, ..kept(1_000) });
    let renewed = |name| line(90, name, Outcome::Renewed, short);
    let asks = [line(10, 1, Outcome::Missed, short), line(150, 1, Outcome::Memory, short)];
    let score = few(vec![asks[0], renewed(1), asks[1]], None);
    assert_eq!((score.calls, score.hits), (2, 1));
    let score = few(vec![renewed(1), asks[1], line(160, 1, Outcome::Missed, None)], None);
    assert_eq!((score.calls, score.hits), (2, 1), "what it brought had no place to lie");
}

#[test]
fn what_a_hit_saves_is_what_its_answer_cost() {
    let cost = Kept { worth: 5, took_ms: 40, ..kept(1_000) };
    let hit = Kept { took_ms: 0, ..cost };
    let lines =
        vec![line(1, 1, Outcome::Missed, Some(cost)), line(2, 1, Outcome::Memory, Some(hit))];
    let score = few(lines, None);
    assert_eq!((score.nano_usd, score.upstream_ms, score.bytes), (5, 40, 1_000));
    // Nobody knows a price: the worth is the upstream's time, in microseconds.
    let free = Kept { worth: 7_000, is_priced: false, took_ms: 0, ..cost };
    let lines = [1, 2].map(|at_ms| line(at_ms, 1, Outcome::Missed, Some(free)));
    let score = few(lines.into(), None);
    assert_eq!((score.nano_usd, score.upstream_ms), (0, 7));
}

#[test]
fn calls_of_routes_without_memory_and_around_the_cache_are_told_apart() {
    let elsewhere = Line { asks_memory: false, ..line(1, 1, Outcome::Behind, None) };
    let lines = vec![elsewhere, line(2, 2, Outcome::Passed, None)];
    let replay = Replay::new(recording(lines, 1 << 20, Policy::Lfu));
    let score = replay.play(&replay.as_it_was(), |_| {});
    for score in [&score, replay.recorded()] {
        assert_eq!((score.calls, score.elsewhere, score.passed), (0, 1, 1));
    }
}

#[test]
fn calls_that_only_fill_memory_again_do_not_count() {
    let asks = day(20_000, 11);
    let mut half = really(&asks, 2 << 20, Policy::Lfu);
    half.lines.drain(..10_000);
    half.head.held_bytes = u64::MAX;
    let replay = Replay::new(half);
    assert!((1..=5_000).contains(&replay.warming()), "{}", replay.warming());
    let score = replay.play(&replay.as_it_was(), |_| {});
    let error = score.ratio_ppm().abs_diff(replay.recorded_ratio_ppm());
    assert!(error < 30_000, "{error}");
}

proptest! {
    #[test]
    fn any_trace_plays_and_no_call_is_lost(
        lines in proptest::collection::vec((any::<(u64, u8, u8)>(), any::<(u64, u64, u64, u64, u64)>()), 0..60),
        size in 0..1_u64 << 22,
    ) {
        let lines = lines.into_iter().map(|((at_ms, name, kind), (weight, worth, ttl_ms, after_ms, took_ms))| {
            let outcomes = [Outcome::Memory, Outcome::Behind, Outcome::Joined, Outcome::Missed, Outcome::Anew];
            let kept = Kept { weight, worth, is_priced: kind & 1 == 1, ttl_ms, after_ms, took_ms };
            let outcome = outcomes[usize::from(kind) % 5];
            line(at_ms, u64::from(name % 4), outcome, (kind & 2 == 2).then_some(kept))
        });
        let replay = Replay::new(recording(lines.collect(), size, Policy::Cost));
        let score = replay.play(&replay.as_it_was(), |_| {});
        let calls = u64::try_from(replay.calls() - replay.warming()).unwrap();
        prop_assert_eq!(score.calls + score.from_before, calls);
        prop_assert!(score.hits + score.joined + score.behind <= score.calls);
    }
}
