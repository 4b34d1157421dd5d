//! The first batch in the URL of a handshake.

use crate::violation::Rule;
use crate::{HANDSHAKE_PARAMETER, Violation};

/// Finds the first batch in a query (§3). Neither names nor values are percent-decoded: the alphabet of base64url needs none.
pub(super) fn first_batch(query: &str) -> Result<Option<&str>, Violation> {
    let parameters = query.split('&').filter_map(|parameter| parameter.split_once('='));
    let mut batches = parameters.filter(|(name, _)| *name == HANDSHAKE_PARAMETER).map(|(_, value)| value);
    match (batches.next(), batches.next()) {
        (first, None) => Ok(first),
        // Which one an intermediary or a page meant cannot be known.
        (_, Some(_)) => Err(Rule::HandshakeTwice.broken()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::varint::tests::vectors;
    #[cfg(target_arch = "wasm32")]
    use wasm_bindgen_test::wasm_bindgen_test as test;

    #[test]
    fn first_batches_are_those_of_the_vectors() {
        for vector in vectors("queries") {
            let query = vector["query"].as_str().expect("a query");
            match first_batch(query) {
                Ok(found) => assert_eq!(serde_json::json!(found), vector["value"], "{query}"),
                Err(violation) => {
                    assert_eq!((vector["value"].as_bool(), violation.code()), (Some(false), 1002), "{query}");
                }
            }
        }
    }
}
