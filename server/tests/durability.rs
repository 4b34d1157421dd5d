//! Acknowledged commits are on disk: the server as it is shipped, killed under load, and with a disk that is full.

mod common;

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the server is killed; more by this variable.
const KILLS: usize = 3;
const KILLS_VARIABLE: &str = "MANYSOCKET_KILLS";

struct Process {
    child: Child,
    origin: String,
}

impl Process {
    fn start(data: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_manysocket-server"));
        Self::spawn(command.args(["--listen", "127.0.0.1:0", "--data"]).arg(data))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a process");
        let mut line = String::new();
        let output = child.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut line).expect("a line");
        let origin = line.trim().strip_prefix("listening on http://").expect("an address").to_owned();
        Self { child, origin }
    }

    fn kill(&mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("its end");
    }

    fn url(&self, name: &str) -> String {
        format!("ws://{}/demo/state/{name}", self.origin)
    }

    async fn open(&self, name: &str) -> Client {
        Client(connect_async(self.url(name)).await.expect("a socket").0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client(WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>);

impl Client {
    /// The next message; `None` once the server is gone.
    async fn receive(&mut self) -> Option<Value> {
        match timeout(PATIENCE, self.0.next()).await.expect("a message in time") {
            Some(Ok(Message::Text(text))) => Some(serde_json::from_str(&text).expect("JSON")),
            Some(Ok(other)) => panic!("{other:?}"),
            Some(Err(_)) | None => None,
        }
    }

    /// Sends a commit; `None` if the server goes before it answers.
    async fn commit(&mut self, id: &str, base: u64, delta: &Value) -> Option<Value> {
        let message = json!({"id": id, "base": base, "delta": delta});
        self.0.send(Message::text(message.to_string())).await.ok()?;
        loop {
            let message = self.receive().await?;
            if message["id"] == id {
                return Some(message);
            }
        }
    }
}

/// Appends its own numbers to a document until the server is gone; how many were acknowledged.
async fn append(
    mut client: Client,
    writer: usize,
    acknowledged: Arc<AtomicUsize>,
    enough: Arc<Notify>,
) -> usize {
    let Some(first) = client.receive().await else { return 0 };
    let (mut base, mut count) = (first["version"].as_u64().expect("a version"), 0);
    loop {
        let delta = json!([{"op": "add", "path": "/list/-", "value": [writer, count]}]);
        let Some(answer) = client.commit(&format!("{writer}.{count}"), base, &delta).await else {
            return count;
        };
        base = answer["version"].as_u64().expect("accepted");
        count += 1;
        if acknowledged.fetch_sub(1, Ordering::Relaxed) == 1 {
            enough.notify_one();
        }
    }
}

#[tokio::test]
async fn every_acknowledged_commit_is_there_after_the_server_was_killed() {
    let kills = std::env::var(KILLS_VARIABLE).map_or(KILLS, |count| count.parse().expect("a number"));
    let folder = tempfile::tempdir().expect("a folder");
    let mut server = Process::start(folder.path());
    let mut seed = std::process::id() as usize;
    let mut total = 0;
    let mut acknowledged: HashMap<(String, usize), usize> = HashMap::new();
    for round in 0..kills {
        // Two documents, eight writers each.
        let names = [format!("a{round}"), format!("b{round}")];
        for name in &names {
            let mut client = server.open(name).await;
            client.receive().await.expect("the document");
            let delta = json!([{"op": "add", "path": "/list", "value": []}]);
            assert!(client.commit("first", 0, &delta).await.expect("an answer")["version"].is_u64());
        }
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let (remaining, enough) =
            (Arc::new(AtomicUsize::new(1 + (seed >> 33) % 1000)), Arc::new(Notify::new()));
        let mut writers = Vec::new();
        for writer in 0..16 {
            let name = names[writer % 2].clone();
            let client = server.open(&name).await;
            let task = tokio::spawn(append(client, writer, Arc::clone(&remaining), Arc::clone(&enough)));
            writers.push((name, writer, task));
        }
        timeout(PATIENCE, enough.notified()).await.expect("commits in time");
        server.kill();
        for (name, writer, task) in writers {
            let count = task.await.expect("a writer");
            total += count;
            acknowledged.insert((name, writer), count);
        }
        server = Process::start(folder.path());
    }
    for name in (0..kills).flat_map(|round| [format!("a{round}"), format!("b{round}")]) {
        let document = server.open(&name).await.receive().await.expect("the document");
        let list = document["data"]["list"].as_array().expect("a list");
        assert_eq!(document["version"], list.len() + 1, "{name}: each commit made one version");
        for ((_, writer), count) in acknowledged.iter().filter(|((of, _), _)| *of == name) {
            let own: Vec<u64> =
                list.iter().filter(|pair| pair[0] == *writer).filter_map(|pair| pair[1].as_u64()).collect();
            // One more may have been written, and its answer lost.
            assert!(
                own.len() == *count || own.len() == count + 1,
                "{name} {writer}: {} of {count}",
                own.len()
            );
            assert!(own.iter().copied().eq(0..own.len() as u64), "{name} {writer}: in order, once each");
        }
    }
    println!("{kills} kills, {total} acknowledged commits, none lost");
}

/// The limit on the size of files stands in for the disk's: writes beyond it fail in the same place.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_full_disk_refuses_commits_and_the_service_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = r#"trap "" XFSZ; ulimit -S -f 8192; exec "$0" "$@""#;
    let mut command = Command::new("sh");
    command.args([
        "-c",
        script,
        env!("CARGO_BIN_EXE_manysocket-server"),
        "--listen",
        "127.0.0.1:0",
        "--data",
    ]);
    let mut server = Process::spawn(command.arg(folder.path()));
    let mut client = server.open("a").await;
    client.receive().await.expect("the document");
    let fill =
        |n: u64| json!([{"op": "add", "path": format!("/{}", n % 5), "value": n.to_string().repeat(50_000)}]);
    let mut version = 0;
    let refusal = loop {
        let answer = client.commit(&format!("c{version}"), version, &fill(version)).await.expect("an answer");
        match answer["version"].as_u64() {
            Some(new) => version = new,
            None => break answer,
        }
    };
    assert!(version > 0, "there was room at first");
    assert_eq!(refusal["error"], "storage", "{refusal}");
    let message = refusal["message"].as_str().expect("a message");
    assert!(message.contains("File too large"), "{message}");
    // It still serves what there is, and what nobody has open.
    let data = server.open("a").await.receive().await.expect("the document");
    assert_eq!(data["version"], version);
    server.open("b").await.receive().await.expect("another document");
    let id = server.child.id().to_string();
    let raised =
        Command::new("prlimit").args(["--pid", &id, "--fsize=unlimited:"]).status().expect("prlimit");
    assert!(raised.success());
    let answer = client.commit("again", version, &fill(version)).await.expect("an answer");
    assert_eq!(answer["version"], version + 1, "{answer}");
    server.kill();
    let server = Process::start(folder.path());
    let data = server.open("a").await.receive().await.expect("the document");
    assert_eq!(data["version"], version + 1);
}

/// A file system in a file.
#[cfg(target_os = "linux")]
struct Volume {
    folder: tempfile::TempDir,
}

#[cfg(target_os = "linux")]
impl Volume {
    /// `None` where it cannot be made, which is said.
    fn new() -> Option<Self> {
        let volume = Self { folder: tempfile::tempdir().expect("a folder") };
        let image = volume.path("image");
        std::fs::create_dir(volume.path("mounted")).expect("a folder");
        std::fs::File::create(&image).expect("a file").set_len(16 << 20).expect("room");
        let made = run("mkfs.ext4", &["-q", &image]) && volume.mount();
        if !made {
            eprintln!("SKIPPED: only root may mount a file system, with mkfs.ext4 and a loop device");
        }
        made.then_some(volume)
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    /// Errors turn it read-only, as they do most servers' disks.
    fn mount(&self) -> bool {
        run("mount", &["-o", "loop,errors=remount-ro", &self.path("image"), &self.path("mounted")])
    }

    /// Fails as the kernel does when the disk fails.
    fn fail(&self) {
        let found = Command::new("findmnt").args(["-no", "SOURCE", &self.path("mounted")]).output();
        let device = String::from_utf8(found.expect("findmnt").stdout).expect("UTF-8");
        let name = device.trim().trim_start_matches("/dev/");
        std::fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "1").expect("a failure");
    }

    /// Acts as an administrator does then.
    fn repair(&self) {
        assert!(run("umount", &[&self.path("mounted")]), "unmounted");
        // 1: errors were found and corrected.
        run("fsck.ext4", &["-p", &self.path("image")]);
        assert!(self.mount(), "mounted again");
    }
}

#[cfg(target_os = "linux")]
impl Drop for Volume {
    fn drop(&mut self) {
        run("umount", &[&self.path("mounted")]);
    }
}

#[cfg(target_os = "linux")]
fn run(program: &str, words: &[&str]) -> bool {
    let output = Command::new(program).args(words).stdout(Stdio::null()).stderr(Stdio::null()).status();
    output.is_ok_and(|status| status.success())
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_disk_that_fills_up_and_turns_read_only_loses_nothing_acknowledged() {
    let Some(volume) = Volume::new() else { return };
    let data = volume.path("mounted");
    let ballast = Path::new(&data).join("ballast");
    std::fs::write(&ballast, vec![1; 8 << 20]).expect("room");
    let mut server = Process::start(Path::new(&data));
    let mut client = server.open("a").await;
    client.receive().await.expect("the document");
    let fill =
        |n: u64| json!([{"op": "add", "path": format!("/{}", n % 5), "value": n.to_string().repeat(50_000)}]);
    let mut version = 0;
    let mut until_refused = async |version: &mut u64, from: u64, to: u64| {
        for attempt in from..to {
            let answer =
                client.commit(&format!("c{attempt}"), *version, &fill(attempt)).await.expect("an answer");
            match answer["version"].as_u64() {
                Some(new) => *version = new,
                None => return answer["message"].as_str().expect("a message").to_owned(),
            }
        }
        String::new()
    };
    let refusal = until_refused(&mut version, 0, 1000).await;
    assert!(refusal.contains("No space left on device"), "{refusal}");
    std::fs::remove_file(ballast).expect("a file");
    assert_eq!(until_refused(&mut version, 2000, 2001).await, "", "there is room again");

    volume.fail();
    let refusal = until_refused(&mut version, 3000, 3001).await;
    assert!(refusal.contains("Read-only file system"), "{refusal}");
    // It continues with the documents in memory. The file cannot be opened anew, so there is no reading others.
    let document = server.open("a").await.receive().await.expect("the document");
    assert_eq!(document["version"], version);
    match connect_async(server.url("b")).await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 503),
        other => panic!("{other:?}"),
    }
    assert!(!until_refused(&mut version, 4000, 4001).await.is_empty());

    // It does not start where it could not keep an acknowledged commit.
    server.kill();
    let mut command = Command::new(env!("CARGO_BIN_EXE_manysocket-server"));
    let refused = command.args(["--listen", "127.0.0.1:0", "--data", &data]).output().expect("an end");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("Read-only file system"), "{said}");

    volume.repair();
    let mut server = Process::start(Path::new(&data));
    let document = server.open("a").await.receive().await.expect("the document");
    assert_eq!(document["version"], version, "all that was acknowledged");
    server.kill();
}
