//! Purges by a pattern over tags (`kb:42:*`): how one is matched, kept, and carried to the fleet.
//!
//! All that carries and keeps purges knows subjects of 16 bytes. So a pattern's text travels as
//! subjects, too: cut into pieces of eight bytes, each with the pattern's name and its place, and
//! after them the purge itself, which has the rest of the text's digest. Pieces void nothing.
//!
//! ```text
//!   piece  MARK 3 │ digest[0..4] │ place 1    │ text 8, padded with 0
//!   purge  MARK 3 │ digest[0..4] │ 0xff       │ digest[4..12]          (and the bit of a soft one)
//! ```
//!
//! **Invariant:** a purge whose text is not known, or is not what its digest says, is about
//! everything. (So is a digest of something else that happens to begin like one: 2⁻³².)
//! **Invariant:** at most [`PATTERNS_MAX`] are told apart. With more, those go first that are older
//! than any entry lives ([`super::Generations::lives`]), which nothing is about; else the older half.
//! What has tags and began before the newest of those that went is void, or past its time where they
//! were soft.

use super::{Newest, Subject};
use crate::clock::unix_ms;
use std::{
    collections::{HashMap, HashSet},
    fmt,
};

/// The longest pattern in bytes: 16 pieces.
pub const PATTERN_BYTES_MAX: usize = 128;
/// The most patterns in force at a time. After each purge of anything, each entry is held once
/// against those that are younger than it.
pub const PATTERNS_MAX: usize = 256;

const MARK: [u8; 3] = [0x7f, b'g', 0x0b];
const PURGE: u8 = 0xff;
const PIECE_LEN: usize = 8;
const PIECES_MAX: usize = PATTERN_BYTES_MAX / PIECE_LEN;
/// Texts whose purge may still come. With more all are forgotten, and what comes is about everything.
const TEXTS_MAX: usize = 4 * PATTERNS_MAX;

/// A pattern over tags: `*` is any text, `?` one character, `\` takes the next one as it is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Glob(Box<str>);

/// What is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadGlob {
    #[error("empty; * is every tag")]
    Empty,
    #[error("longer than {PATTERN_BYTES_MAX} bytes")]
    Long,
    #[error("has a control character")]
    Control,
}

/// The text in pieces, by the first part of its digest.
type Texts = HashMap<[u8; 4], [Option<[u8; PIECE_LEN]>; PIECES_MAX]>;

/// The patterns that were purged.
#[derive(Debug, Default)]
pub(super) struct Patterns {
    live: Vec<Live>,
    /// Of those there was no room for.
    forgotten: Newest,
    /// The same, of soft ones.
    forgotten_softly: Newest,
    /// How many went that an entry may have been about.
    lost: u64,
    texts: Texts,
}

#[derive(Debug)]
struct Live {
    subject: Subject,
    /// `None`: not known yet.
    glob: Option<Glob>,
    newest: Newest,
    /// Unix time at which it was last noted here.
    noted_ms: u64,
}

/// What a subject of these is.
enum Part {
    Piece { id: [u8; 4], place: usize, text: [u8; PIECE_LEN] },
    Purge { id: [u8; 4], rest: [u8; PIECE_LEN] },
}

