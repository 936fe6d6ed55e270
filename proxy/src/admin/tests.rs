//! What the admin address promises, asked in process.

use super::*;
use std::collections::BTreeSet;

#[test]
fn the_document_describes_exactly_the_endpoints_there_are() {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let described = paths.iter().flat_map(|(path, methods)| {
        methods.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
    });
    let served =
        ENDPOINTS.iter().map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned()));
    assert_eq!(described.collect::<BTreeSet<_>>(), served.collect::<BTreeSet<_>>());
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
}
