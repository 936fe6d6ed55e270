//! The answers to the items of a request, apart and together.

use super::{
    Layout, Path,
    question::edited,
    scan::{document, elements, find, member, members, text},
    shares::shares,
};
use std::{borrow::Cow, ops::Range};

/// The answers in one answer, as places in its bytes.
#[derive(Clone, Debug)]
pub struct Answers<'a> {
    body: &'a [u8],
    /// The first is the one whose elements say which item they are about.
    lists: Vec<List>,
    /// Of the elements of the first list: where they say their item, and which it is.
    indices: Vec<Option<Range<usize>>>,
    places: Vec<usize>,
    scores: Option<Vec<f64>>,
    counts: Vec<Count>,
}

#[derive(Clone, Debug)]
struct List {
    name: Vec<u8>,
    range: Range<usize>,
    elements: Vec<Range<usize>>,
}

/// A whole number that is a sum over the items.
#[derive(Clone, Debug)]
struct Count {
    name: Vec<u8>,
    range: Range<usize>,
    value: u64,
}

/// What was answered to one item, wherever it stands.
#[derive(Clone, Debug)]
pub struct Piece<'a> {
    from: &'a Answers<'a>,
    element: usize,
    /// Its share of the counts; `None`: those of the answer it stands in are all its own.
    shares: Option<&'a [u64]>,
}

impl Layout {
    /// The answers to `asked` items, each of which must have one; where they are ranked, some may
    /// have none. `None`: this is no such answer.
    pub fn split<'a>(&self, body: &'a [u8], asked: usize) -> Option<Answers<'a>> {
        let whole = document(body)?;
        let (first, more) = self.answers.split_first()?;
        let found = find(body, whole.clone(), first)?;
        let mut lists = lists(body, first, found, asked)?;
        for path in more {
            if let Some(found) = find(body, whole.clone(), path) {
                lists.extend(self::lists(body, path, found, asked)?);
            }
        }
        let count = lists.first()?.elements.len();
        // An empty list beside is one that was not asked for.
        lists.retain(|list| count == 0 || !list.elements.is_empty());
        let fits = if self.is_ranked() { count <= asked } else { count == asked };
        if !fits || count == 0 || lists.iter().any(|list| list.elements.len() != count) {
            return None;
        }
        let elements = &lists.first()?.elements;
        let (indices, places) = self.places(body, elements, asked)?;
        let scores = match self.score {
            None => None,
            Some(score) => {
                Some(elements.iter().map(|one| number(body, one, score)).collect::<Option<_>>()?)
            }
        };
        let counts = self.counts.iter().flat_map(|path| counts(body, &whole, path)).collect();
        Some(Answers { body, lists, indices, places, scores, counts })
    }

    #[expect(clippy::type_complexity, reason = "two lists, taken apart at once")]
    fn places(
        &self,
        body: &[u8],
        elements: &[Range<usize>],
        asked: usize,
    ) -> Option<(Vec<Option<Range<usize>>>, Vec<usize>)> {
        let in_order = || (vec![None; elements.len()], (0..elements.len()).collect());
        let Some(index) = &self.index else { return Some(in_order()) };
        let said = |one: &Range<usize>| member(body, one.clone(), index).map(|said| said.value);
        let said: Vec<Option<Range<usize>>> = elements.iter().map(said).collect();
        if said.iter().all(Option::is_none) && !self.is_ranked() {
            return Some(in_order());
        }
        let mut seen = vec![false; asked];
        let mut places = Vec::with_capacity(said.len());
        for one in &said {
            let place = usize::try_from(whole_number(text(body, one.as_ref()?))?).ok()?;
            // Two about one item leave another without.
            if std::mem::replace(seen.get_mut(place)?, true) {
                return None;
            }
            places.push(place);
        }
        Some((said, places))
    }
}

impl Answers<'_> {
    /// How many there are; never none.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Which item each of them is about.
    pub fn places(&self) -> &[usize] {
        &self.places
    }

    /// The other way round: for each of `items` items which of these is about it. A ranked answer
    /// leaves some out.
    pub fn elements(&self, items: usize) -> Vec<Option<usize>> {
        let mut elements = vec![None; items];
        for (element, place) in self.places.iter().enumerate() {
            if let Some(own) = elements.get_mut(*place) {
                *own = Some(element);
            }
        }
        elements
    }

    /// The sums over all items.
    pub fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(|count| count.value).collect()
    }

    /// For each of them its share of the counts, by the weights of what was asked.
    pub fn divided(&self, weights: &[u64]) -> Vec<Vec<u64>> {
        let share = |count: u64| shares(u128::from(count), weights);
        let columns: Vec<Vec<u128>> = self.counts().into_iter().map(share).collect();
        let of = |place: &usize| {
            let cells = columns.iter().map(|column| column.get(*place).copied().unwrap_or(0));
            cells.map(|cell| u64::try_from(cell).unwrap_or(u64::MAX)).collect()
        };
        self.places().iter().map(of).collect()
    }

    /// The answer that one of these would have been alone; `shares`: of the counts.
    pub fn one(&self, element: usize, shares: &[u64]) -> Vec<u8> {
        let mut edits = Vec::with_capacity(self.lists.len() + self.counts.len());
        for place in 0..self.lists.len() {
            let mut list = vec![b'['];
            self.write(&mut list, place, element, 0);
            list.push(b']');
            edits.push((self.list_range(place), Cow::Owned(list)));
        }
        let counts = self.counts.iter().zip(shares);
        edits.extend(counts.map(|(count, share)| {
            (count.range.clone(), Cow::Owned(share.to_string().into_bytes()))
        }));
        edited(self.body, edits)
    }

    fn list_range(&self, list: usize) -> Range<usize> {
        self.lists.get(list).map(|list| list.range.clone()).unwrap_or_default()
    }

    /// An element of a list, as the one about the item `index`.
    fn write(&self, out: &mut Vec<u8>, list: usize, element: usize, index: usize) {
        let range = self.lists.get(list).and_then(|list| list.elements.get(element));
        let range = range.cloned().unwrap_or_default();
        match self.indices.get(element).cloned().flatten().filter(|_| list == 0) {
            None => out.extend_from_slice(text(self.body, &range)),
            Some(said) => {
                out.extend_from_slice(text(self.body, &(range.start..said.start)));
                out.extend_from_slice(index.to_string().as_bytes());
                out.extend_from_slice(text(self.body, &(said.end..range.end)));
            }
        }
    }

    fn has_lists_of(&self, other: &Self) -> bool {
        let names = |all: &[List]| all.iter().map(|list| list.name.clone()).collect::<Vec<_>>();
        names(&self.lists) == names(&other.lists) && self.scores.is_some() == other.scores.is_some()
    }
}

