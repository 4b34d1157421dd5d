//! Checks rules that hold for any calls that pages send (see `crate::fuzzing`).

use axum::extract::ws::Utf8Bytes;
use futures_util::FutureExt;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::arguments::{Peer, SMALL};
use super::call::{Answered, answer, erase};
use super::caller::Caller;

/// A call, or another text.
pub fn calls(input: &[u8]) {
    // Larger ones are read by another thread.
    let text = String::from_utf8_lossy(&input[..input.len().min(SMALL / 4)]);
    let call = erase(async |left: f64, words: Vec<String>, last: Option<bool>| {
        let words = words.concat();
        format!("{left} {words} {last:?}")
    });
    let (names, peer) = (["left".to_owned(), "words".to_owned()].into(), Peer::new(0, None));
    let (caller, alive) = (Caller::unknown(), CancellationToken::new());
    let answered = answer(&call, &names, &peer, &caller, "/function", Utf8Bytes::from(&*text), &alive);
    let answered = answered.now_or_never().expect("a small call waits for nothing");
    let Answered::Text(answered) = answered else { panic!("the function has one result") };
    let answered: Value = serde_json::from_str(&answered).expect("JSON");
    let members: Vec<_> = answered.as_object().expect("an object").iter().collect();
    let [(kind, said)] = members[..] else { panic!("either a result or an error: {answered}") };
    // The arguments as a JSON reader parses them that knows their types.
    let text = crate::surrogates::well_formed(&text);
    match serde_json::from_str::<(f64, Vec<String>, Option<bool>)>(&text) {
        Ok((left, words, last)) => {
            assert_eq!(
                (kind.as_str(), said),
                ("result", &format!("{left} {} {last:?}", words.concat()).into())
            );
        }
        Err(_) => {
            assert_eq!(kind, "error", "{answered}");
            let code = said["code"].as_str();
            assert!(matches!(code, Some("call" | "argument")) && said["message"].is_string(), "{answered}");
        }
    }
}
