//! Whether an answer depends on more of a request than its key binds: what a service says by `vary`
//! (RFC 9110 §12.5.5) of an answer that is keyed by what was asked.
//!
//! Such an answer is its caller's alone. It is neither kept nor given to who waited for it, so that
//! no field outside the key decides what another caller is given.

use super::question::Question;
use http::{HeaderMap, HeaderName, header};
use tollgate_core::dialect::Operation;

/// What they decide is not kept: the spelling, which is the same for all, and the fields of CORS.
const NEVER_KEPT: [&str; 4] = [
    "accept-encoding",
    "origin",
    "access-control-request-method",
    "access-control-request-headers",
];

/// Google's services say these of every answer, and mean CORS.
const SAID_BY_PROVIDERS: [&str; 2] = ["x-origin", "referer"];

impl Question {
    /// The key binds whatever the answer with these headers says it depends on.
    pub(crate) fn binds_all(&self, headers: &HeaderMap) -> bool {
        let lines = headers.get_all(header::VARY).into_iter();
        let named = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
        named
            .map(<[u8]>::trim_ascii)
            .filter(|name| !name.is_empty())
            .all(|name| self.tells_apart(name))
    }

    fn tells_apart(&self, name: &[u8]) -> bool {
        // `*`, and what is no name of a field, can be bound by nothing.
        let Ok(name) = HeaderName::from_bytes(name) else { return false };
        let is_of = |names: &[&str]| names.contains(&name.as_str());
        is_of(&NEVER_KEPT)
            || (self.operation != Operation::Other && is_of(&SAID_BY_PROVIDERS))
            || (!self.is_for_all() && self.credentials.contains(&name))
            || self.binds().has(&name)
            || self.route.key.headers().any(|bound| *bound == name)
    }
}
