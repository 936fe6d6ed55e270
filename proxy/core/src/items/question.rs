//! The items of a request.

use super::{
    ITEMS_MAX, Layout,
    scan::{document, elements, find, member, text},
};
use crate::dialect::Operation;
use std::{borrow::Cow, ops::Range};

/// The items that a request asks about, as places in its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    list: Range<usize>,
    items: Vec<Range<usize>>,
    limit: Option<Limit>,
}

/// How many of the answers are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Limit {
    /// The member, with the comma that goes with it.
    range: Range<usize>,
    wanted: usize,
}

impl Layout {
    /// The items of a request. `None`: it has no such list, or nobody can tell its items apart.
    /// `body` must be JSON without members twice; of anything else, whatever is found is a part.
    pub fn read(&self, body: &[u8]) -> Option<Asked> {
        let whole = document(body)?;
        if let Some(joins) = self.joins
            && let Some(joined) = member(body, whole.clone(), joins)
            && !matches!(text(body, &joined.value), b"false" | b"null")
        {
            return None;
        }
        let list = find(body, whole.clone(), &self.list)?;
        let items = elements(body, list.clone(), ITEMS_MAX)?;
        let is_number =
            |item: &Range<usize>| matches!(text(body, item).first(), Some(b'-' | b'0'..=b'9'));
        if items.is_empty() || (self.bare && items.iter().any(is_number)) {
            return None;
        }
        let limit = match self.limit.and_then(|name| member(body, whole, name)) {
            None => None,
            Some(found) => {
                // What is no number is the upstream's to refuse.
                let wanted = std::str::from_utf8(text(body, &found.value)).ok()?.parse().ok()?;
                let range = with_comma(body, found.key.start..found.value.end)?;
                Some(Limit { range, wanted })
            }
        };
        Some(Asked { list, items, limit })
    }
}

impl Asked {
    /// How many items there are; never none.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many of the answers are wanted; `None`: all.
    pub fn wanted(&self) -> Option<usize> {
        self.limit.as_ref().map(|limit| limit.wanted)
    }

    /// The bytes of one item; none where there is no such.
    pub fn item<'a>(&self, body: &'a [u8], place: usize) -> &'a [u8] {
        self.items.get(place).map(|item| text(body, item)).unwrap_or_default()
    }

    /// How many bytes of the request are not about an item.
    pub fn rest_len(&self, body: &[u8]) -> usize {
        body.len().saturating_sub(self.list.len())
    }

    /// What of the request is not about an item: what stands before the list, and behind it.
    pub fn envelope<'a>(&self, body: &'a [u8]) -> [&'a [u8]; 2] {
        [text(body, &(0..self.list.start)), text(body, &(self.list.end..body.len()))]
    }

    /// The request of only these items, for all of their answers.
    pub fn body_of(&self, body: &[u8], places: &[usize]) -> Vec<u8> {
        let items: Vec<&[u8]> = places.iter().map(|place| self.item(body, *place)).collect();
        self.body_with(body, &items)
    }

    /// The request of these items, each a JSON text, for all of their answers.
    pub fn body_with(&self, body: &[u8], items: &[&[u8]]) -> Vec<u8> {
        let list = [&b"["[..], &items.join(&b','), b"]"].concat();
        let mut edits = vec![(self.list.clone(), Cow::Owned(list))];
        edits.extend(self.limit.iter().map(|limit| (limit.range.clone(), Cow::Borrowed(&[][..]))));
        edited(body, edits)
    }
}

/// A request with a single item that stands without a list, as the same with a list of one: both
/// are one question.
pub fn bare_as_list(operation: Operation, body: &[u8]) -> Cow<'_, [u8]> {
    let bare = Layout::of(operation).iter().find(|layout| layout.bare);
    let found = bare.and_then(|layout| find(body, document(body)?, &layout.list));
    let Some(value) = found else { return Cow::Borrowed(body) };
    let is_bare = match text(body, &value).first() {
        Some(b'"') => true,
        // The numbers of one text.
        Some(b'[') => elements(body, value.clone(), usize::MAX).is_some_and(|all| {
            let number = |one| matches!(text(body, one).first(), Some(b'-' | b'0'..=b'9'));
            !all.is_empty() && all.iter().all(number)
        }),
        Some(_) | None => false,
    };
    if !is_bare {
        return Cow::Borrowed(body);
    }
    let list = [b"[", text(body, &value), b"]"].concat();
    Cow::Owned(edited(body, vec![(value, Cow::Owned(list))]))
}

/// `body` with some ranges, none within another, replaced.
pub(super) fn edited(body: &[u8], mut edits: Vec<(Range<usize>, Cow<'_, [u8]>)>) -> Vec<u8> {
    edits.sort_unstable_by_key(|(range, _)| range.start);
    let added: usize = edits.iter().map(|(_, new)| new.len()).sum();
    let mut out = Vec::with_capacity(body.len().saturating_add(added));
    let mut at = 0;
    for (range, new) in edits {
        out.extend_from_slice(text(body, &(at..range.start)));
        out.extend_from_slice(&new);
        at = range.end;
    }
    out.extend_from_slice(text(body, &(at..body.len())));
    out
}

/// A member and the comma that parts it from the next, or else from the one before.
fn with_comma(body: &[u8], member: Range<usize>) -> Option<Range<usize>> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
    let after = body.get(member.end..)?;
    let gap = after.iter().position(|byte| !is_space(byte))?;
    if after.get(gap) == Some(&b',') {
        return Some(member.start..member.end.saturating_add(gap).saturating_add(1));
    }
    let before = body.get(..member.start)?;
    let last = before.iter().rposition(|byte| !is_space(byte))?;
    let start = if before.get(last) == Some(&b',') { last } else { member.start };
    Some(start..member.end)
}
