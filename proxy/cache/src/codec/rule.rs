//! The part of an entry's bytes that says when it may be given.

use super::{Foreign, Input, put_count};
use crate::{
    entry::{FieldNames, HttpRule, Rule},
    freshness::{Given, Times},
    key::CacheKey,
    rfc9111::store::Stored,
    urls::Url,
};
use http::HeaderName;

pub(super) fn put(out: &mut Vec<u8>, rule: &Rule) {
    match rule {
        Rule::Ttl => out.push(0),
        Rule::Http(rule) => {
            // 1 was of another layout.
            out.push(6);
            put_http(out, rule);
        }
        Rule::Variants(lists) => {
            out.push(2);
            put_count(out, lists.len());
            for list in lists {
                put_count(out, list.len());
                for name in list {
                    super::put(out, name.as_str().as_bytes());
                }
            }
        }
        Rule::Timed(times) => {
            // 3 and 4 were of other layouts.
            out.push(5);
            let Times { fresh_ms, extend_max_ms, is_hot, learned_ms, given: _ } = **times;
            out.push(u8::from(is_hot));
            for number in [fresh_ms, extend_max_ms, learned_ms] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
    }
}

fn put_http(out: &mut Vec<u8>, rule: &HttpRule) {
    let HttpRule { stored, url, named } = rule;
    out.extend_from_slice(url.as_bytes());
    out.extend_from_slice(named.as_bytes());
    let flags = [
        stored.must_revalidate,
        stored.no_cache,
        stored.immutable,
        stored.shareable,
        stored.heuristic,
        stored.has_validator,
    ];
    out.extend(flags.map(u8::from));
    for number in [
        stored.made_at_ms,
        stored.lifetime_ms,
        stored.stale_while_revalidate_ms,
        stored.stale_if_error_ms,
        stored.stale_if_unreachable_ms,
    ] {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

pub(super) fn take(input: &mut Input) -> Result<Rule, Foreign> {
    match input.array()? {
        [0] => Ok(Rule::Ttl),
        [6] => Ok(Rule::Http(Box::new(take_http(input)?))),
        [2] => {
            let lists = input.list(4, |input| {
                let names = input
                    .list(4, |input| HeaderName::from_bytes(&input.field()?).map_err(|_| Foreign));
                Ok(FieldNames::from(names?))
            });
            Ok(Rule::Variants(lists?.into()))
        }
        [5] => {
            let (is_hot, fresh_ms, extend_max_ms) = (flag(input)?, input.u64()?, input.u64()?);
            let (learned_ms, given) = (input.u64()?, Given::default());
            let times = Times { fresh_ms, extend_max_ms, is_hot, learned_ms, given };
            Ok(Rule::Timed(Box::new(times)))
        }
        [_] => Err(Foreign),
    }
}

fn flag(input: &mut Input) -> Result<bool, Foreign> {
    match input.array()? {
        [0] => Ok(false),
        [1] => Ok(true),
        [_] => Err(Foreign),
    }
}

fn take_http(input: &mut Input) -> Result<HttpRule, Foreign> {
    let url = CacheKey::from_bytes(input.array()?);
    let named = Url::from_bytes(input.array()?);
    let stored = Stored {
        must_revalidate: flag(input)?,
        no_cache: flag(input)?,
        immutable: flag(input)?,
        shareable: flag(input)?,
        heuristic: flag(input)?,
        has_validator: flag(input)?,
        made_at_ms: input.u64()?,
        lifetime_ms: input.u64()?,
        stale_while_revalidate_ms: input.u64()?,
        stale_if_error_ms: input.u64()?,
        stale_if_unreachable_ms: input.u64()?,
    };
    Ok(HttpRule { stored, url, named })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    /// Any rule, the key of its URL apart: an entry's subjects follow from that.
    pub(in super::super) fn rules() -> impl Strategy<Value = Rule> {
        let http = (any::<[bool; 6]>(), any::<[u64; 5]>()).prop_map(|(flags, numbers)| {
            let stored = Stored {
                made_at_ms: numbers[0],
                lifetime_ms: numbers[1],
                must_revalidate: flags[0],
                no_cache: flags[1],
                immutable: flags[2],
                shareable: flags[3],
                heuristic: flags[4],
                has_validator: flags[5],
                stale_while_revalidate_ms: numbers[2],
                stale_if_error_ms: numbers[3],
                stale_if_unreachable_ms: numbers[4],
            };
            let url = crate::entry::tests::key(7);
            let named = Url::of(b"host", "/", None);
            Rule::Http(Box::new(HttpRule { stored, url, named }))
        });
        let name = "[a-z][a-z-]{0,8}".prop_map(|name| HeaderName::try_from(name).unwrap());
        let lists = vec(vec(name, 0..4).prop_map(FieldNames::from), 0..3);
        let timed = any::<([u64; 3], bool)>().prop_map(|(numbers, is_hot)| {
            let [fresh_ms, extend_max_ms, learned_ms] = numbers;
            let times = Times { extend_max_ms, is_hot, learned_ms, ..Times::new(fresh_ms) };
            Rule::Timed(Box::new(times))
        });
        prop_oneof![
            Just(Rule::Ttl),
            timed,
            http,
            lists.prop_map(|lists| Rule::Variants(lists.into()))
        ]
    }
}
