//! RFC 9111, section by section, through the whole proxy: what a shared cache must do, must not
//! do, and what the best of them do besides.
//!
//! The table is data; [`run`] drives it through the proxy, [`model`] through the policy alone. Where the RFC leaves a choice, the case is what
//! Tollgate promises.

mod case;
mod run;
mod model;
mod age;
mod directives;
mod expires;
mod fields;
mod freshness;
mod invalidation;
mod partial;
mod request;
mod stale;
mod status;
mod targeted;
mod update;
mod validation;
mod vary;

#[tokio::test]
async fn the_table_of_rfc_9111_holds() {
    let table = table();
    assert!(table.len() >= 250, "{} cases", table.len());
    run::check(&table).await;
}

fn table() -> Vec<case::Case> {
    [
        freshness::CASES,
        age::CASES,
        expires::CASES,
        directives::CASES,
        request::CASES,
        status::CASES,
        vary::CASES,
        validation::CASES,
        update::CASES,
        stale::CASES,
        targeted::CASES,
        partial::CASES,
        invalidation::CASES,
        fields::CASES,
    ]
    .concat()
}
