//! `cache-control` of an answer (RFC 9111 §5.2.2), in full.
//!
//! What restricts is heard in any spelling that could mean it; what allows must be spelt as the
//! grammar says. Of a time that is given twice the first counts (§4.2.1 allows it), and one that
//! cannot be read is 0: such an answer is stale.

use super::fields;
use http::{HeaderMap, HeaderName, header};

/// What an upstream says about its answer. Times are in seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    pub no_store: bool,
    pub no_cache: Extent,
    pub private: Extent,
    pub public: bool,
    pub must_revalidate: bool,
    pub proxy_revalidate: bool,
    pub must_understand: bool,
    pub immutable: bool,
    pub max_age_s: Option<u64>,
    pub s_maxage_s: Option<u64>,
    pub stale_while_revalidate_s: Option<u64>,
    pub stale_if_error_s: Option<u64>,
}

/// What `no-cache` and `private` are about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Extent {
    /// Not said.
    #[default]
    Nothing,
    /// These fields of the answer only.
    Fields(Vec<HeaderName>),
    /// All of the answer.
    Whole,
}

/// More fields than this are as good as the whole answer.
const FIELDS_MAX: usize = 32;

impl Extent {
    /// The fields; none where it is not about single fields.
    pub fn fields(&self) -> &[HeaderName] {
        match self {
            Self::Fields(names) => names,
            Self::Nothing | Self::Whole => &[],
        }
    }

    pub fn is_whole(&self) -> bool {
        *self == Self::Whole
    }

    /// `list` is the quoted argument; without one, or with one that cannot be read, all is meant.
    pub(super) fn widen(&mut self, list: Option<&[u8]>) {
        let more = list.and_then(|list| fields::names(fields::members(list), FIELDS_MAX));
        let more = more.filter(|names| !names.is_empty());
        *self = match (std::mem::take(self), more) {
            (Self::Nothing, Some(names)) => Self::Fields(names),
            (Self::Fields(mut names), Some(more)) if names.len() + more.len() <= FIELDS_MAX => {
                names.extend(more);
                Self::Fields(names)
            }
            _ => Self::Whole,
        };
    }
}

impl Directives {
    /// From all lines of `cache-control`.
    pub fn read(headers: &HeaderMap) -> Self {
        let mut said = Self::default();
        for member in fields::all_members(headers, &header::CACHE_CONTROL) {
            said.take(member);
        }
        said
    }

    /// How long a shared cache may call it fresh, if that is said here.
    pub fn lifetime_s(&self) -> Option<u64> {
        self.s_maxage_s.or(self.max_age_s)
    }

    /// Past its time it must not be given without the upstream's word: `s-maxage` has that meaning
    /// too (§5.2.2.10).
    pub fn forbids_stale(&self) -> bool {
        self.must_revalidate
            || self.proxy_revalidate
            || self.s_maxage_s.is_some()
            || self.no_cache.is_whole()
    }

    /// An answer to a request with credentials may be given to others (§3.5).
    pub fn allows_sharing(&self) -> bool {
        self.public || self.must_revalidate || self.s_maxage_s.is_some()
    }

    fn take(&mut self, member: &[u8]) {
        let equals = member.iter().position(|byte| *byte == b'=');
        let (name, value) = match equals.and_then(|at| member.split_at_checked(at)) {
            Some((name, value)) => (name, value.get(1..)),
            None => (member, None),
        };
        let lower = fields::trim(name).to_ascii_lowercase();
        // White space at the `=` is no grammar: fine for what forbids, not for a time.
        let exact = name.len() == lower.len();
        let value = value.filter(|_| exact).or(value.map(|_| b"?".as_slice()));
        match lower.as_slice() {
            b"no-store" => self.no_store = true,
            b"no-cache" => self.no_cache.widen(quoted(value).as_deref()),
            b"private" => self.private.widen(quoted(value).as_deref()),
            b"must-revalidate" => self.must_revalidate = true,
            b"proxy-revalidate" => self.proxy_revalidate = true,
            b"public" => self.public |= value.is_none(),
            b"must-understand" => self.must_understand = true,
            b"immutable" => self.immutable |= value.is_none(),
            b"max-age" => first_time(&mut self.max_age_s, value),
            b"s-maxage" => first_time(&mut self.s_maxage_s, value),
            b"stale-while-revalidate" => first_time(&mut self.stale_while_revalidate_s, value),
            b"stale-if-error" => first_time(&mut self.stale_if_error_s, value),
            _ => {}
        }
    }
}

fn quoted(value: Option<&[u8]>) -> Option<Vec<u8>> {
    fields::unquoted(fields::trim(value?))
}

