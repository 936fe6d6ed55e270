//! Members that both forms have, carried from one to the other as they are.
//!
//! In a stream such a member may come many times (`model` in every chunk) or first
//! as `null` and later with a value. One value is carried; two different ones are a
//! stream that the whole form cannot tell, so the conversion ends.

use super::raw::{Object, Raw};

/// What a member's value must be; `null` always may stand for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    Text,
    /// This very string.
    Is(&'static str),
    /// Where a stream says several, the first counts: some servers stamp `created`
    /// on every chunk anew.
    FirstNumber,
    /// A string or a number.
    Scalar,
    /// Anything, as its bytes.
    Any,
    /// Known only as absent, `null` or `[]`; anything else is content that we
    /// cannot convert.
    Nothing,
}

/// The members of one object that are carried, in their order.
pub(super) type Known = &'static [(&'static str, Rule)];

/// Absent, `null`, or said: compact JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Member {
    #[default]
    Absent,
    Null,
    Said(String),
}

/// The values of some [`Known`] members.
#[derive(Debug)]
pub(super) struct Carried {
    known: Known,
    members: Vec<Member>,
}

impl Carried {
    pub(super) fn new(known: Known) -> Self {
        Self { known, members: vec![Member::Absent; known.len()] }
    }

    /// Takes a member over. `None`: not known, not as its rule says, or a second,
    /// different value.
    pub(super) fn take(&mut self, name: &str, value: Raw<'_>) -> Option<()> {
        let place = self.known.iter().position(|(known, _)| *known == name)?;
        let (_, rule) = *self.known.get(place)?;
        let member = self.members.get_mut(place)?;
        if value.is_null() {
            if *member == Member::Absent {
                *member = Member::Null;
            }
            return Some(());
        }
        let fits = match rule {
            Rule::Text => value.is_string(),
            Rule::Is(text) => value.string()? == text,
            Rule::FirstNumber => value.is_number(),
            Rule::Scalar => value.is_string() || value.is_number(),
            Rule::Any => true,
            Rule::Nothing => value.compact() == "[]",
        };
        if !fits {
            return None;
        }
        let value = value.compact();
        match member {
            Member::Absent | Member::Null => *member = Member::Said(value),
            Member::Said(said) if *said == value || rule == Rule::FirstNumber => {}
            Member::Said(_) => return None,
        }
        Some(())
    }

    /// The member has a value that is not `null`.
    pub(super) fn says(&self, name: &str) -> bool {
        let place = self.known.iter().position(|(known, _)| *known == name);
        matches!(place.and_then(|place| self.members.get(place)), Some(Member::Said(_)))
    }

    /// Every one of `names` has a value.
    pub(super) fn says_all(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.says(name))
    }

    pub(super) fn write(&self, object: &mut Object) {
        self.write_as(object, |json| json);
    }

    /// The members that are there, each as `null`.
    pub(super) fn write_nulls(&self, object: &mut Object) {
        self.write_as(object, |_| "null");
    }

    fn write_as<'a>(&'a self, object: &mut Object, show: impl Fn(&'a str) -> &'a str) {
        for ((name, _), member) in self.known.iter().zip(&self.members) {
            match member {
                Member::Absent => {}
                Member::Null => object.raw(name, "null"),
                Member::Said(json) => object.raw(name, show(json)),
            }
        }
    }
}
