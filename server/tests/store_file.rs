//! The file of a store: damage, backups, and an orderly close.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::Kind;
use common::binary::Binary;
use common::document::{Page, set};
use manysocket_server::Site;
use manysocket_server::state::{Documents, Report, Store, StoreFile};
use redb::{Database, TableDefinition};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

/// Where redb says whether the file was closed in order, and the bit that says it was not.
const STATE_BYTE: usize = 9;
const IS_OPEN: u8 = 2;

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("state.redb");
    (folder, file)
}

/// A text that is found again in the file.
fn text(name: &str) -> String {
    format!("the text of {name} ").repeat(20)
}

fn line(name: &str, data: &Value) -> String {
    json!({"collection": "demo", "name": name, "version": 7, "data": data}).to_string() + "\n"
}

/// A store with a document of each name.
fn fill(file: &Path, names: &[&str]) {
    let lines: String = names.iter().map(|name| line(name, &json!({"text": text(name)}))).collect();
    let mut store = StoreFile::create(file).expect("a file");
    assert_eq!(store.import(Cursor::new(lines), false).expect("imported"), names.len());
}

/// The documents of an export by their names.
fn read(lines: &[u8]) -> BTreeMap<String, Value> {
    let lines = std::str::from_utf8(lines).expect("UTF-8").lines();
    let values = lines.map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    values.map(|value| (value["name"].as_str().expect("a name").to_owned(), value)).collect()
}

fn export(file: &Path) -> std::io::Result<(BTreeMap<String, Value>, Report)> {
    let mut lines = Vec::new();
    let report = StoreFile::open(file)?.export(&mut lines)?;
    Ok((read(&lines), report))
}

/// Flips the lowest bit of the first letter of all copies of a text.
fn damage(file: &Path, text: &str) {
    let mut bytes = fs::read(file).expect("the file");
    let places: Vec<usize> =
        (0..bytes.len() - text.len()).filter(|at| bytes[*at..].starts_with(text.as_bytes())).collect();
    assert!(!places.is_empty(), "no {text:?}");
    for at in places {
        bytes[at] ^= 1;
    }
    fs::write(file, bytes).expect("room");
}

