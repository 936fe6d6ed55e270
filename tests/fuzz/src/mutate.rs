//! Inputs made of other inputs: bytes changed, pieces cut, doubled, moved and spliced.

/// Longer inputs find nothing that shorter ones do not, only slower.
const LEN_MAX: usize = 16 * 1024;
const CHANGES_MAX: usize = 8;
/// Bytes that mean something to JSON, YAML or an event stream.
const TELLING: &[u8] = b"{}[]:,\"'\\\n\r \t#&*!|>-+.0159eE\0\x7f\xff";
/// Numbers next to a limit, or that no type holds.
const NUMBERS: [&str; 6] = ["-1", "0", "1e999", "18446744073709551616", "9007199254740993", "-0.0"];

/// xorshift64*: small, seeded, good enough to choose places.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // Spreads small seeds; a state of zero would stay zero.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `bound`; 0 if that is 0.
    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from((self.next() >> 16) % bound).unwrap_or(0)
    }
}

/// Makes inputs for ever.
pub(crate) struct Mutator {
    corpus: Vec<Vec<u8>>,
    random: Random,
}

impl Mutator {
    /// `corpus` must not be empty.
    pub(crate) fn new(corpus: Vec<Vec<u8>>, random: Random) -> Self {
        Self { corpus, random }
    }

    pub(crate) fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.corpus[self.random.below(self.corpus.len())].clone();
        for _ in 0..=self.random.below(CHANGES_MAX) {
            self.change(&mut input);
        }
        input.truncate(LEN_MAX);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let random = &mut self.random;
        let place = random.below(input.len());
        match random.below(9) {
            0 if !input.is_empty() => input[place] ^= 1 << random.below(8),
            1 if !input.is_empty() => input[place] = TELLING[random.below(TELLING.len())],
            2 => input.insert(place, TELLING[random.below(TELLING.len())]),
            3 => input.truncate(place),
            4 => {
                let end = (place + random.below(32)).min(input.len());
                input.drain(place..end);
            }
            5 => {
                let start = random.below(input.len());
                let end = (start + 1 + random.below(128)).min(input.len());
                let piece = input[start..end].to_vec();
                input.splice(place..place, piece);
            }
            6 => {
                let number = NUMBERS[random.below(NUMBERS.len())];
                input.splice(place..place, number.bytes());
            }
            7 => {
                let other = &self.corpus[random.below(self.corpus.len())];
                let start = random.below(other.len());
                input.truncate(place);
                input.extend_from_slice(&other[start..]);
            }
            _ => {
                let n = 1 + random.below(64);
                let byte = TELLING[random.below(TELLING.len())];
                input.splice(place..place, std::iter::repeat_n(byte, n));
            }
        }
    }
}

/// FNV-1a: names a finding.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |digest, byte| {
        (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