/// A token or the same in quotes.
fn first_time(place: &mut Option<u64>, value: Option<&[u8]>) {
    if place.is_some() {
        return;
    }
    let read = value.and_then(|value| match fields::unquoted(value) {
        Some(inner) => fields::seconds(&inner),
        None => fields::seconds(value),
    });
    *place = Some(read.unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cache_control::SECONDS_MAX, rfc9111::testing::headers};
    use proptest::prelude::*;

    fn read(lines: &[&str]) -> Directives {
        let lines: Vec<_> = lines.iter().map(|line| ("cache-control", *line)).collect();
        Directives::read(&headers(&lines))
    }

    fn named(names: &[&str]) -> Extent {
        Extent::Fields(names.iter().map(|name| name.parse().unwrap()).collect())
    }

    #[test]
    fn every_directive_is_heard_in_any_case_and_line() {
        let said = read(&[
            "No-Store, MUST-REVALIDATE , proxy-revalidate",
            "public, must-understand,, Immutable, Max-Age=1",
            "s-maxage=2, stale-while-revalidate=3, stale-if-error=4, x=y, z",
        ]);
        let expected = Directives {
            no_store: true,
            no_cache: Extent::Nothing,
            private: Extent::Nothing,
            public: true,
            must_revalidate: true,
            proxy_revalidate: true,
            must_understand: true,
            immutable: true,
            max_age_s: Some(1),
            s_maxage_s: Some(2),
            stale_while_revalidate_s: Some(3),
            stale_if_error_s: Some(4),
        };
        assert_eq!(said, expected);
        assert_eq!(read(&[]), Directives::default());
    }

    #[test]
    fn a_time_is_digits_or_it_is_zero() {
        for (text, expected) in [
            ("max-age=3600", 3600),
            ("max-age=\"3600\"", 3600),
            ("max-age=003600", 3600),
            ("max-age=2147483648", SECONDS_MAX),
            ("max-age=99999999999", SECONDS_MAX),
            ("max-age='3600'", 0),
            ("max-age=-1", 0),
            ("max-age=3600.0", 0),
            ("max-age=a1", 0),
            ("max-age=1a", 0),
            ("max-age", 0),
            ("max-age=", 0),
            ("max-age =3600", 0),
            ("max-age= 3600", 0),
        ] {
            assert_eq!(read(&[text]).max_age_s, Some(expected), "{text}");
        }
    }

    #[test]
    fn of_two_times_the_first_counts() {
        assert_eq!(read(&["max-age=5, max-age=60"]).max_age_s, Some(5));
        assert_eq!(read(&["max-age=60", "max-age=5"]).max_age_s, Some(60));
        assert_eq!(read(&["max-age=x, max-age=5"]).max_age_s, Some(0));
        assert_eq!(read(&["max-age=60, s-maxage=5"]).lifetime_s(), Some(5));
    }

    #[test]
    fn what_is_in_quotes_is_no_directive() {
        let said = read(&["extension=\"max-age=100, no-store\", max-age=1"]);
        assert_eq!((said.max_age_s, said.no_store), (Some(1), false));
        assert!(read(&["extension=\"max-age=100, no-store"]).no_store, "but the quote must end");
    }

    #[test]
    fn what_forbids_is_heard_in_any_spelling() {
        assert!(read(&["no-store=\"x\""]).no_store);
        assert!(read(&["no-store =1"]).no_store);
        assert!(read(&["private=x"]).private.is_whole());
        assert!(read(&["no-cache=\"\""]).no_cache.is_whole());
        assert!(read(&["no-cache=\"a b\""]).no_cache.is_whole());
        assert!(read(&["no-cache = \"a\""]).no_cache.is_whole());
        assert!(read(&["private, private=\"a\""]).private.is_whole());
        assert!(!read(&["public=x"]).public);
    }

    #[test]
    fn single_fields_can_be_meant() {
        assert_eq!(read(&["no-cache=\"A, b\""]).no_cache, named(&["a", "b"]));
        assert_eq!(read(&["private=\"a\"", "private=\"b\""]).private, named(&["a", "b"]));
        let many = vec!["a"; FIELDS_MAX + 1].join(",");
        assert!(read(&[&format!("private=\"{many}\"")]).private.is_whole());
    }

    proptest! {
        #[test]
        fn whatever_else_is_there_no_store_is_heard(before in "[a-z,=\" 0-9\\\\]{0,20}") {
            // In a quoted string it is none; an open one does not count as such.
            prop_assume!(before.matches('"').count() < 2 && !before.ends_with(['=', '\\']));
            let said = read(&[&format!("{before}, no-store, max-age=1")]);
            prop_assert!(said.no_store);
        }
    }
}