impl Glob {
    /// # Errors
    /// It is empty, too long or not printable.
    pub fn parse(text: &str) -> Result<Self, BadGlob> {
        match text {
            "" => Err(BadGlob::Empty),
            _ if text.len() > PATTERN_BYTES_MAX => Err(BadGlob::Long),
            _ if text.chars().any(char::is_control) => Err(BadGlob::Control),
            _ => Ok(Self(text.into())),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `tag` as a whole is what the pattern says. Time: their lengths multiplied.
    pub fn matches(&self, tag: &str) -> bool {
        #[cfg(test)]
        among_others::MATCHES.with(|matches| matches.set(matches.get() + 1));
        let (mut glob, mut tag) = (self.0.chars(), tag.chars());
        // After the last `*`, and where it ends to begin with.
        let mut last = None;
        loop {
            let (mut after, mut rest) = (glob.clone(), tag.clone());
            let wanted = after.next();
            if wanted == Some('*') {
                last = Some((after.clone(), tag.clone()));
                glob = after;
                continue;
            }
            let fits = match (wanted, rest.next()) {
                (None, None) => return true,
                (Some('?'), Some(_)) => true,
                (Some('\\'), Some(found)) => after.next().unwrap_or('\\') == found,
                (Some(wanted), Some(found)) => wanted == found,
                (Some(_), None) | (None, Some(_)) => false,
            };
            if fits {
                (glob, tag) = (after, rest);
                continue;
            }
            // The last `*` takes one character more.
            let Some((after_star, from)) = &mut last else { return false };
            if from.next().is_none() {
                return false;
            }
            (glob, tag) = (after_star.clone(), from.clone());
        }
    }

    /// What a purge by it is known by; [`Self::pieces`] go before it.
    pub(super) fn subject(&self) -> Subject {
        let (id, rest) = self.digest();
        of_parts(id, PURGE, rest)
    }

    /// Its text, for those who have to be told of a purge.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Subject> + '_ {
        let (id, _) = self.digest();
        self.0.as_bytes().chunks(PIECE_LEN).zip(0u8..).map(move |(chunk, place)| {
            let mut text = [0; PIECE_LEN];
            for (to, from) in text.iter_mut().zip(chunk) {
                *to = *from;
            }
            of_parts(id, place, text)
        })
    }

    fn digest(&self) -> ([u8; 4], [u8; PIECE_LEN]) {
        let digest = blake3::hash(&[b"p", self.0.as_bytes()].concat());
        let (id, rest) = digest.as_bytes().split_first_chunk().unwrap_or((&[0; 4], &[]));
        (*id, rest.first_chunk().copied().unwrap_or_default())
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn of_parts(id: [u8; 4], kind: u8, last: [u8; PIECE_LEN]) -> Subject {
    let mut bytes = [0; 16];
    let parts = MARK.iter().chain(&id).chain([&kind]).chain(&last);
    for (to, from) in bytes.iter_mut().zip(parts) {
        *to = *from;
    }
    Subject::from_bytes(bytes)
}

/// `None`: the subject is of something else.
fn part(subject: Subject) -> Option<Part> {
    let hard = subject.hard();
    let (id, rest) = hard.as_bytes().strip_prefix(&MARK)?.split_first_chunk()?;
    let (kind, last) = rest.split_first()?;
    let last = *last.first_chunk()?;
    match usize::from(*kind) {
        place if place < PIECES_MAX => Some(Part::Piece { id: *id, place, text: last }),
        _ if *kind == PURGE => Some(Part::Purge { id: *id, rest: last }),
        _ => None,
    }
}

impl Patterns {
    /// Takes in a piece of a text. Of no effect for anything else.
    pub(super) fn learn(&mut self, subject: Subject) {
        let Some(Part::Piece { id, place, text }) = part(subject) else { return };
        if self.texts.len() >= TEXTS_MAX && !self.texts.contains_key(&id) {
            self.texts.clear();
        }
        if let Some(piece) = self.texts.entry(id).or_default().get_mut(place) {
            *piece = Some(text);
        }
        for live in self.live.iter_mut().filter(|live| live.glob.is_none()) {
            live.glob = text_of(&self.texts, live.subject);
        }
    }

    /// Takes in the texts of the newest of a whole table's purges, before these are noted. The
    /// others' need not be known: there is no room for them.
    pub(super) fn learn_newest(&mut self, purges: &[(Subject, u64)]) {
        let mut named: Vec<(u64, [u8; 4])> = purges
            .iter()
            .filter_map(|(subject, sequence)| match part(*subject)? {
                Part::Purge { id, .. } => Some((*sequence, id)),
                Part::Piece { .. } => None,
            })
            .collect();
        if named.is_empty() {
            return;
        }
        named.sort_unstable_by(|one, other| other.cmp(one));
        let wanted: HashSet<[u8; 4]> =
            named.into_iter().take(PATTERNS_MAX).map(|(_, id)| id).collect();
        for (subject, _) in purges {
            if matches!(part(*subject), Some(Part::Piece { id, .. }) if wanted.contains(&id)) {
                self.learn(*subject);
            }
        }
    }

    /// Takes note of a purge. Of no effect for what is not by a pattern. No entry with tags lives
    /// longer than `life_ms`; 0: that is not known.
    pub(super) fn note(&mut self, subject: Subject, purge: Newest, life_ms: u64) {
        let Some(Part::Purge { id, .. }) = part(subject) else { return };
        let noted_ms = unix_ms();
        if let Some(live) = self.live.iter_mut().find(|live| live.subject == subject) {
            live.newest = live.newest.max(purge);
            live.noted_ms = noted_ms;
            return;
        }
        let covers =
            |forgotten: &Newest| purge.local <= forgotten.local && purge.fleet <= forgotten.fleet;
        if covers(&self.forgotten) || (subject.is_soft() && covers(&self.forgotten_softly)) {
            return;
        }
        // A purge brings its text along, each time; of the same one, softly, it may be taken already.
        let same = self.live.iter().find(|live| live.subject.hard() == subject.hard());
        let known = same.and_then(|live| live.glob.clone());
        let glob = text_of(&self.texts, subject).or(known);
        if glob.is_some() {
            self.texts.remove(&id);
        }
        self.live.push(Live { subject, glob, newest: purge, noted_ms });
        if self.live.len() > PATTERNS_MAX {
            let nothing_since_ms = noted_ms.checked_sub(life_ms).filter(|_| life_ms > 0);
            self.make_room(nothing_since_ms.unwrap_or(0));
        }
    }

    /// Forgets what was noted before a time from which nothing is left; or, where that is none, the
    /// older half.
    fn make_room(&mut self, nothing_since_ms: u64) {
        self.live.sort_by_key(|live| (live.newest.local, live.newest.fleet));
        let is_outlived = |live: &&Live| live.noted_ms < nothing_since_ms;
        let mut gone = self.live.iter().take_while(is_outlived).count();
        if gone == 0 {
            gone = PATTERNS_MAX / 2;
            self.lost = self.lost.saturating_add(u64::try_from(gone).unwrap_or(u64::MAX));
        }
        // Those that were forgotten before are meant, too.
        let is_first = self.forgotten_softly.local == 0 && self.forgotten_softly.fleet == 0;
        let mut since_ms = if is_first { u64::MAX } else { self.forgotten_softly.heard_ms };
        for live in self.live.drain(..gone) {
            if live.subject.is_soft() {
                since_ms = since_ms.min(live.newest.heard_ms);
                let newest = self.forgotten_softly.max(live.newest);
                // Which of them was meant is not known: as if it were the first.
                self.forgotten_softly = Newest { heard_ms: since_ms, ..newest };
            } else {
                self.forgotten = self.forgotten.max(live.newest);
            }
        }
    }

    /// How many were forgotten that an entry may have been about, since the start.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Forgets all, as there is nothing left that they could be about.
    pub(super) fn clear(&mut self) {
        *self = Self { lost: self.lost, ..Self::default() };
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.live.len()
    }

    /// As if that much time had gone by.
    #[cfg(test)]
    pub(super) fn age(&mut self, by_ms: u64) {
        self.live.iter_mut().for_each(|live| live.noted_ms -= by_ms);
    }

    /// As if the first that was forgotten had been heard then.
    #[cfg(test)]
    pub(super) fn set_forgotten_softly_ms(&mut self, heard_ms: u64) {
        self.forgotten_softly.heard_ms = heard_ms;
    }

    /// Lets go of what a purge of everything stands for.
    pub(super) fn retain(&mut self, stays: impl Fn(&Newest) -> bool) {
        self.live.retain(|live| stays(&live.newest));
    }

    /// Whether one that fits `tags` was purged after a place in one of the orders.
    pub(super) fn is_after(
        &self,
        place: u64,
        tags: &[Box<str>],
        order: fn(&Newest) -> u64,
    ) -> bool {
        let is_meant = |live: &Live| {
            order(&live.newest) > place && !live.subject.is_soft() && live.is_about(tags)
        };
        // What has no tags is what none of those was about.
        let is_forgotten = !tags.is_empty() && order(&self.forgotten) > place;
        is_forgotten || self.live.iter().any(is_meant)
    }

    /// The soft purges by patterns that fit `tags`, after a place in one of the orders.
    pub(super) fn softly_after(
        &self,
        place: u64,
        tags: &[Box<str>],
        order: fn(&Newest) -> u64,
    ) -> impl Iterator<Item = &Newest> {
        // Matching comes last: it is what costs.
        let is_meant = move |live: &&Live| {
            order(&live.newest) > place && live.subject.is_soft() && live.is_about(tags)
        };
        let forgotten = Some(&self.forgotten_softly).filter(|_| !tags.is_empty());
        let forgotten = forgotten.filter(|newest| order(newest) > place);
        self.live.iter().filter(is_meant).map(|live| &live.newest).chain(forgotten)
    }

    /// Whether one that fits `tags` is remembered, whenever it was purged; not a soft one.
    pub(super) fn was_about(&self, tags: &[Box<str>]) -> bool {
        self.live.iter().any(|live| !live.subject.is_soft() && live.is_about(tags))
    }

    /// Whether `subject` is a purge by a pattern that fits `tags`, as far as is known.
    pub(super) fn is_about(&self, subject: Subject, tags: &[Box<str>]) -> bool {
        let live = || self.live.iter().find(|live| live.subject == subject);
        matches!(part(subject), Some(Part::Purge { .. }))
            && live().is_none_or(|live| live.is_about(tags))
    }
}

impl Live {
    fn is_about(&self, tags: &[Box<str>]) -> bool {
        self.glob.as_ref().is_none_or(|glob| tags.iter().any(|tag| glob.matches(tag)))
    }
}

/// The text of a purge, if it is known and is what the purge says it is.
fn text_of(texts: &Texts, subject: Subject) -> Option<Glob> {
    let Some(Part::Purge { id, rest }) = part(subject) else { return None };
    let pieces = texts.get(&id)?;
    let text: Vec<u8> = pieces.iter().map_while(|piece| *piece).flatten().collect();
    // Where a longer text of the same name was known before, there are pieces beyond its end.
    let ends = (1..=pieces.len()).map(|n| text.get(..n * PIECE_LEN));
    ends.flatten().find_map(|text| {
        let text = std::str::from_utf8(text).ok()?.trim_end_matches('\0');
        let glob = Glob::parse(text).ok()?;
        (glob.digest() == (id, rest)).then_some(glob)
    })
}

#[cfg(test)]
#[path = "pattern_tests.rs"]
mod among_others;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn glob(text: &str) -> Glob {
        Glob::parse(text).unwrap()
    }

    #[track_caller]
    fn check(pattern: &str, fits: &[&str], not: &[&str]) {
        for tag in fits {
            assert!(glob(pattern).matches(tag), "{pattern} {tag}");
        }
        for tag in not {
            assert!(!glob(pattern).matches(tag), "{pattern} {tag}");
        }
    }

    #[test]
    fn a_pattern_is_about_whole_tags() {
        check("kb:42:*", &["kb:42:", "kb:42:a", "kb:42:a:b"], &["kb:42", "kb:421:a", "xkb:42:a"]);
        check("*", &["", "a"], &[]);
        check("kb:?", &["kb:1", "kb:é"], &["kb:", "kb:12"]);
        check("*:draft:*", &["a:draft:b", ":draft:", "draft:draft:"], &["draft:", "a:draf:b"]);
        check(r"a\*b\?", &["a*b?"], &["axb?", "a*bx"]);
        check("a*b*c", &["abc", "a1b2c", "abbcc"], &["ab", "ac", "abcd"]);
        check("plain", &["plain"], &["plai", "plain "]);
        check("end\\", &["end\\"], &["end"]);
    }

    #[test]
    fn what_is_no_pattern_is_said_to_be_none() {
        assert_eq!(Glob::parse(""), Err(BadGlob::Empty));
        assert_eq!(Glob::parse(&"a".repeat(129)), Err(BadGlob::Long));
        assert_eq!(Glob::parse("a\0"), Err(BadGlob::Control));
        assert!(Glob::parse(&"é".repeat(64)).is_ok());
    }

    #[test]
    fn a_pattern_that_would_backtrack_for_ever_does_not() {
        let (pattern, tag) = ("*a".repeat(64), "a".repeat(255) + "b");
        assert!(!glob(&pattern).matches(&tag));
    }

    #[test]
    fn pieces_in_any_order_make_the_text_and_soft_is_not_hard() {
        let pattern = glob("a pattern of more than one piece:*");
        let mut pieces: Vec<Subject> = pattern.pieces().collect();
        pieces.reverse();
        let tags: [Box<str>; 1] = ["another".into()];
        for subject in [pattern.subject(), pattern.subject().softly()] {
            let mut patterns = Patterns::default();
            patterns.note(subject, Newest::now(2, 2), 0);
            let is_meant = |patterns: &Patterns| {
                let is_after = patterns.is_after(1, &tags, |newest| newest.local);
                let softly = patterns.softly_after(1, &tags, |newest| newest.local).count() == 1;
                assert!(!(is_after && softly));
                if subject.is_soft() { softly } else { is_after }
            };
            assert!(is_meant(&patterns), "unknown is about everything");
            for piece in &pieces {
                patterns.learn(*piece);
            }
            assert!(!is_meant(&patterns), "known it is not");
        }
    }

    proptest! {
        #[test]
        fn a_text_comes_out_of_its_pieces(text in "[a-z*?é\\\\:]{1,60}") {
            let pattern = glob(&text);
            let mut texts = Patterns::default();
            for piece in pattern.pieces() {
                texts.learn(piece);
            }
            prop_assert_eq!(text_of(&texts.texts, pattern.subject()), Some(pattern.clone()));
            prop_assert_eq!(text_of(&texts.texts, pattern.subject().softly()), Some(pattern));
        }

        #[test]
        fn foreign_subjects_never_panic_and_are_of_no_text(rest in any::<[u8; 13]>()) {
            let mut bytes = [0; 16];
            bytes[..3].copy_from_slice(&MARK);
            bytes[3..].copy_from_slice(&rest);
            let mut patterns = Patterns::default();
            patterns.note(Subject::from_bytes(bytes), Newest::now(2, 0), 0);
            patterns.learn(Subject::from_bytes(bytes));
            prop_assert!(patterns.live.iter().all(|live| live.glob.is_none()));
        }

        #[test]
        fn a_pattern_without_signs_is_its_tag(pattern in "[a-z:]{1,20}", tag in "[a-z:]{0,20}") {
            prop_assert_eq!(glob(&pattern).matches(&tag), pattern == tag);
            let longer = pattern.clone() + "*";
            prop_assert!(glob(&longer).matches(&(pattern + &tag)));
        }
    }
}