async fn tool(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_manysocket-server"));
    command.arg("store").args(arguments).output().await.expect("the binary")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_damaged_document_is_named_and_all_others_are_served() {
    for is_killed in [false, true] {
        let (folder, file) = folder();
        fill(&file, &["a", "b", "c"]);
        let data = folder.path().to_str().expect("UTF-8");
        // One in a snapshot, and one in a commit after it.
        let mut binary = Binary::start(&["--data", data], &[]).await;
        let mut page = Page::open(Kind::Virtual, &binary.server, "/demo/state/b").await;
        assert_eq!(page.whole().await.2["text"], text("b"));
        page.commit("first", 7, &set("/more", "words of a commit")).await;
        assert_eq!(page.receive().await, json!({"id": "first", "version": 8}));
        match is_killed {
            true => binary.signal("KILL").await,
            false => binary.signal("TERM").await,
        }
        assert_eq!(binary.ended().await, !is_killed);
        let state = fs::read(&file).expect("the file")[STATE_BYTE];
        assert_eq!(state & IS_OPEN != 0, is_killed, "SIGTERM closes the file in order");
        damage(&file, &text("a"));
        damage(&file, "words of a commit");

        let mut binary = Binary::start(&["--data", data], &[]).await;
        for (name, problem) in [("a", "snapshot"), ("b", "commit of version 8")] {
            for kind in common::KINDS {
                let path = format!("/demo/state/{name}");
                let refused = common::Socket::open(kind, &binary.server, &path, "", "").await;
                assert_eq!(refused.err(), Some(503), "{name}");
            }
            let logged = binary.logged("cannot read a document").await;
            assert!(logged.contains(&format!("name=\"{name}\"")) && logged.contains(problem), "{logged}");
            binary.logged(&format!("name=\"{name}\"")).await;
        }
        for name in ["c", "new"] {
            let mut page = Page::open(Kind::Native, &binary.server, &format!("/demo/state/{name}")).await;
            let (_, version, _) = page.whole().await;
            page.commit("x", version, &set("/x", 1)).await;
            assert_eq!(page.receive().await, json!({"id": "x", "version": version + 1}), "{name}");
        }
        // Beside a server that has it open, and without.
        for is_running in [true, false] {
            if !is_running {
                binary.signal("TERM").await;
                assert!(binary.ended().await);
                let checked = tool(&["check", data]).await;
                assert_eq!(checked.status.code(), Some(3), "{}", said(&checked));
                assert!(
                    said(&checked).contains("damaged: \"a\" in the collection \"demo\""),
                    "{}",
                    said(&checked)
                );
            }
            let exported = tool(&["export", data]).await;
            assert_eq!(exported.status.code(), Some(3), "{}", said(&exported));
            assert!(said(&exported).contains("4 documents exported, 2 damaged"), "{}", said(&exported));
            let documents = read(&exported.stdout);
            assert_eq!(documents["c"]["data"], json!({"text": text("c"), "x": 1}));
            assert!(documents["c"].get("damaged").is_none());
            // As much as can be read, and marked.
            assert_eq!(
                (&documents["b"]["version"], &documents["b"]["data"]),
                (&json!(7), &json!({"text": text("b")}))
            );
            assert!(documents["b"]["damaged"].is_string());
            assert!(documents["a"]["data"]["text"].as_str().expect("text").contains("text of a"));
            assert!(documents["a"]["damaged"].is_string());
        }
    }
}

#[tokio::test]
async fn what_is_no_store_is_refused_with_what_to_do() {
    let (_made, made) = folder();
    fill(&made, &["a", "b"]);
    let whole = fs::read(&made).expect("the file");
    let mut contents = vec![Vec::new(), b"{}".to_vec(), vec![0; 100_000], b"SQLite format 3\0".repeat(1000)];
    contents
        .extend([1, 9, 320, 4096, whole.len() / 2, whole.len() - 1].map(|length| whole[..length].to_vec()));
    for content in contents {
        let (folder, file) = folder();
        fs::write(&file, &content).expect("room");
        let data = folder.path().to_str().expect("UTF-8");
        let mut command = Command::new(env!("CARGO_BIN_EXE_manysocket-server"));
        let started = command.args(["--listen", "127.0.0.1:0", "--data", data]).kill_on_drop(true).output();
        let started = started.await.expect("an end");
        let said = said(&started);
        let length = content.len();
        assert!(!started.status.success(), "{length} bytes: {said}");
        assert!(said.contains("state.redb") && said.contains("docs/backup.md"), "{length} bytes: {said}");
        assert_eq!(fs::read(&file).expect("the file"), content, "it is as it was");
        let checked = tool(&["check", data]).await;
        assert_eq!(checked.status.code(), Some(1), "{length} bytes");
    }
    let (folder, _) = folder();
    let checked = tool(&["check", folder.path().to_str().expect("UTF-8")]).await;
    assert_eq!(checked.status.code(), Some(1), "there is none to check");
}

/// Bits all over the file, one at a time: a document is as it was, or is reported, and nothing ends the program.
#[test]
fn no_flipped_bit_goes_unnoticed() {
    /// Not a multiple of bytes or pages.
    const STEP: usize = 6007;
    let names: Vec<String> = (0..30).map(|n| format!("n{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (_folder, file) = folder();
    fill(&file, &names);
    let whole = fs::read(&file).expect("the file");
    let expected = export(&file).expect("a store").0;
    let (mut refused, mut damaged) = (0, 0);
    for bit in (0..whole.len() * 8).step_by(STEP) {
        let (_folder, file) = folder();
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&file, &bytes).expect("room");
        match export(&file) {
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("damaged"), "bit {bit}: {error}");
                assert!(fs::read(&file).expect("the file") == bytes, "bit {bit}: the file is as it was");
            }
            Ok((found, report)) => {
                damaged += usize::from(!report.damaged.is_empty());
                for name in &names {
                    let is_same = found.get(*name) == expected.get(*name);
                    let is_reported = report.damaged.iter().any(|damage| damage.name == *name);
                    assert!(is_same || is_reported, "bit {bit}: {name} is {:?}", found.get(*name));
                }
            }
        }
    }
    println!("{refused} refused, {damaged} with damaged documents, of {}", whole.len() * 8 / STEP);
}

