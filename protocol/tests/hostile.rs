//! Hostile peers: random bytes, random frames, and correct sessions with faults put in. Nothing panics, and an
//! endpoint holds no more than its limits allow.
//!
//! `MANYSOCKET_FUZZ_ITERATIONS=n` asks for more than a test's share; `fuzz/` runs the same with libFuzzer.

mod support;

use manysocket_protocol::{Endpoint, Settings, Side};
use support::hostile::{HELLO, Host, decode, random_message, tampered_link};
use support::pair::SIDES;
use support::{number, rng::Rng};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;
#[cfg(target_arch = "wasm32")]
wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_browser);

/// Physical messages to give to endpoints, and to each test.
fn iterations() -> u64 {
    number("MANYSOCKET_FUZZ_ITERATIONS").unwrap_or(if cfg!(target_arch = "wasm32") { 2_000 } else { 30_000 })
}

#[test]
fn random_messages_do_not_panic() {
    let mut rng = Rng::new(1);
    let mut given = 0;
    while given < iterations() {
        let mut host = Host::new(SIDES[rng.below(2)]);
        let mut alive = rng.one_in(50) || host.receive(HELLO, &mut rng);
        for _ in 0..rng.below(60) {
            if !alive {
                break;
            }
            given += 1;
            alive = host.receive(random_message(&mut rng), &mut rng) && host.act(&mut rng);
            if alive && rng.one_in(20) {
                alive = host.reconnect(&mut rng);
            }
            host.transmit();
        }
    }
    println!("{given} random messages");
}

#[test]
fn links_with_faults_do_not_panic() {
    let mut rng = Rng::new(2);
    let (mut given, mut links, mut outlived) = (0, 0, 0);
    while given < iterations() {
        let (_, count, alive) = tampered_link(&mut rng, 20);
        given += count;
        links += 1;
        outlived += u64::from(alive);
    }
    println!("{given} messages on {links} links with faults, which {outlived} outlived");
    assert!(given > 20 * links, "faults must not hide what comes after them");
}

#[test]
fn a_link_without_faults_has_no_violation() {
    let mut rng = Rng::new(3);
    for _ in 0..iterations() / 300 {
        let (_, _, alive) = tampered_link(&mut rng, usize::MAX);
        assert!(alive, "whatever two correct hosts do");
    }
}

#[test]
fn inputs_with_faults_do_not_panic() {
    let mut rng = Rng::new(4);
    let mut given = 0;
    while given < iterations() {
        let (inputs, _, _) = tampered_link(&mut rng, 20);
        for mut input in inputs {
            for _ in 0..10 {
                for _ in 0..rng.below(4) {
                    let at = rng.below(input.len());
                    input[at] = rng.next() as u8;
                }
                decode(&input[..1 + rng.below(input.len())]);
                decode(&(0..rng.below(100)).map(|_| rng.next() as u8).collect::<Vec<_>>());
                given += 2;
            }
        }
    }
    println!("{given} inputs of the decoder");
}

#[test]
fn random_handshakes_do_not_panic() {
    let mut rng = Rng::new(5);
    for _ in 0..iterations() / 4 {
        let text: String = (0..rng.below(40)).map(|_| char::from(b"AZaz09-_=+/%"[rng.below(12)])).collect();
        let _ = Endpoint::new(Side::Server, Settings::default(), 0).receive_handshake(0, &text);
    }
}
