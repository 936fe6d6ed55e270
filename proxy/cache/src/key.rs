//! What makes two calls the same question.
//!
//! The body is digested by itself, in one go, and the digest is bound to everything else in a
//! second, small hash: a short prefix in the same hasher misaligns BLAKE3's wide lanes and
//! makes a 16 KiB body four times as dear (design, table Q4b). What stays the same from one item of
//! a call to the next, and from one version of the model to another, is digested once, as the
//! [`Stem`] of all these keys.
//!
//! Everything is digested twice: by BLAKE3, which nobody finds a collision for, and by XXH3 under a
//! seed, another function altogether, for the [`Check`] that an entry is compared with.
//!
//! **Invariant:** every field goes in with its length in front, so that ("ab", "c") and ("a", "bc")
//! are two keys. **Invariant:** there is no key without a [`Scope`]: an answer cannot be served to
//! another tenant than the one it was made for.

use smallvec::SmallVec;
use std::fmt;
use xxhash_rust::xxh3::{Xxh3, xxh3_128_with_seed};

/// Bump when the meaning of a field changes, so that old entries are not found.
const SCHEME: &[u8] = b"tollgate key 3";

/// Keys the second digest. It is no secret: whoever would profit from two equal ones would need two
/// equal ones of BLAKE3 first.
const CHECK_SEED: u64 = u64::from_le_bytes(*b"check v2");

/// Keys the digests of forms that a rule made, so that none of them is that of a form without one.
const RULE_KEY: &[u8; 32] = b"tollgate key rule digest     v1 ";
const RULE_CHECK_SEED: u64 = u64::from_le_bytes(*b"rules v2");

/// The body of a call, digested twice: the canonical form of a JSON body, or what a
/// [`Share`](crate::share::Share) made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BodyDigest {
    first: [u8; 32],
    second: [u8; 16],
    len: u64,
}

/// Whose answers a caller may be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    Tenant(&'a str),
    /// Users are names inside a tenant.
    User {
        tenant: &'a str,
        user: &'a str,
    },
    /// Everybody; the operator said so.
    Shared,
}

/// One line of a field of the request's head, and what it is called in the key. A field that was
/// sent twice has two, in the order in which they came; an absent one (which is not the empty value)
/// has none.
pub type Line<'a> = (&'a str, &'a [u8]);

/// Everything that a key binds.
#[derive(Clone, Copy, Debug)]
pub struct KeyParts<'a> {
    pub namespace: &'a str,
    pub upstream: &'a str,
    pub method: &'a str,
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub model: &'a str,
    pub model_version: &'a str,
    /// Named versions and included headers of the route, in configured order.
    pub versions: &'a [Line<'a>],
    pub scope: Scope<'a>,
    /// Of the request headers that change an answer.
    pub headers: &'a [Line<'a>],
    pub body: &'a BodyDigest,
}

/// What the keys of one call have in common: all that they bind but the model's version and the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stem {
    first: [u8; 32],
    second: [u8; 16],
}

/// Identifies a cached answer. Equal keys, interchangeable answers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey([u8; 32]);

/// What an entry is compared with on a hit, in case two questions ever share a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Check {
    /// Length of the canonical form in bytes.
    pub len: u64,
    /// Of another function than the key.
    pub digest128: [u8; 16],
}

impl BodyDigest {
    /// Of a canonical form, or of raw bytes.
    pub fn of(form: &[u8]) -> Self {
        Self { first: *blake3::hash(form).as_bytes(), second: check_of(form), len: len_u64(form) }
    }

    /// Of a form and the text of the rule that made it: other rules, other digests. The rule
    /// stands behind the form, where it does not misalign it.
    pub fn under(rule: &[u8], form: &[u8]) -> Self {
        let rule_len = len_u64(rule).to_le_bytes();
        let mut first = blake3::Hasher::new_keyed(RULE_KEY);
        first.update(form).update(rule).update(&rule_len);
        let mut second = Xxh3::with_seed(RULE_CHECK_SEED);
        [form, rule, &rule_len].into_iter().for_each(|part| second.update(part));
        Self {
            first: *first.finalize().as_bytes(),
            second: second.digest128().to_le_bytes(),
            len: len_u64(form),
        }
    }

    /// 64 hexadecimal digits: the BLAKE3 of the form, as `explain` prints it.
    pub fn to_hex(&self) -> String {
        blake3::Hash::from_bytes(self.first).to_hex().to_string()
    }