#[tokio::test]
async fn a_backup_beside_a_running_server_is_restored_elsewhere() {
    let (folder, _) = folder();
    let data = folder.path().to_str().expect("UTF-8");
    let binary = Binary::start(&["--data", data], &[]).await;
    let numbers = r#"[0.9999999999999999,9007199254740993,18446744073709551615,1.0]"#;
    let mut page = Page::open(Kind::Virtual, &binary.server, "/demo/state/a%20b").await;
    let id = page.whole().await.0;
    page.commit(
        "x",
        0,
        &set("/numbers", json!([0.9999999999999999, 9_007_199_254_740_993_u64, u64::MAX, 1.0])),
    )
    .await;
    page.receive().await;
    let backup = folder.path().join("backup.jsonl");
    let file = backup.to_str().expect("UTF-8");
    let saved = tool(&["backup", data, file]).await;
    assert!(saved.status.success(), "{}", said(&saved));
    assert_eq!(fs::metadata(folder.path().join("state.sock")).map(|it| mode(&it)).ok(), Some(0o600));
    // Later commits are not in it.
    page.commit("y", 1, &set("/later", 1)).await;
    page.receive().await;
    for busy in [["check", data].as_slice(), &["import", data, file]] {
        let refused = tool(busy).await;
        assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
        assert!(said(&refused).contains("one process at a time"), "{}", said(&refused));
    }

    let (other, _) = self::folder();
    let data = other.path().to_str().expect("UTF-8");
    let restored = tool(&["import", data, file]).await;
    assert!(restored.status.success(), "{}", said(&restored));
    let again = tool(&["import", data, file]).await;
    assert_eq!(again.status.code(), Some(1));
    assert!(
        said(&again).contains("1 documents in the store already") && said(&again).contains("--overwrite")
    );
    let third = tool(&["import", data, file, "--overwrite"]).await;
    assert!(third.status.success(), "{}", said(&third));
    let binary = Binary::start(&["--data", data], &[]).await;
    // A page that knows the earlier document gets this one as a whole.
    let path = format!("/demo/state/a%20b?document={id}&since=1");
    let (new, version, document) = Page::open(Kind::Virtual, &binary.server, &path).await.whole().await;
    assert!(new != id && version == 1, "{new} {version}");
    assert_eq!(document["numbers"].to_string(), numbers);
}

#[cfg(unix)]
fn mode(file: &fs::Metadata) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    file.permissions().mode() & 0o777
}

