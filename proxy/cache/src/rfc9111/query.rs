//! The query as it enters the key, as a route has it: sorted, without parameters that change
//! nothing (`utm_*`), or with only those that do.
//!
//! Bytes are compared as they are: nothing is decoded, so `%61` is not `a`. That can cost a hit,
//! never a wrong answer. Off unless configured: the order of a query may mean something.

use std::borrow::Cow;

/// What a route makes of queries before they are compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryRules {
    /// In the order of the parameters' names. Those of one name stay in their order, which may
    /// mean something.
    pub sort: bool,
    /// Parameters of these names are left out.
    pub ignore: Vec<Pattern>,
    /// Only parameters of these names are kept.
    pub only: Option<Vec<Pattern>>,
}

/// A name, or the start of one and `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    is_prefix: bool,
}

/// A query with more parameters is taken as it is.
pub const PARAMETERS_MAX: usize = 256;

impl Pattern {
    /// `utm_*` or `session`.
    pub fn new(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(start) => Self { text: start.to_owned(), is_prefix: true },
            None => Self { text: text.to_owned(), is_prefix: false },
        }
    }

    fn fits(&self, name: &str) -> bool {
        if self.is_prefix { name.starts_with(&self.text) } else { name == self.text }
    }
}

impl QueryRules {
    /// Changes nothing.
    pub fn is_plain(&self) -> bool {
        !self.sort && self.ignore.is_empty() && self.only.is_none()
    }

    /// The query for the key; `None` if there is none, or nothing of it is left.
    pub fn normal<'a>(&self, query: Option<&'a str>) -> Option<Cow<'a, str>> {
        let query = query?;
        if self.is_plain() || query.split('&').nth(PARAMETERS_MAX).is_some() {
            return Some(Cow::Borrowed(query));
        }
        let mut kept: Vec<&str> = query.split('&').filter(|pair| self.keeps(name(pair))).collect();
        if kept.is_empty() {
            return None;
        }
        if self.sort {
            kept.sort_by_key(|pair| name(pair));
        }
        let normal = kept.join("&");
        Some(if normal == query { Cow::Borrowed(query) } else { Cow::Owned(normal) })
    }

    fn keeps(&self, name: &str) -> bool {
        let fits = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.fits(name));
        !fits(&self.ignore) && self.only.as_deref().is_none_or(fits)
    }
}

fn name(pair: &str) -> &str {
    pair.split_once('=').map_or(pair, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules(sort: bool, ignore: &[&str], only: Option<&[&str]>) -> QueryRules {
        let patterns = |texts: &[&str]| texts.iter().map(|text| Pattern::new(text)).collect();
        QueryRules { sort, ignore: patterns(ignore), only: only.map(patterns) }
    }

    #[track_caller]
    fn check(rules: &QueryRules, query: &str, expected: Option<&str>) {
        assert_eq!(rules.normal(Some(query)).as_deref(), expected, "{query}");
    }

    #[test]
    fn nothing_is_changed_unless_asked_for() {
        check(&rules(false, &[], None), "b=1&a=2&&x", Some("b=1&a=2&&x"));
        assert_eq!(rules(true, &[], None).normal(None), None);
    }

    #[test]
    fn parameters_of_one_name_stay_in_their_order() {
        check(&rules(true, &[], None), "b=2&a=9&b=1&a", Some("a=9&a&b=2&b=1"));
    }

    #[test]
    fn what_changes_nothing_is_left_out() {
        let ignoring = rules(false, &["utm_*", "sid"], None);
        check(&ignoring, "utm_source=x&q=1&sid=2&sidx=3", Some("q=1&sidx=3"));
        check(&ignoring, "utm_source=x", None);
        check(&rules(false, &[], Some(&["q", "p*"])), "a=1&q=1&page=2", Some("q=1&page=2"));
        check(&rules(false, &["*"], None), "a=1", None);
        check(&ignoring, "UTM_source=x", Some("UTM_source=x"));
    }

    #[test]
    fn too_many_parameters_are_taken_as_they_are() {
        let many = vec!["utm_a=1"; PARAMETERS_MAX + 1].join("&");
        check(&rules(true, &["utm_*"], None), &many, Some(&many));
    }

    proptest! {
        #[test]
        fn sorting_loses_nothing_and_is_done_after_once(query in "[ab=&]{0,20}") {
            let rules = rules(true, &[], None);
            let once = rules.normal(Some(&query)).unwrap().into_owned();
            prop_assert_eq!(rules.normal(Some(&once)).unwrap(), once.as_str());
            let (mut before, mut after): (Vec<_>, Vec<_>) =
                (query.split('&').collect(), once.split('&').collect());
            before.sort_unstable();
            after.sort_unstable();
            prop_assert_eq!(before, after);
        }
    }
}
