//! What a forecast promises, on traces whose truth is known.

use super::*;
use proptest::prelude::*;
use std::f64::consts::TAU;

const WEEK: i64 = 7 * 1440;

fn rules(horizons: &[u32]) -> Rules {
    Rules { horizons: horizons.to_vec(), raise_max: 3.0, schedules: Vec::new() }
}

/// Minute 0 is a Monday's first.
fn moment(minute: i64) -> Moment {
    Moment {
        minute,
        of_day: u32::try_from(minute.rem_euclid(1440)).unwrap(),
        weekday: usize::try_from(minute.div_euclid(1440).rem_euclid(7)).unwrap(),
    }
}

/// -1 to 1, the same every time.
fn noise(minute: i64) -> f64 {
    let mut bits = minute.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678;
    bits ^= bits >> 31;
    bits = bits.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits ^= bits >> 29;
    (bits % 20_001) as f64 / 10_000.0 - 1.0
}

/// A day between 2 and 18 calls a second.
fn sine(minute: i64) -> f64 {
    10.0 - 8.0 * (TAU * minute as f64 / 1440.0).cos()
}

/// As [`sine`], and two fifths of it on Saturday and Sunday.
fn weekday(minute: i64) -> f64 {
    let weekday = moment(minute).weekday;
    sine(minute) * if weekday < 5 { 1.0 } else { 0.4 }
}

/// What a trace came to.
struct Run {
    forecast: Forecast,
    /// Of each horizon, against the truth.
    mape: Vec<f64>,
}

/// Feeds `truth` with 8 % of noise; the mean error from `from` on to `until` is measured.
fn run(
    horizons: &[u32],
    truth: impl Fn(i64) -> f64,
    told: impl Fn(i64) -> bool,
    from: i64,
    until: i64,
) -> Run {
    let mut forecast = Forecast::new(rules(horizons));
    let (mut errors, mut counts) = (vec![0.0; horizons.len()], 0.0);
    for minute in 0..until {
        let rate = truth(minute) * (1.0 + 0.08 * noise(minute));
        if !told(minute) {
            continue;
        }
        forecast.tick(moment(minute), rate);
        if minute >= from {
            counts += 1.0;
            let said = forecast.outlook(moment(minute), rate);
            for ((error, outlook), ahead) in errors.iter_mut().zip(said).zip(horizons) {
                let true_rate = truth(minute + i64::from(*ahead));
                *error += (outlook.model.unwrap() - true_rate).abs() / true_rate;
            }
        }
    }
    Run { forecast, mape: errors.into_iter().map(|error| error / counts).collect() }
}

fn always(_: i64) -> bool {
    true
}

#[track_caller]
fn within(run: &Run, bounds: &[f64]) {
    for (mape, bound) in run.mape.iter().zip(bounds) {
        assert!(mape <= bound, "{:?} of {bounds:?}", run.mape);
    }
    for outlook in run.forecast.outlook(moment(WEEK * 8), 0.0) {
        assert!(outlook.in_force, "{outlook:?}");
    }
}

#[test]
fn a_day_that_is_like_the_others_is_foreseen() {
    let run = run(&[5, 60, 360], sine, always, 3 * 1440, 7 * 1440);
    within(&run, &[0.05, 0.06, 0.07]);
}

#[test]
fn a_weekend_is_foreseen_from_the_second_on() {
    let run = run(&[15, 60], weekday, always, 2 * WEEK, 4 * WEEK);
    within(&run, &[0.08, 0.11]);
}

#[test]
fn a_promotion_that_nobody_announced_is_followed_and_not_expected_again() {
    let spike = |minute: i64| {
        let is_spike = (5 * 1440 + 600..5 * 1440 + 720).contains(&minute);
        sine(minute) * if is_spike { 3.0 } else { 1.0 }
    };
    within(&run(&[15, 60], spike, always, 5 * 1440 + 790, 7 * 1440), &[0.08, 0.1]);
}

#[test]
fn a_level_that_shifted_is_the_new_level_within_the_hour() {
    let shift = |minute: i64| sine(minute) * if minute < 5 * 1440 + 600 { 1.0 } else { 2.0 };
    within(&run(&[15, 60], shift, always, 5 * 1440 + 660, 6 * 1440), &[0.08, 0.1]);
}

