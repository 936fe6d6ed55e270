//! Finds values in the bytes of a JSON text, without building them.
//!
//! An embedding is thousands of numbers that nobody here looks at: what is skipped is skipped by its
//! brackets, at the speed of memory. So this finds pieces and does not judge them: whether a text is
//! JSON at all is somebody else's to say, and of one that is not, whatever is found is a part of it.

use std::ops::Range;

/// A member of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Member {
    /// With its quotes.
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
}

struct Scan<'a> {
    body: &'a [u8],
    at: usize,
}

/// Where the whole document's value stands.
pub(super) fn document(body: &[u8]) -> Option<Range<usize>> {
    let mut scan = Scan { body, at: 0 };
    scan.space();
    scan.value()
}

/// What `steps` lead to from `within`, through objects.
pub(super) fn find(
    body: &[u8],
    within: Range<usize>,
    steps: &[impl AsRef<str>],
) -> Option<Range<usize>> {
    steps.iter().try_fold(within, |within, step| {
        member(body, within, step.as_ref()).map(|member| member.value)
    })
}

/// The first member of that name, as it is written.
pub(super) fn member(body: &[u8], object: Range<usize>, name: &str) -> Option<Member> {
    let mut found = None;
    members(body, object, |one| {
        let own = text(body, &one.key);
        let is_it = own.get(1..own.len().saturating_sub(1)) == Some(name.as_bytes());
        if is_it {
            found = Some(one);
        }
        !is_it
    })?;
    found
}

/// All members of an object, until `each` says that it is enough. `None`: it is no object.
pub(super) fn members(
    body: &[u8],
    object: Range<usize>,
    mut each: impl FnMut(Member) -> bool,
) -> Option<()> {
    let mut scan = Scan { body, at: object.start };
    scan.take(b'{')?;
    scan.space();
    if scan.take(b'}').is_some() {
        return Some(());
    }
    loop {
        scan.space();
        let key = scan.string()?;
        scan.space();
        scan.take(b':')?;
        scan.space();
        let value = scan.value()?;
        if !each(Member { key, value }) {
            return Some(());
        }
        scan.space();
        if scan.take(b'}').is_some() {
            return Some(());
        }
        scan.take(b',')?;
    }
}

/// The elements of a list; `None`: it is none, or has more than `max`.
pub(super) fn elements(body: &[u8], list: Range<usize>, max: usize) -> Option<Vec<Range<usize>>> {
    let mut scan = Scan { body, at: list.start };
    let mut elements = Vec::new();
    scan.take(b'[')?;
    scan.space();
    if scan.take(b']').is_some() {
        return Some(elements);
    }
    loop {
        scan.space();
        elements.push(scan.value()?);
        if elements.len() > max {
            return None;
        }
        scan.space();
        if scan.take(b']').is_some() {
            return Some(elements);
        }
        scan.take(b',')?;
    }
}

/// The bytes of a range; none of one that is not within.
pub(super) fn text<'a>(body: &'a [u8], range: &Range<usize>) -> &'a [u8] {
    body.get(range.clone()).unwrap_or_default()
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek() == Some(byte)).then(|| self.at += 1)
    }

    fn value(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        match self.peek()? {
            b'"' => return self.string(),
            // Of a well-formed text one kind of bracket is enough to find the end.
            b'[' => self.nested(b'[', b']')?,
            b'{' => self.nested(b'{', b'}')?,
            b']' | b'}' | b',' | b':' => return None,
            _ => {
                let rest = self.body.get(start..)?;
                let is_end =
                    |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' '..=b'"' | ..=b'\r');
                self.at += rest.iter().position(is_end).unwrap_or(rest.len());
            }
        }
        Some(start..self.at).filter(|value| !value.is_empty())
    }

    fn nested(&mut self, open: u8, close: u8) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            let rest = self.body.get(self.at..)?;
            self.at += memchr::memchr3(b'"', open, close, rest)?;
            match self.peek()? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                byte if byte == open => depth += 1,
                _ => depth = depth.saturating_sub(1),
            }
            self.at += 1;
            if depth == 0 {
                return Some(());
            }
        }
    }

    fn string(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        self.take(b'"')?;
        loop {
            let rest = self.body.get(self.at..)?;
            self.at += memchr::memchr2(b'"', b'\\', rest)?;
            if self.take(b'"').is_some() {
                return Some(start..self.at);
            }
            self.at += 2;
        }
    }
}
