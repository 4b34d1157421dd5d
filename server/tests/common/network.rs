//! Two machines with a wire between them, which can go away without a word: network namespaces.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The names of the machines, without their numbers.
const NAME: &str = "manysocket-test";

pub(crate) struct Wire {
    id: u32,
}

impl Wire {
    /// `None` where it cannot be made, which is said.
    pub(crate) fn new() -> Option<Self> {
        let wire = Self { id: std::process::id() };
        let [one, two] = [0, 1].map(|end| wire.name(end));
        let mut is_made = ip(&["netns", "add", &one]) && ip(&["netns", "add", &two]);
        is_made &= ip(&["link", "add", "wire", "netns", &one, "type", "veth", "peer", "wire", "netns", &two]);
        for (end, name) in [one, two].iter().enumerate() {
            let address = format!("{}/24", Self::address(end));
            is_made &= ip(&["-netns", name, "address", "add", &address, "dev", "wire"]);
            for device in ["lo", "wire"] {
                is_made &= ip(&["-netns", name, "link", "set", device, "up"]);
            }
        }
        if !is_made {
            eprintln!("SKIPPED: network namespaces need root and iproute2; `cargo xtask test` adds it");
        }
        is_made.then_some(wire)
    }

    fn name(&self, end: usize) -> String {
        format!("{NAME}-{}-{end}", self.id)
    }

    /// The address of one end, 0 or 1.
    pub(crate) fn address(end: usize) -> String {
        format!("10.78.0.{}", end + 1)
    }

    /// Runs a future on one of the machines, in a separate thread.
    pub(crate) fn run_at<F: Future<Output = ()>>(
        &self,
        end: usize,
        future: impl FnOnce() -> F + Send + 'static,
    ) -> std::thread::JoinHandle<()> {
        let namespace = File::open(format!("/run/netns/{}", self.name(end))).expect("a namespace");
        std::thread::spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("as root");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(future());
        })
    }

    /// Nothing arrives any more, without notice: packets are sent to a card that nobody has.
    pub(crate) fn cut(&self) {
        for (end, other) in [(0, 1), (1, 0)] {
            let (name, address) = (self.name(end), Self::address(other));
            let nobody = ["lladdr", "02:00:00:00:00:09", "dev", "wire", "nud", "permanent"];
            let words = ["-netns", &name, "neighbour", "replace", &address];
            assert!(ip(&[&words[..], &nobody].concat()), "cut");
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for end in [0, 1] {
            ip(&["netns", "delete", &self.name(end)]);
        }
    }
}

fn ip(words: &[&str]) -> bool {
    Command::new("ip").args(words).output().is_ok_and(|output| output.status.success())
}