#[test]
fn minutes_that_were_not_seen_are_no_zeros() {
    let told =
        |minute: i64| noise(minute * 7) < 0.9 && !(4 * 1440..4 * 1440 + 360).contains(&minute);
    within(&run(&[15, 60], sine, told, 4 * 1440 + 375, 7 * 1440), &[0.08, 0.09]);
}

#[test]
fn the_first_hours_are_foreseen_by_their_trend() {
    within(&run(&[5, 15], sine, always, 240, 1440), &[0.08, 0.15]);
}

#[test]
fn a_forecast_of_chance_switches_itself_off_and_on_again_when_it_is_right() {
    let chance = |minute: i64| if noise(minute / 7 * 13) > 0.6 { 60.0 } else { 1.0 };
    let mut forecast = Forecast::new(rules(&[15]));
    for minute in 0..3 * 1440 {
        forecast.tick(moment(minute), chance(minute));
    }
    let outlook = forecast.outlook(moment(3 * 1440), 2.5)[0];
    assert!(outlook.error > ERROR_MAX && !outlook.in_force, "{outlook:?}");
    assert_eq!(outlook.load, 2.5);
    for minute in 3 * 1440..10 * 1440 {
        forecast.tick(moment(minute), 10.0);
    }
    let outlook = forecast.outlook(moment(10 * 1440), 2.5)[0];
    assert!(outlook.in_force && (outlook.load - 10.0).abs() < 1.0, "{outlook:?}");
}

#[test]
fn before_an_hour_of_right_words_a_forecast_counts_for_nothing() {
    let mut forecast = Forecast::new(rules(&[5]));
    for minute in 0..=66 {
        assert!(!forecast.outlook(moment(minute), 1.0)[0].in_force, "{minute}");
        forecast.tick(moment(minute), 10.0);
    }
    assert!(forecast.outlook(moment(67), 1.0)[0].in_force);
}

#[test]
fn nothing_at_all_is_zero_and_never_a_number_that_is_none() {
    let mut forecast = Forecast::new(rules(&[5, 60]));
    for minute in 0..3 * 1440 {
        forecast.tick(moment(minute), 0.0);
        for outlook in forecast.outlook(moment(minute), 0.0) {
            assert_eq!((outlook.load, outlook.error, outlook.floor), (0.0, 0.0, 0.0));
        }
    }
}

/// Shops that close: nothing comes for ten hours.
#[test]
fn a_morning_after_an_empty_night_is_foreseen() {
    let shop =
        |minute: i64| if (480..1320).contains(&minute.rem_euclid(1440)) { 20.0 } else { 0.0 };
    let mut forecast = Forecast::new(rules(&[15]));
    for minute in 0..6 * 1440 + 475 {
        forecast.tick(moment(minute), shop(minute));
    }
    let outlook = forecast.outlook(moment(6 * 1440 + 475), 0.0)[0];
    assert!(outlook.load > 15.0 && outlook.load < 25.0, "{outlook:?}");
}

#[test]
fn a_model_never_says_more_than_a_multiple_of_what_was() {
    let mut forecast = Forecast::new(rules(&[60]));
    for minute in 0..120 {
        forecast.tick(moment(minute), 1.0 + (minute * minute) as f64);
    }
    let highest = forecast.highest(120);
    assert!(forecast.outlook(moment(120), 0.0)[0].model.unwrap() <= 3.0 * highest);
}

fn calm(rate: f64) -> Forecast {
    let mut forecast = Forecast::new(rules(&[15]));
    (0..1440).for_each(|minute| forecast.tick(moment(minute), rate));
    forecast
}

fn event(from: i64, until: i64, factor: f64) -> Event {
    Event { name: "sale".to_owned(), from, until, factor }
}

#[track_caller]
fn load(forecast: &Forecast, minute: i64, rate: f64, expected: f64) {
    let load = forecast.outlook(moment(minute), rate)[0].load;
    assert!((load - expected).abs() <= expected * 0.02, "{load}, not {expected}, at {minute}");
}

#[test]
fn an_announced_event_is_a_floor_from_the_horizon_before_it_to_its_end() {
    let mut forecast = calm(4.0);
    assert!(forecast.announce(event(1500, 1560, 5.0)));
    load(&forecast, 1484, 4.0, 4.0);
    load(&forecast, 1485, 4.0, 20.0);
    load(&forecast, 1559, 4.0, 20.0);
    load(&forecast, 1560, 4.0, 4.0);
}

