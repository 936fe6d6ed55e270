//! The query of a request line, read strictly: an unknown or doubled name is a mistake
//! that would otherwise answer another question than was asked.

use super::Problem;
use bytes::Bytes;

/// Names and values, each name once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Only `known` names may come.
    pub(super) fn parse(raw: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let query = Self::form(raw.unwrap_or_default().as_bytes())?;
        match query.pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(query),
            Some((name, _)) if known.is_empty() => {
                Err(Problem::bad(format!("query: {name:?}: nothing is asked here")))
            }
            Some((name, _)) => {
                let known = known.join(", ");
                Err(Problem::bad(format!("query: unknown name {name:?}: use {known}")))
            }
        }
    }

    /// `a=b&c=d`, also as the body of a form.
    pub(crate) fn form(raw: &[u8]) -> Result<Self, Problem> {
        let mut query = Self::default();
        for pair in raw.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let cut = pair.iter().position(|byte| *byte == b'=');
            let (name, value) = match cut.and_then(|cut| pair.split_at_checked(cut)) {
                Some((name, value)) => (name, value.strip_prefix(b"=").unwrap_or(value)),
                None => (pair, &[][..]),
            };
            let (name, value) = (decode(name)?, decode(value)?);
            if query.get(&name).is_some() {
                return Err(Problem::bad(format!("query: {name:?} comes twice")));
            }
            query.pairs.push((name, value));
        }
        Ok(query)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.pairs.iter();
        pairs.find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }
}

/// Undoes `%41` and `+`.
fn decode(raw: &[u8]) -> Result<String, Problem> {
    let mut text = Vec::with_capacity(raw.len());
    let mut rest = raw.iter();
    while let Some(byte) = rest.next() {
        text.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
                let pair = digit(rest.next()).zip(digit(rest.next()));
                let byte = pair.and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
                byte.ok_or_else(|| Problem::bad("query: % without two hexadecimal digits"))?
            }
            plain => *plain,
        });
    }
    String::from_utf8(text).map_err(|_| Problem::bad("query: not UTF-8"))
}

/// The text of a body that should be JSON, or nothing.
pub(super) fn expect_no_members(body: &Bytes) -> Result<(), Problem> {
    let body = body.trim_ascii();
    if body.is_empty() {
        return Ok(());
    }
    match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(body) {
        Ok(members) => match members.keys().next() {
            None => Ok(()),
            Some(name) => Err(Problem::bad(format!("body: {name:?}: this order has no members"))),
        },
        Err(error) => Err(Problem::bad(format!("body: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn refused(raw: &str, known: &[&str]) -> String {
        Query::parse(Some(raw), known).unwrap_err().detail
    }

    #[test]
    fn names_and_values_are_decoded() {
        let query = Query::parse(Some("from=2026-11-01T00%3a00Z&by=a+b&&x"), &["from", "by", "x"]);
        let query = query.unwrap();
        assert_eq!(query.get("from"), Some("2026-11-01T00:00Z"));
        assert_eq!(query.get("by"), Some("a b"));
        assert_eq!(query.get("x"), Some(""));
        assert_eq!(query.get("y"), None);
    }

    #[test]
    fn an_unknown_or_doubled_name_is_refused_by_name() {
        assert!(refused("bye=model", &["by"]).contains("\"bye\""));
        assert!(refused("by=a&by=b", &["by"]).contains("twice"));
        assert!(refused("x=1", &[]).contains("nothing"));
        assert!(refused("x=%4", &["x"]).contains('%'));
        assert!(refused("x=%ff", &["x"]).contains("UTF-8"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_query_or_a_refusal(raw in any::<Vec<u8>>()) {
            let _either_way = Query::form(&raw).is_ok();
        }
    }
}
