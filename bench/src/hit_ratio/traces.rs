//! Calls as they might come, drawn from fixed seeds.

use crate::draw::Draw;
use tollgate_cache::key::CacheKey;

/// One call: what it asks, how long the answer is, what a hit on it saves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) name: u64,
    pub(super) bytes: u64,
    pub(super) worth: u64,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Trace {
    Zipf09,
    Zipf11,
    /// Zipf 0.9, and every fourth stretch a scan: keys that nobody asks for again.
    Scan,
    /// A fifth of the keys, over and over.
    Loop,
    /// Zipf 0.9, and with every tenth call a key of any rank gives way to a new one.
    Drift,
    /// Zipf 0.9 over wholly other keys after every sixth of the calls.
    Shift,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Sizes {
    /// 4 KiB each.
    Equal,
    /// 1 to 256 KiB, most of them small; a scan's are 64 KiB.
    Mixed,
}

impl Trace {
    pub(super) const ALL: [Self; 6] =
        [Self::Zipf09, Self::Zipf11, Self::Scan, Self::Loop, Self::Drift, Self::Shift];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Zipf09 => "Zipf 0.9",
            Self::Zipf11 => "Zipf 1.1",
            Self::Scan => "Zipf 0.9 and scans",
            Self::Loop => "loop",
            Self::Drift => "drift",
            Self::Shift => "shift",
        }
    }

    pub(super) fn draw(self, calls: usize, universe: usize, sizes: Sizes) -> Vec<Ask> {
        let mut draw = Draw::new(42);
        let zipf = Zipf::new(universe, if matches!(self, Self::Zipf11) { 1.1 } else { 0.9 });
        let mut names: Vec<u64> = (0..universe as u64).collect();
        let mut newest = universe as u64;
        let mut asks = Vec::with_capacity(calls);
        for i in 0..calls {
            let is_scan = matches!(self, Self::Scan) && (i / 2_000) % 4 == 3;
            let is_new = matches!(self, Self::Drift) && i % 10 == 0;
            if is_new {
                newest += 1;
                let rank = draw.below(universe);
                if let Some(name) = names.get_mut(rank) {
                    *name = newest;
                }
            }
            if matches!(self, Self::Shift) && i % (calls / 6).max(1) == 0 {
                names.iter_mut().for_each(|name| *name += universe as u64);
            }
            let name = if is_scan {
                newest += 1;
                newest
            } else if matches!(self, Self::Loop) {
                (i % (universe / 5).max(1)) as u64
            } else {
                names.get(zipf.rank(&mut draw)).copied().unwrap_or(0)
            };
            asks.push(match sizes {
                Sizes::Mixed if is_scan => Ask { name, bytes: 64 << 10, worth: 100 },
                Sizes::Mixed => Ask { name, bytes: bytes(name), worth: worth(name) },
                Sizes::Equal => Ask { name, bytes: 4 << 10, worth: worth(name) },
            });
        }
        asks
    }
}

impl Sizes {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Mixed => "mixed",
        }
    }
}

/// A key of `name`, spread as digests are.
pub(crate) fn key(name: u64) -> CacheKey {
    let mut draw = Draw::new(name);
    let hex: String = (0..4).map(|_| format!("{:016x}", draw.next())).collect();
    CacheKey::from_hex(&hex).unwrap_or_else(|| unreachable!("64 digits"))
}

fn bytes(name: u64) -> u64 {
    let place = Draw::new(name ^ 77).unit();
    (1_024.0 * 256_f64.powf(place * place)) as u64
}

/// Three orders of magnitude, as prices of models are apart.
fn worth(name: u64) -> u64 {
    (1_000.0 * 1_000_f64.powf(Draw::new(name ^ 991).unit())) as u64
}

struct Zipf(Vec<f64>);

impl Zipf {
    fn new(ranks: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let mut sums: Vec<f64> = Vec::with_capacity(ranks);
        for rank in 1..=ranks {
            sum += (rank as f64).powf(-exponent);
            sums.push(sum);
        }
        sums.iter_mut().for_each(|one| *one /= sum);
        Self(sums)
    }

    fn rank(&self, draw: &mut Draw) -> usize {
        let place = draw.unit();
        self.0.partition_point(|sum| *sum < place)
    }
}
