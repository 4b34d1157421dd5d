//! The TypeScript module with the types of a site's functions.

use std::collections::BTreeMap;

use futures_util::stream;
use manysocket_server::Site;
use manysocket_server::rpc::{Caller, Error, Streamed, rpc, typed};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// A place on the map.
#[derive(Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
struct Position {
    in_metres: (f64, f64),
    name: Option<String>,
}

#[derive(Serialize, Deserialize, TS)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Command {
    Stop,
    Drive { to: Position, trail: Vec<Position> },
}

#[derive(Serialize, TS)]
struct Page<T> {
    items: Vec<T>,
    next: Option<u64>,
}

#[derive(Serialize, Deserialize, TS)]
struct Chain {
    next: Option<Box<Chain>>,
}

async fn obey(_caller: Caller, command: Command, times: u64) -> Result<Position, Error> {
    match command {
        Command::Drive { to, .. } if times > 0 => Ok(to),
        _ => Err(Error::new("stop", "it stands")),
    }
}

async fn find(_text: String, _near: Option<Position>) -> Page<Position> {
    Page { items: Vec::new(), next: None }
}

type Positions = stream::Iter<std::vec::IntoIter<Result<Position, Error>>>;

async fn track(_every: f32) -> Result<Streamed<Positions>, Error> {
    Ok(Streamed(stream::iter(Vec::new())))
}

async fn count(to: u8) -> Streamed<stream::Iter<std::ops::Range<u8>>> {
    Streamed(stream::iter(0..to))
}

async fn totals(of: BTreeMap<String, u128>) -> BTreeMap<String, u128> {
    of
}

async fn reverse(chain: Chain) -> std::io::Result<Chain> {
    Ok(chain)
}

async fn nothing() {}

#[test]
fn a_module_has_the_functions_and_the_types_that_they_use() {
    let tanks: Site = Site::new()
        .endpoint("/obey", typed(obey).arguments(["command", "times"]).run_to_completion().endpoint())
        .endpoint("/track", typed(track).arguments(["every"]).endpoint());
    let site = Site::new()
        .endpoint("/find", typed(find).arguments(["text"]).endpoint())
        .endpoint("/find/nothing", typed(nothing).endpoint())
        .endpoint("/untyped", rpc(async |degrees: f64| degrees).endpoint())
        .nest("/tanks/{tank}", tanks);
    let others = Site::new()
        .endpoint("/count", typed(count).endpoint())
        .endpoint("/user-totals", typed(totals).endpoint())
        .endpoint("/chain", typed(reverse).endpoint());
    let site = site.merge(others).expect("no conflict").with_state::<()>(());
    let expected = r#"// The functions of the server. manysocket-server has written this file: changes get lost.

export interface Functions {
  chain(argument1: Chain): Chain;
  count(argument1: number): AsyncIterable<number>;
  find: {
    (text: string, argument2: Position | null): Page<Position>;
    nothing(): null;
  };
  tanks: {
    "{tank}": {
      obey(command: Command, times: number): Position;
      track(every: number): AsyncIterable<Position>;
    };
  };
  untyped(...args: any[]): any;
  "user-totals"(argument1: { [key in string]: number }): { [key in string]: number };
}

export type Chain = { next: Chain | null, };

export type Command = { "kind": "stop" } | { "kind": "drive", to: Position, trail: Array<Position>, };

export type Page<T> = { items: Array<T>, next: number | null, };

/**
 * A place on the map.
 */
export type Position = { inMetres: [number, number], name: string | null, };
"#;
    assert_eq!(site.typescript().expect("no conflict"), expected);
}

mod other {
    use super::{Deserialize, Serialize, TS};

    #[derive(Serialize, Deserialize, TS)]
    pub(super) struct Position(f64, f64);

    #[derive(Serialize, Deserialize, TS)]
    pub(super) struct Functions {
        open: bool,
    }
}

#[test]
fn types_of_one_name_are_refused() {
    let both = async |_position: Position, _other: other::Position| ();
    let one: Site = Site::new().endpoint("/both", typed(both).endpoint());
    let one_each: Site = Site::new()
        .endpoint("/find", typed(find).endpoint())
        .endpoint("/a/b", typed(async |_position: other::Position| ()).endpoint());
    for site in [one, one_each] {
        let conflict = site.typescript().expect_err("two positions");
        assert_eq!(conflict.name(), "Position");
        assert!(conflict.to_string().contains("two types are named Position"), "{conflict}");
    }
    let site: Site = Site::new().endpoint("/f", typed(async |_is_open: other::Functions| ()).endpoint());
    assert_eq!(site.typescript().expect_err("it is the interface's name").name(), "Functions");
}

#[test]
fn functions_without_types_accept_everything() {
    let site: Site = Site::new().endpoint("/add", rpc(async |a: f64, b: f64| a + b).endpoint());
    assert!(site.typescript().expect("no conflict").contains("  add(...args: any[]): any;\n"));
    assert!(
        Site::<()>::new().typescript().expect("no conflict").contains("export interface Functions {\n}\n")
    );
}
