//! The query as a key has it, with what there is of credentials in it.

use crate::{identity::Caller, route::Route};
use std::borrow::Cow;
use tollgate_config::Scope as ScopeRule;
use tollgate_core::dialect::Operation;

/// The query as a key has it. A credential in it is left out where it is what the tenant was made
/// of, or where the operator says who tenants are; else it stands there as a digest.
pub(super) fn key_query<'a>(
    operation: Operation,
    query: Option<&'a str>,
    rule: ScopeRule,
    caller: &Caller,
) -> Option<Cow<'a, str>> {
    let asked = operation.key_query(query);
    let is_tenant = |credential: &str| {
        let says_nothing = credential.is_empty() || rule == ScopeRule::Shared;
        says_nothing || caller.tenant_configured || caller.tenant.is_of_key(credential.as_bytes())
    };
    if operation.query_credentials(query).all(is_tenant) {
        return asked;
    }
    let mut digest = blake3::Hasher::new_derive_key("tollgate 2026-11 credentials in a query");
    for credential in operation.query_credentials(query) {
        digest.update(credential.as_bytes()).update(b"&");
    }
    let digest = digest.finalize().to_hex();
    let digest = digest.get(..32).unwrap_or_default();
    Some(Cow::Owned(format!("{}&key={digest}", asked.unwrap_or_default())))
}

/// Why a call is not kept where only what is keyed may go on: its query has a credential that no key
/// of such a call tells apart.
pub(super) fn unkeyed(
    (route, operation): (&Route, Operation),
    query: Option<&str>,
    rule: ScopeRule,
    caller: &Caller,
) -> Option<&'static str> {
    let is_left_out = rule == ScopeRule::Shared || caller.tenant_configured;
    let mut credentials = operation.query_credentials(query);
    (route.keyed_only.is_some() && credentials.any(|one| is_left_out || one.is_empty()))
        .then_some("credential")
}
