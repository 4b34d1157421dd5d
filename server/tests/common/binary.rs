//! The server as its users run it: the binary, in its own process.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::common::{PATIENCE, Server};

/// An argument that stands for a folder of this server alone, which is removed with it.
pub(crate) const OWN_FOLDER: &str = "{folder}";

pub(crate) struct Binary {
    pub(crate) server: Server,
    log: mpsc::UnboundedReceiver<String>,
    process: Child,
    _folder: Option<TempDir>,
}

impl Binary {
    /// Starts it, and leaves its log in the pipe.
    pub(crate) async fn start_unread(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let has_folder = arguments.contains(&OWN_FOLDER);
        let folder = has_folder.then(|| tempfile::tempdir().expect("a folder"));
        let arguments = arguments.iter().map(|argument| match &folder {
            Some(folder) if *argument == OWN_FOLDER => folder.path().as_os_str(),
            _ => OsStr::new(*argument),
        });
        let mut process = Command::new(env!("CARGO_BIN_EXE_manysocket-server"))
            .args(["--listen", "127.0.0.1:0"])
            .args(arguments)
            .env_remove("RUST_LOG")
            .env_remove("SSL_CERT_DIR")
            .env("NO_COLOR", "1")
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary");
        let mut output = BufReader::new(process.stdout.take().expect("its output")).lines();
        let line = output.next_line().await.expect("its output").expect("a line");
        let address = line.strip_prefix("listening on http").expect("the ready line");
        let address = address.trim_start_matches('s').trim_start_matches("://").parse();
        // Filled when somebody reads the log.
        let (_, log) = mpsc::unbounded_channel();
        Self { server: Server::at(address.expect("an address")), log, process, _folder: folder }
    }

    /// Starts it on a free port, with arguments and environment variables.
    pub(crate) async fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut binary = Self::start_unread(arguments, variables).await;
        let (lines, log) = mpsc::unbounded_channel();
        let mut written = BufReader::new(binary.process.stderr.take().expect("its log")).lines();
        tokio::spawn(async move {
            while let Ok(Some(line)) = written.next_line().await {
                let _ = lines.send(line);
            }
        });
        binary.log = log;
        binary
    }

    /// The next line of the log with a text in it.
    pub(crate) async fn logged(&mut self, text: &str) -> String {
        timeout(PATIENCE, async {
            loop {
                let line = self.log.recv().await.expect("a line");
                if line.contains(text) {
                    return line;
                }
            }
        })
        .await
        .unwrap_or_else(|_| panic!("no line in time with {text:?}"))
    }

    /// The log since the last line that was read.
    pub(crate) fn unread(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.log.try_recv().ok()).collect()
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id().expect("it lives")
    }

    /// Sends it a signal by name: `TERM`, `HUP`.
    pub(crate) async fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &id]).status().await;
        assert!(sent.expect("kill").success());
    }

    /// Stops the process until it gets the signal `CONT`; its kernel goes on.
    #[cfg(target_os = "linux")]
    pub(crate) async fn stand_still(&self) {
        self.signal("STOP").await;
        let is_stopped = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.contains(") T ")
        };
        // Its threads do one after the other.
        while !std::fs::read_dir(format!("/proc/{}/task", self.id()))
            .expect("its threads")
            .flatten()
            .all(is_stopped)
        {
            tokio::task::yield_now().await;
        }
    }

    /// Waits for its end; whether it ended well.
    pub(crate) async fn ended(&mut self) -> bool {
        let waited = timeout(PATIENCE, self.process.wait()).await;
        waited.expect("an end in time").expect("a status").success()
    }

    /// A line of `/proc/PID/status` in kB: `VmRSS`, the memory that it has, or `VmHWM`, the most that it had.
    #[cfg(target_os = "linux")]
    pub(crate) fn memory(&self, name: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("its status");
        let line = status.lines().find(|line| line.starts_with(name)).expect("a line");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }
}

/// Returns the processor time that a process has spent (proc_pid_stat(5), fields 14 and 15).
#[cfg(target_os = "linux")]
pub(crate) fn processor_time(id: u32) -> Duration {
    // The unit of these files, whatever the kernel's own (USER_HZ).
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("its figures");
    // The second field is the program's name in brackets, and may hold anything.
    let (_, fields) = stat.rsplit_once(") ").expect("a name");
    let ticks = fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u32>().expect("a number"));
    TICK * ticks.sum::<u32>()
}
