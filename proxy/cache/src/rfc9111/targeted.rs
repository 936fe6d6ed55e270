//! Cache directives aimed at caches like this one (RFC 9213): `cdn-cache-control` and our own.
//!
//! Such a field is a dictionary of RFC 8941, read as strictly as that says: one byte that is no
//! grammar, and the whole field does not exist. The first that exists and is not empty decides
//! alone; `cache-control` and `expires` are not looked at then.

use super::{
    directives::{Directives, Extent},
    fields,
};
use crate::cache_control::SECONDS_MAX;
use http::{HeaderMap, HeaderName};

/// What the first valid field of `names`, in that order, says; `None` if there is none.
pub fn read(headers: &HeaderMap, names: &[HeaderName]) -> Option<Directives> {
    names.iter().find_map(|name| {
        let mut lines = headers.get_all(name).iter().map(|line| line.as_bytes());
        let mut all = lines.next()?.to_vec();
        for line in lines {
            all.extend_from_slice(b", ");
            all.extend_from_slice(line);
        }
        parse(&all)
    })
}

/// `None` for what is empty, no dictionary, or gives a time that is no number.
pub fn parse(text: &[u8]) -> Option<Directives> {
    let members = dictionary(text)?;
    if members.is_empty() {
        return None;
    }
    let mut said = Directives::default();
    for (name, value) in &members {
        take(&mut said, name, value)?;
    }
    Some(said)
}

fn take(said: &mut Directives, name: &[u8], value: &Value) -> Option<()> {
    // `?0` is the one way to say that something is not so.
    let holds = *value != Value::Boolean(false);
    match name {
        b"no-store" => said.no_store = holds,
        b"no-cache" => widen(&mut said.no_cache, holds, value),
        b"private" => widen(&mut said.private, holds, value),
        b"must-revalidate" => said.must_revalidate = holds,
        b"proxy-revalidate" => said.proxy_revalidate = holds,
        b"must-understand" => said.must_understand = holds,
        b"public" => said.public = *value == Value::Boolean(true),
        b"immutable" => said.immutable = *value == Value::Boolean(true),
        b"max-age" => said.max_age_s = Some(value.seconds()?),
        b"s-maxage" => said.s_maxage_s = Some(value.seconds()?),
        b"stale-while-revalidate" => said.stale_while_revalidate_s = Some(value.seconds()?),
        b"stale-if-error" => said.stale_if_error_s = Some(value.seconds()?),
        _ => {}
    }
    Some(())
}

fn widen(extent: &mut Extent, holds: bool, value: &Value) {
    *extent = Extent::Nothing;
    match value {
        Value::Text(list) => extent.widen(Some(list)),
        Value::Boolean(_) | Value::Integer(_) | Value::Other if holds => extent.widen(None),
        Value::Boolean(_) | Value::Integer(_) | Value::Other => {}
    }
}

/// What a member may be, as far as a directive cares.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Boolean(bool),
    /// Negative ones are 0.
    Integer(u64),
    /// A string or a token.
    Text(Vec<u8>),
    /// Well formed, and of no use: a decimal, bytes, a date, an inner list.
    Other,
}

impl Value {
    fn seconds(&self) -> Option<u64> {
        match self {
            Self::Integer(seconds) => Some((*seconds).min(SECONDS_MAX)),
            Self::Boolean(_) | Self::Text(_) | Self::Other => None,
        }
    }
}

/// The longest field that is read; a longer one does not exist.
const BYTES_MAX: usize = 8 * 1024;
const MEMBERS_MAX: usize = 128;

type Members = Vec<(Vec<u8>, Value)>;