/// Or five times the usual would become five times five.
#[test]
fn what_comes_in_an_event_is_not_taken_for_the_usual() {
    let mut forecast = calm(4.0);
    forecast.announce(event(1500, 1560, 5.0));
    for minute in 1440..1560 {
        forecast.tick(moment(minute), if minute < 1500 { 4.0 } else { 19.0 });
        load(&forecast, minute.clamp(1500, 1559), 4.0, 20.0);
    }
    forecast.tick(moment(1560), 4.0);
    load(&forecast, 1561, 4.0, 4.0);
    assert!(forecast.highest(1561) < 5.0);
}

#[test]
fn an_event_of_the_same_name_takes_the_place_of_the_first_and_their_number_is_bounded() {
    let mut forecast = calm(1.0);
    forecast.announce(event(1500, 1560, 5.0));
    forecast.announce(event(1600, 1660, 2.0));
    assert_eq!(forecast.events(0).count(), 1);
    assert!(forecast.withdraw("sale") && !forecast.withdraw("sale"));
    for place in 0..EVENTS_MAX {
        let name = place.to_string();
        assert!(forecast.announce(Event { name, ..event(1500, 1560, 2.0) }));
    }
    assert!(!forecast.announce(event(1500, 1560, 5.0)));
    // Those that are over make room.
    forecast.tick(moment(1560), 1.0);
    assert!(forecast.announce(event(1600, 1660, 5.0)));
}

#[test]
fn a_schedule_holds_up_a_part_of_the_days_highest() {
    let mut forecast = calm(10.0);
    let days = [false, true, false, false, false, false, false];
    let night = Schedule { name: "night".into(), days, from: 1380, lasts: 120, share: 0.5 };
    forecast.set_rules(Rules { schedules: vec![night], ..rules(&[15]) });
    // So that only the schedule speaks.
    (1440..2840).for_each(|minute| forecast.tick(moment(minute), 0.0));
    let floor = |minute: i64| forecast.outlook(moment(minute), 0.0)[0].floor;
    assert_eq!(floor(1440 + 1364), 0.0);
    let highest = forecast.highest(1440 + 1365);
    assert_eq!(floor(1440 + 1365), highest / 2.0);
    assert!(highest == 0.0 || highest > 5.0);
    // Past midnight it is still Tuesday's.
    let mut forecast = calm(10.0);
    let night =
        Schedule { name: "night".into(), days: [true; 7], from: 1380, lasts: 120, share: 0.5 };
    forecast.set_rules(Rules { schedules: vec![night], ..rules(&[15]) });
    load(&forecast, 1440 + 59, 0.0, 10.0);
    assert_eq!(forecast.outlook(moment(1440 + 59), 0.0)[0].floor, 5.0);
    assert_eq!(forecast.outlook(moment(1440 + 60), 0.0)[0].floor, 0.0);
}

#[test]
fn other_horizons_forget_nothing_that_was_learned() {
    let mut forecast = calm(4.0);
    forecast.announce(event(3000, 3060, 5.0));
    forecast.set_rules(rules(&[15, 30]));
    let said = forecast.outlook(moment(1440), 0.0);
    assert!(said[0].in_force && !said[1].in_force, "{said:?}");
    assert!((said[1].model.unwrap() - 4.0).abs() < 0.1, "{said:?}");
    assert_eq!(forecast.events(1440).count(), 1);
}

proptest! {
    #[test]
    fn a_forecast_raises_and_never_lowers_whatever_comes_whenever(
        ticks in prop::collection::vec((0_i64..40_000, prop_oneof![0.0..1e3_f64, Just(f64::NAN), Just(0.0), Just(1e300)]), 1..300),
        now in 0.0..1e3_f64,
    ) {
        let mut forecast = Forecast::new(rules(&[1, 15, 360]));
        let mut minute = 0;
        for (step, rate) in ticks {
            // Mostly on and on, at times far, at times back.
            minute = if step % 10 == 0 { step } else { minute + 1 };
            forecast.tick(moment(minute), rate);
            for outlook in forecast.outlook(moment(minute), now) {
                prop_assert!(outlook.load.is_finite() && outlook.load >= now, "{outlook:?}");
                prop_assert!(outlook.error.is_finite() && outlook.error >= 0.0, "{outlook:?}");
            }
        }
    }
}
