//! What was said, held against what came: a forecast's own back-test.
#![expect(clippy::float_arithmetic, reason = "rates of calls, no money")]

use super::ERROR_MAX;

/// Comparisons before a forecast counts: an hour of them.
const JUDGED_MIN: u32 = 60;
/// What is left of a comparison a minute later: half of it after a day, so that the last three
/// days are nearly all of it.
const KEPT: f64 = 0.999_518_8;

/// One horizon's test.
#[derive(Clone, Debug)]
pub(super) struct Trial {
    horizon: u32,
    /// What was said of which minute, by that minute.
    said: Vec<Option<(i64, f64)>>,
    error: f64,
    came: f64,
    judged: u32,
}

impl Trial {
    pub(super) fn new(horizon: u32) -> Self {
        // A minute is judged a little later than it was, when those after it are known.
        let places = usize::try_from(horizon).unwrap_or(0) + 8;
        Self { horizon, said: vec![None; places], error: 0.0, came: 0.0, judged: 0 }
    }

    pub(super) fn horizon(&self) -> u32 {
        self.horizon
    }

    /// At `now` this was said of `horizon` minutes later.
    pub(super) fn note(&mut self, now: i64, said: f64) {
        let due = now + i64::from(self.horizon);
        if let Some(place) = self.place(due)
            && let Some(place) = self.said.get_mut(place)
        {
            *place = Some((due, said));
        }
    }

    /// In that minute this came.
    pub(super) fn judge(&mut self, minute: i64, came: f64) {
        let said = self.place(minute).and_then(|place| self.said.get(place)).copied().flatten();
        let Some((_, said)) = said.filter(|(due, _)| *due == minute) else { return };
        self.error = self.error * KEPT + (said - came).abs();
        self.came = self.came * KEPT + came;
        self.judged = self.judged.saturating_add(1);
    }

    /// The mean error over the mean of what came: a MAPE in which a busy minute weighs more than
    /// a quiet one. 0 while nothing was judged; where nothing came and something was said, 1.
    pub(super) fn error(&self) -> f64 {
        if self.came > 0.0 { self.error / self.came } else { f64::from(u8::from(self.error > 0.0)) }
    }

    /// Whether it was right often enough, and not too far off.
    pub(super) fn is_passed(&self) -> bool {
        self.judged >= JUDGED_MIN && self.error() <= ERROR_MAX
    }

    fn place(&self, minute: i64) -> Option<usize> {
        let places = i64::try_from(self.said.len()).ok()?;
        usize::try_from(minute.rem_euclid(places)).ok()
    }
}