    /// The first of the two digests.
    pub fn first(&self) -> &[u8; 32] {
        &self.first
    }

    /// Length of the form in bytes.
    pub fn form_len(&self) -> u64 {
        self.len
    }
}

impl KeyParts<'_> {
    /// The key and its check.
    pub fn key(&self) -> (CacheKey, Check) {
        self.stem().key(self.model_version, self.body)
    }

    /// Of everything but the model's version and the body.
    pub fn stem(&self) -> Stem {
        let buffer = self.write();
        Stem { first: *blake3::hash(&buffer).as_bytes(), second: check_of(&buffer) }
    }

    fn write(&self) -> SmallVec<[u8; 1024]> {
        let mut fields = Fields(SmallVec::new());
        fields.push(SCHEME);
        for field in [self.namespace, self.upstream, self.method, self.path] {
            fields.push(field.as_bytes());
        }
        fields.push_option(self.query.map(str::as_bytes));
        fields.push(self.model.as_bytes());
        fields.push_lines(self.versions);
        match self.scope {
            Scope::Tenant(tenant) => {
                fields.push(b"tenant");
                fields.push(tenant.as_bytes());
            }
            Scope::User { tenant, user } => {
                fields.push(b"user");
                fields.push(tenant.as_bytes());
                fields.push(user.as_bytes());
            }
            Scope::Shared => fields.push(b"shared"),
        }
        fields.push_lines(self.headers);
        fields.0
    }
}

impl Stem {
    /// The key and its check of a call with this body, under this version of the model.
    pub fn key(&self, model_version: &str, body: &BodyDigest) -> (CacheKey, Check) {
        // All but the last are of fixed length.
        let mut buffer = SmallVec::<[u8; 192]>::new();
        for field in [&self.first[..], &self.second, &body.first, &body.second] {
            buffer.extend_from_slice(field);
        }
        buffer.extend_from_slice(&body.len.to_le_bytes());
        buffer.extend_from_slice(model_version.as_bytes());
        let key = CacheKey(*blake3::hash(&buffer).as_bytes());
        (key, Check { len: body.len, digest128: check_of(&buffer) })
    }
}

fn check_of(bytes: &[u8]) -> [u8; 16] {
    xxh3_128_with_seed(bytes, CHECK_SEED).to_le_bytes()
}

impl CacheKey {
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 hexadecimal digits, as `explain` prints and `purge --key` takes.
    pub fn to_hex(self) -> String {
        blake3::Hash::from_bytes(self.0).to_hex().to_string()
    }

    /// `None` unless these are 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(|hash| Self(*hash.as_bytes()))
    }

    /// Of a call that asks for nothing that another could ask for; `record` is its own.
    pub fn of_record(record: &[u8]) -> Self {
        Self(*blake3::hash(record).as_bytes())
    }

    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = self.to_hex();
        f.write_str(hex.get(..12).unwrap_or_default())
    }
}

/// Length-prefixed fields, nearly always within the array and one BLAKE3 chunk.
struct Fields(SmallVec<[u8; 1024]>);

impl Fields {
    fn push(&mut self, field: &[u8]) {
        self.push_number(len_u64(field));
        self.0.extend_from_slice(field);
    }

    /// Seven bits a byte, the last without the top one (LEB128): no number begins another, and a
    /// length is nearly always one byte of what is hashed.
    fn push_number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.0.push(number.to_le_bytes()[0]);
    }

    /// How many there are comes first: absent is not empty.
    fn push_option(&mut self, field: Option<&[u8]>) {
        self.push_number(field.is_some().into());
        field.into_iter().for_each(|field| self.push(field));
    }

    /// How many there are, and each with its name: two lines are never one that reads alike.
    fn push_lines(&mut self, lines: &[Line<'_>]) {
        self.push_number(u64::try_from(lines.len()).unwrap_or(u64::MAX));
        for (name, value) in lines {
            self.push(name.as_bytes());
            self.push(value);
        }
    }
}