#[test]
fn an_import_is_all_or_nothing() {
    let (_folder, file) = folder();
    let good = line("a", &json!(1));
    for (bad, reason) in [
        ("{}", "line 2: missing field"),
        ("[\"demo\",\"b\",1,null,{}]", "line 2: invalid type: sequence"),
        (r#"{"collection":"demo","name":"b","data":{}"#, "line 2: EOF"),
        (r#"{"collection":"demo","name":"","data":{}}"#, "line 2: a name has 1 to 255 bytes"),
        (r#"{"collection":"demo","name":"b","version":0,"data":{}}"#, "versions begin with 1"),
        (r#"{"collection":"demo","name":"b","data":1e999}"#, "line 2: number out of range"),
        (r#"{"collection":"demo","name":"b","data":{},"damaged":"half of it"}"#, "half of it"),
        (r#"{"collection":"demo","name":"b","data":{},"extra":1}"#, "unknown field"),
    ] {
        let lines = Cursor::new(format!("{good}{bad}\n"));
        let error = StoreFile::create(&file).expect("a file").import(lines, false).expect_err("a bad line");
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(StoreFile::open(&file).expect("a file").documents().expect("a count"), 0);
    }
    // Without a version, as another program may write it.
    let lines = r#"{"collection":"x","name":"y","data":12345678901234567890123}"#;
    assert_eq!(
        StoreFile::create(&file).expect("a file").import(Cursor::new(lines), false).expect("imported"),
        1
    );
    assert_eq!(export(&file).expect("a store").0["y"]["version"], 1);
}

/// A page of the table of commits that redb cannot read takes no document along: its snapshot is saved.
#[tokio::test]
async fn a_damaged_page_of_commits_leaves_the_snapshots() {
    /// redb's, and a byte in which a page says where its first key ends: then far behind the page.
    const PAGE: usize = 4096;
    const END: usize = 6;
    let (_folder, file) = folder();
    let store = Store::open(&file).expect("a store");
    let site = Site::new().endpoint("/state/{name}", Documents::new(&store, "demo").endpoint());
    let server = common::Server::start(site.into_router()).await;
    for name in ["a", "b"] {
        let mut page = Page::open(Kind::Virtual, &server, &format!("/state/{name}")).await;
        page.whole().await;
        // The first commit writes a snapshot.
        for (version, key) in ["/first", "/second"].into_iter().enumerate() {
            page.commit(key, version as u64, &set(key, format!("words of {name}"))).await;
            assert_eq!(page.receive().await["version"], version + 1);
        }
    }
    store.close().await;
    let mut bytes = fs::read(&file).expect("the file");
    let text = b"\"wrote\":[\"/second\"]";
    let places = (0..bytes.len() - text.len()).filter(|at| bytes[*at..].starts_with(text));
    let pages: BTreeSet<usize> = places.map(|at| at / PAGE * PAGE).collect();
    for page in pages {
        bytes[page + END] ^= 2;
    }
    fs::write(&file, bytes).expect("room");
    let (documents, report) = export(&file).expect("what can be read");
    for name in ["a", "b"] {
        assert_eq!(documents[name]["data"], json!({"first": format!("words of {name}")}), "{report:?}");
        assert_eq!(documents[name]["version"], 1);
        assert!(documents[name]["damaged"].is_string());
        assert!(report.damaged.iter().any(|damage| damage.name == name), "{report:?}");
    }
}

#[tokio::test]
async fn a_store_that_is_closed_gives_its_file_back_and_refuses_commits() {
    let (_folder, file) = folder();
    let store = Store::open(&file).expect("a store");
    let site = Site::new().endpoint("/state/{name}", Documents::new(&store, "demo").endpoint());
    let server = common::Server::start(site.into_router()).await;
    let mut page = Page::open(Kind::Virtual, &server, "/state/a").await;
    page.whole().await;
    page.commit("x", 0, &set("/x", 1)).await;
    assert_eq!(page.receive().await, json!({"id": "x", "version": 1}));
    store.close().await;
    assert_eq!(export(&file).expect("nobody has it open").0["a"]["data"], json!({"x": 1}));
    page.commit("y", 1, &set("/y", 1)).await;
    let refusal = page.receive().await;
    assert_eq!(refusal["error"], "storage", "{refusal}");
    assert!(store.export(std::io::sink()).await.is_err());
    store.close().await;
}

/// A store of a version that wrote no sums and no names, and left a file to repair.
#[tokio::test]
async fn a_store_of_before_is_read_and_its_repair_is_in_the_log() {
    const SNAPSHOTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("snapshots");
    const LOG: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("log");
    let (folder, file) = folder();
    let open = folder.path().join("open");
    let database = Database::create(&open).expect("a file");
    let transaction = database.begin_write().expect("a transaction");
    {
        let mut snapshots = transaction.open_table(SNAPSHOTS).expect("a table");
        let mut log = transaction.open_table(LOG).expect("a table");
        let snapshot = r#"{"document":"1","version":1,"data":{"a":1}}"#;
        snapshots.insert("demo/a", snapshot.as_bytes()).expect("a row");
        let commit = r#"{"id":"c","delta":[{"op":"add","path":"/b","value":2}],"wrote":["/b"]}"#;
        log.insert(("demo/a", 2), commit.as_bytes()).expect("a row");
    }
    transaction.commit().expect("a commit");
    fs::copy(&open, &file).expect("as it is while it is open");
    let data = folder.path().to_str().expect("UTF-8");
    let mut binary = Binary::start(&["--data", data], &[]).await;
    binary.logged("was not closed in order").await;
    let mut page = Page::open(Kind::Virtual, &binary.server, "/demo/state/a").await;
    let (id, version, document) = page.whole().await;
    assert_eq!((id.as_str(), version, document), ("1", 2, json!({"a": 1, "b": 2})));
    let index = common::get(binary.server.address, "/demo/state/").await;
    assert!(index.contains("\"a\"") || index.contains(">a<"), "{index}");
    page.commit("d", 2, &set("/c", 3)).await;
    assert_eq!(page.receive().await["version"], 3);
    // Killed again, it opens at once.
    binary.signal("KILL").await;
    binary.ended().await;
    let mut binary = Binary::start(&["--data", data], &[]).await;
    binary.logged("opened the store").await;
    let (_, version, _) = Page::open(Kind::Virtual, &binary.server, "/demo/state/a").await.whole().await;
    assert_eq!(version, 3);
    assert!(!binary.unread().iter().any(|line| line.contains("not closed in order")));
}
