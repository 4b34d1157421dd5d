//! The classes that a page constructs, exported from the module: `js/` implements them, on the rules of `src/page/`.
//!
//! A class of wasm-bindgen cannot extend `EventTarget`, which a native `WebSocket` does. So the module exports the classes of
//! JavaScript themselves, and `instanceof`, prototypes and events are as natively.

use wasm_bindgen::prelude::*;

/// Exports a class that a file of `js/` defines. To wasm-bindgen it is a function, since it exports types of imported classes as
/// `unknown`; the types are [`TYPES`].
macro_rules! export {
    ($($path:literal $class:literal $name:ident)*) => {
        $(#[wasm_bindgen(module = $path)]
        extern "C" {
            #[wasm_bindgen(js_name = $class, reexport = $class, skip_typescript)]
            fn $name();
        })*
    };
}

export! {
    "/js/multiwebsocket.js" "MultiWebSocket" multi_web_socket
    "/js/json.js" "JsonWebSocket" json_web_socket
    "/js/relative.js" "RelativeWebSocket" relative_web_socket
}

/// Makes wasm-bindgen copy a file of `js/` that others import: it copies those that Rust names, and does not read them.
macro_rules! ship {
    ($($path:literal)*) => {
        $(const _: () = {
            #[wasm_bindgen(module = $path)]
            extern "C" {
                type File;
            }
        };)*
    };
}

ship! {
    "/js/channel.js"
    "/js/cookies.js"
    "/js/default.js"
    "/js/direct.js"
    "/js/events.js"
    "/js/http/frames.js"
    "/js/http/seek.js"
    "/js/http/socket.js"
    "/js/inspect.js"
    "/js/inspect/decode.js"
    "/js/later.js"
    "/js/link.js"
    "/js/reconnecting.js"
    "/js/renewal.js"
    "/js/rpc.js"
    "/js/rpc/connection.js"
    "/js/rpc/error.js"
    "/js/rpc/stream.js"
    "/js/signs.js"
    "/js/state.js"
    "/js/state/align.js"
    "/js/state/diff.js"
    "/js/state/merge.js"
    "/js/state/page.js"
    "/js/state/patch.js"
    "/js/state/replica.js"
    "/js/state/tree.js"
    "/js/state/withheld.js"
    "/js/timers.js"
    "/js/topic.js"
    "/js/waiting.js"
    "/js/websocket.js"
}

/// The types of the classes.
#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = include_str!("../../pkg-template/index.d.ts");