/// RFC 8941 §4.2.2. A name that comes again replaces the value and keeps its place.
fn dictionary(text: &[u8]) -> Option<Members> {
    if text.len() > BYTES_MAX {
        return None;
    }
    let mut read = Reader(text);
    read.spaces();
    let mut members: Members = Vec::new();
    while !read.0.is_empty() {
        let name = read.key()?;
        let value = if read.byte(b'=').is_some() { read.member()? } else { Value::Boolean(true) };
        read.parameters()?;
        if let Some((_, place)) = members.iter_mut().find(|(known, _)| *known == name) {
            *place = value;
        } else if members.len() < MEMBERS_MAX {
            members.push((name, value));
        } else {
            return None;
        }
        read.optional_space();
        if read.0.is_empty() {
            break;
        }
        read.byte(b',')?;
        read.optional_space();
        if read.0.is_empty() {
            return None; // a comma at the end
        }
    }
    Some(members)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self, wanted: u8) -> Option<()> {
        let (first, rest) = self.0.split_first()?;
        if *first != wanted {
            return None;
        }
        self.0 = rest;
        Some(())
    }

    fn while_(&mut self, fits: impl Fn(u8) -> bool) -> &'a [u8] {
        let end = self.0.iter().position(|byte| !fits(*byte)).unwrap_or(self.0.len());
        let (start, rest) = self.0.split_at_checked(end).unwrap_or((self.0, &[]));
        self.0 = rest;
        start
    }

    fn spaces(&mut self) {
        self.while_(|byte| byte == b' ');
    }

    fn optional_space(&mut self) {
        self.while_(|byte| matches!(byte, b' ' | b'\t'));
    }

    fn key(&mut self) -> Option<Vec<u8>> {
        if !matches!(self.0.first(), Some(b'a'..=b'z' | b'*')) {
            return None;
        }
        let fits = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b'*');
        Some(self.while_(fits).to_vec())
    }

    fn member(&mut self) -> Option<Value> {
        if self.byte(b'(').is_none() {
            return self.item();
        }
        loop {
            self.spaces();
            if self.byte(b')').is_some() {
                return Some(Value::Other);
            }
            self.item()?;
            self.parameters()?;
            if !matches!(self.0.first(), Some(b' ' | b')')) {
                return None;
            }
        }
    }

    fn parameters(&mut self) -> Option<()> {
        while self.byte(b';').is_some() {
            self.spaces();
            self.key()?;
            if self.byte(b'=').is_some() {
                self.item()?;
            }
        }
        Some(())
    }

    fn item(&mut self) -> Option<Value> {
        match self.0.first()? {
            b'-' | b'0'..=b'9' => self.number(),
            b'"' => self.string(),
            b'?' => {
                self.byte(b'?')?;
                match self.byte(b'1') {
                    Some(()) => Some(Value::Boolean(true)),
                    None => self.byte(b'0').map(|()| Value::Boolean(false)),
                }
            }
            b':' => {
                self.byte(b':')?;
                let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
                self.while_(fits);
                self.byte(b':').map(|()| Value::Other)
            }
            b'@' => {
                self.byte(b'@')?;
                match self.number()? {
                    Value::Integer(_) => Some(Value::Other),
                    Value::Boolean(_) | Value::Text(_) | Value::Other => None,
                }
            }
            first if first.is_ascii_alphabetic() || *first == b'*' => {
                let fits =
                    |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&byte);
                Some(Value::Text(self.while_(fits).to_vec()))
            }
            _ => None,
        }
    }

    /// At most 15 digits, or 12 and 3 after a point.
    fn number(&mut self) -> Option<Value> {
        let negative = self.byte(b'-').is_some();
        let digits = self.while_(|byte| byte.is_ascii_digit());
        if self.byte(b'.').is_some() {
            let after = self.while_(|byte| byte.is_ascii_digit());
            let fits = (1..=12).contains(&digits.len()) && (1..=3).contains(&after.len());
            return fits.then_some(Value::Other);
        }
        if !(1..=15).contains(&digits.len()) {
            return None;
        }
        let number = fields::seconds(digits)?;
        Some(Value::Integer(if negative { 0 } else { number }))
    }

    fn string(&mut self) -> Option<Value> {
        self.byte(b'"')?;
        let mut said = Vec::new();
        loop {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            match byte {
                b'"' => return Some(Value::Text(said)),
                b'\\' => {
                    let (escaped, rest) = self.0.split_first()?;
                    if !matches!(escaped, b'"' | b'\\') {
                        return None;
                    }
                    self.0 = rest;
                    said.push(*escaped);
                }
                b' '..=b'~' => said.push(*byte),
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rfc9111::testing::headers;
    use proptest::prelude::*;

    fn cdn() -> [HeaderName; 2] {
        ["tollgate-cache-control", "cdn-cache-control"].map(HeaderName::from_static)
    }

    #[test]
    fn a_dictionary_of_directives_is_read() {
        let said = parse(
            b"max-age=60;x=1, no-store ,\tprivate=\"a, b\", foo=(a \"b\"), must-revalidate=?1",
        );
        let said = said.unwrap();
        assert_eq!(said.max_age_s, Some(60));
        assert!(said.no_store && said.must_revalidate);
        assert_eq!(said.private.fields().len(), 2);
        assert_eq!(parse(b"max-age=60, max-age=5").unwrap().max_age_s, Some(5));
        assert_eq!(parse(b"max-age=99999999999").unwrap().max_age_s, Some(SECONDS_MAX));
        assert_eq!(parse(b"max-age=-5").unwrap().max_age_s, Some(0));
        assert!(!parse(b"no-store=?0").unwrap().no_store);
        assert!(parse(b"no-store=1").unwrap().no_store);
    }

    #[test]
    fn what_is_no_dictionary_does_not_exist() {
        for text in [
            "",
            "  ",
            "max-age=60,",
            "max-age=60,,no-store",
            "max-age=60, &&&&&",
            "max-age=60 no-store",
            "max-age =60",
            "max-age= 60",
            "MaX-aGe=60",
            "Max-Age=60",
            "max-age=\"60\"",
            "max-age=60.5",
            "max-age",
            "max-age=1234567890123456",
            "max-age='60'",
            "private=\"a",
            "private=\"\\a\"",
            "x=?2",
            "x=(a",
            "x=(a\"b\")",
            "x=:aa",
            "\u{e9}",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_first_valid_field_in_our_order_decides() {
        let two = [("cdn-cache-control", "max-age=1"), ("tollgate-cache-control", "max-age=2")];
        assert_eq!(read(&headers(&two), &cdn()).unwrap().max_age_s, Some(2));
        let broken = [("cdn-cache-control", "max-age=1"), ("tollgate-cache-control", "max-age=x")];
        assert_eq!(read(&headers(&broken), &cdn()).unwrap().max_age_s, Some(1));
        let lines = [("cdn-cache-control", "max-age=1"), ("cdn-cache-control", "no-store")];
        assert!(read(&headers(&lines), &cdn()).unwrap().no_store);
        assert_eq!(read(&headers(&[("cache-control", "max-age=1")]), &cdn()), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&text);
        }

        #[test]
        fn nearly_a_dictionary_is_read_or_refused(text in "[a-z0-9=,;()\"?:@ .*\\\\-]{0,60}") {
            let _ = parse(text.as_bytes());
        }
    }
}