impl<'a> Piece<'a> {
    /// With the counts of the answer it stands in.
    pub fn of(from: &'a Answers<'a>, element: usize) -> Self {
        Self { from, element, shares: None }
    }

    /// With a share of them.
    pub fn with_shares(from: &'a Answers<'a>, element: usize, shares: &'a [u64]) -> Self {
        Self { from, element, shares: Some(shares) }
    }

    fn score(&self) -> f64 {
        let scores = self.from.scores.as_ref();
        scores.and_then(|scores| scores.get(self.element)).copied().unwrap_or_default()
    }

    fn count(&self, name: &[u8]) -> Option<u64> {
        let place = self.from.counts.iter().position(|count| count.name == name)?;
        match self.shares {
            None => self.from.counts.get(place).map(|count| count.value),
            Some(shares) => shares.get(place).copied(),
        }
    }
}

/// The answer to items in the order of `pieces`; what is not about an item is as in `envelope`.
/// At most `wanted` of them, where they are ranked. `None`: they are not of one kind.
pub fn compose(
    envelope: &Answers<'_>,
    pieces: &[Piece<'_>],
    wanted: Option<usize>,
) -> Option<Vec<u8>> {
    if pieces.iter().any(|piece| !piece.from.has_lists_of(envelope)) {
        return None;
    }
    let mut order: Vec<(usize, &Piece<'_>)> = pieces.iter().enumerate().collect();
    if envelope.scores.is_some() {
        // Stable: of equal ones the first asked comes first.
        order.sort_by(|(_, one), (_, other)| other.score().total_cmp(&one.score()));
        order.truncate(wanted.unwrap_or(usize::MAX));
    }
    let mut edits = Vec::with_capacity(envelope.lists.len() + envelope.counts.len());
    for place in 0..envelope.lists.len() {
        let mut list = vec![b'['];
        for (nth, (index, piece)) in order.iter().enumerate() {
            if nth > 0 {
                list.push(b',');
            }
            piece.from.write(&mut list, place, piece.element, *index);
        }
        list.push(b']');
        edits.push((envelope.list_range(place), Cow::Owned(list)));
    }
    for count in &envelope.counts {
        let mut all = pieces.iter().map(|piece| piece.count(&count.name));
        // What is not known of all is told as the upstream told it.
        let sum = all.try_fold(0_u64, |sum, one| sum.checked_add(one?));
        if let Some(sum) = sum {
            edits.push((count.range.clone(), Cow::Owned(sum.to_string().into_bytes())));
        }
    }
    Some(edited(envelope.body, edits))
}

/// The list at a path, or all lists in the object that is there.
fn lists(body: &[u8], path: &Path, found: Range<usize>, max: usize) -> Option<Vec<List>> {
    let name = path.join("/").into_bytes();
    if body.get(found.start) != Some(&b'{') {
        let elements = elements(body, found.clone(), max)?;
        return Some(vec![List { name, range: found, elements }]);
    }
    let mut all = Vec::new();
    members(body, found, |one| {
        all.push(one);
        true
    })?;
    let all = all.into_iter().filter(|one| body.get(one.value.start) == Some(&b'['));
    all.map(|one| {
        let name = [&name, b"/".as_slice(), text(body, &one.key)].concat();
        let elements = elements(body, one.value.clone(), max)?;
        Some(List { name, range: one.value, elements })
    })
    .collect()
}

fn counts(body: &[u8], whole: &Range<usize>, path: &Path) -> Vec<Count> {
    let Some(found) = find(body, whole.clone(), path) else { return Vec::new() };
    let mut all = Vec::new();
    let name = path.join("/").into_bytes();
    let mut add = |name: Vec<u8>, range: Range<usize>| {
        if let Some(value) = whole_number(text(body, &range)) {
            all.push(Count { name, range, value });
        }
    };
    if body.get(found.start) == Some(&b'{') {
        let _whole = members(body, found, |one| {
            add([&name, b"/".as_slice(), text(body, &one.key)].concat(), one.value);
            true
        });
    } else {
        add(name, found);
    }
    all
}

/// Digits, and perhaps `.0` behind them.
fn whole_number(text: &[u8]) -> Option<u64> {
    let text = text.strip_suffix(b".0").unwrap_or(text);
    let is_plain = text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| is_plain)?.parse().ok()
}

fn number(body: &[u8], element: &Range<usize>, name: &str) -> Option<f64> {
    let said = member(body, element.clone(), name)?.value;
    let number: f64 = std::str::from_utf8(text(body, &said)).ok()?.parse().ok()?;
    number.is_finite().then_some(number)
}
