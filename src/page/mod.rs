//! The client of a page: links and the sockets over them, on `manysocket_protocol::client`.
//!
//! Texts and buffers stay in JavaScript: Rust holds handles of them, and copies none into wasm's memory but the parts of a
//! batch. `js/` has the parts that only JavaScript can do: the objects that a page sees, events, and UTF-8.

mod exports;
mod faces;
mod glue;
mod link;
mod payload;
mod table;

pub use exports::*;

// Half the size of the default allocator, whose thread support a page has no use for (KB gzip: 9.0
// against 11.8 for classes of this size).
#[global_allocator]
static ALLOCATOR: rlsf::SmallGlobalTlsf = rlsf::SmallGlobalTlsf::new();