/// A length as it stands before what is hashed.
pub fn len_u64(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BODY: BodyDigest = BodyDigest { first: [1; 32], second: [2; 16], len: 3 };

    fn parts() -> KeyParts<'static> {
        KeyParts {
            namespace: "prod",
            upstream: "model",
            method: "POST",
            path: "/v1/chat/completions",
            query: None,
            model: "m",
            model_version: "",
            versions: &[],
            scope: Scope::Tenant("acme"),
            headers: &[],
            body: &BODY,
        }
    }

    #[test]
    fn every_part_makes_another_key_and_another_check() {
        let other = BodyDigest::of(b"{}");
        let headers = |headers: &'static [Line<'static>]| KeyParts { headers, ..parts() };
        let variants = [
            parts(),
            KeyParts { namespace: "dev", ..parts() },
            KeyParts { upstream: "model2", ..parts() },
            KeyParts { method: "QUERY", ..parts() },
            KeyParts { path: "/v1/completions", ..parts() },
            KeyParts { query: Some(""), ..parts() },
            KeyParts { query: Some("a=1"), ..parts() },
            KeyParts { model: "m2", ..parts() },
            KeyParts { model_version: "2", ..parts() },
            KeyParts { model: "", model_version: "m", ..parts() },
            KeyParts { versions: &[("kb", b"1")], ..parts() },
            KeyParts { versions: &[("kb", b"2")], ..parts() },
            KeyParts { versions: &[("k", b"b1")], ..parts() },
            KeyParts { scope: Scope::Tenant("acme2"), ..parts() },
            KeyParts { scope: Scope::User { tenant: "acme", user: "" }, ..parts() },
            KeyParts { scope: Scope::User { tenant: "acme", user: "u" }, ..parts() },
            KeyParts { scope: Scope::User { tenant: "acmeu", user: "" }, ..parts() },
            KeyParts { scope: Scope::Shared, ..parts() },
            KeyParts { body: &other, ..parts() },
            KeyParts { versions: &[("kb", b"")], ..parts() },
            KeyParts { versions: &[("kb", b"1"), ("kb", b"2")], ..parts() },
            KeyParts { versions: &[("kb", b"2"), ("kb", b"1")], ..parts() },
            KeyParts { versions: &[("kb", b"1, 2")], ..parts() },
            headers(&[("anthropic-beta", b"x")]),
            headers(&[("openai-beta", b"x")]),
            headers(&[("content-encoding", b"x")]),
            headers(&[("content-encoding", b"")]),
            headers(&[("openai-beta", b"x"), ("openai-beta", b"y")]),
            headers(&[("openai-beta", b"y"), ("openai-beta", b"x")]),
            headers(&[("openai-beta", b"x, y")]),
            headers(&[("openai-beta", b"x"), ("content-encoding", b"y")]),
        ];
        let keys: Vec<_> = variants.iter().map(KeyParts::key).collect();
        for (place, one) in keys.iter().enumerate() {
            for other in &keys[place + 1..] {
                assert_ne!(one.0, other.0, "variant {place}");
                assert_ne!(one.1.digest128, other.1.digest128, "variant {place}");
            }
        }
        assert_eq!(keys[0], parts().key(), "a key is a function of its parts");
    }

    #[test]
    fn a_stem_gives_the_keys_of_all_its_versions_and_bodies() {
        let stem = parts().stem();
        let other = BodyDigest::of(b"{}");
        for (model_version, body) in [("", &BODY), ("2", &BODY), ("", &other), ("2", &other)] {
            let whole = KeyParts { model_version, body, ..parts() };
            assert_eq!(stem.key(model_version, body), whole.key());
        }
    }

    #[test]
    fn a_long_field_is_told_from_one_that_repeats_its_length() {
        let path = |len: usize| KeyParts { path: &"x".repeat(len), ..parts() }.key();
        assert_ne!(path(300), path(299));
        assert_ne!(path(172), path(44));
    }

    #[test]
    fn a_key_survives_its_hexadecimal_form() {
        let (key, _) = parts().key();
        assert_eq!(CacheKey::from_hex(&key.to_hex()), Some(key));
        assert_eq!(CacheKey::from_hex("12"), None);
    }

    proptest! {
        #[test]
        fn bytes_do_not_wander_between_fields(cut in 0..=6_usize, other in 0..=6_usize) {
            let text = "abcdef";
            let split = |cut: usize| {
                let (upstream, model) = text.split_at(cut);
                KeyParts { upstream, method: "", path: "", model: "", model_version: model, ..parts() }.key()
            };
            prop_assert_eq!(split(cut) == split(other), cut == other);
        }
    }
}
