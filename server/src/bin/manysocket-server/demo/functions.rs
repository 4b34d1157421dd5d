//! Defines the demo functions under `/demo/rpc/`: a few simple calls, and a tank to drive.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use manysocket_server::Site;
use manysocket_server::rpc::{Error, rpc};
use manysocket_server::topic::Topics;
use serde::Serialize;

use super::guests::Guests;

/// The longest delay of `slow` in milliseconds: a person watches the demo.
const SLOWEST: u64 = 10_000;

/// The distance in metres from the middle of the tank's field to each edge.
const FIELD: f64 = 10.0;

/// Returns the functions and the tank. The tank's moves are published on the topic with its name.
pub(super) fn site<S: Clone + Send + Sync + 'static>(topics: &Topics<Guests>) -> Site<S> {
    Site::new()
        .endpoint("/add", rpc(add).arguments(["left", "right"]).endpoint())
        .endpoint("/slow", rpc(slow).arguments(["milliseconds"]).endpoint())
        .endpoint("/fail", rpc(fail).arguments(["message"]).endpoint())
        .endpoint("/panic", rpc(panics).endpoint())
        .nest("/tank65", tank(topics))
}

async fn add(left: f64, right: f64) -> f64 {
    left + right
}

/// Answers after a delay, and returns the delay.
async fn slow(milliseconds: u64) -> u64 {
    let milliseconds = milliseconds.min(SLOWEST);
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    milliseconds
}

async fn fail(message: String) -> Result<(), Error> {
    Err(Error::new("failed", message).with_data("as it was asked to"))
}

async fn panics() {
    panic!("as it was asked to");
}

/// The state of a tank.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Tank {
    /// Metres to the right of the field's middle.
    x: f64,
    /// Metres above it.
    y: f64,
    /// Degrees clockwise from straight up.
    heading: f64,
    shots: u32,
}

fn tank<S: Clone + Send + Sync + 'static>(topics: &Topics<Guests>) -> Site<S> {
    let (tank, topics) = (Arc::new(Mutex::new(Tank::default())), topics.clone());
    let seen = Arc::clone(&tank);
    let change = Arc::new(move |change: &dyn Fn(&mut Tank)| {
        let mut tank = tank.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut tank);
        // Publish under the lock, so that subscribers see the moves in order.
        topics.publish("/demo/topics/tank65", serde_json::json!(*tank).to_string());
        *tank
    });
    let (turned, driven, fired) = (Arc::clone(&change), Arc::clone(&change), Arc::clone(&change));
    let turn = move |degrees: f64| {
        let tank = turned(&|tank| tank.heading = (tank.heading + degrees).rem_euclid(360.0));
        async move { tank }
    };
    let drive = move |metres: f64| {
        let change = Arc::clone(&driven);
        async move {
            if metres.abs() > FIELD {
                let why = format!("a tank drives at most {FIELD} metres at once");
                return Err(Error::new("too-far", why));
            }
            Ok(change(&|tank| {
                let (sin, cos) = tank.heading.to_radians().sin_cos();
                tank.x = (tank.x + metres * sin).clamp(-FIELD, FIELD);
                tank.y = (tank.y + metres * cos).clamp(-FIELD, FIELD);
            }))
        }
    };
    let fire = move || {
        let tank = fired(&|tank| tank.shots = tank.shots.wrapping_add(1));
        async move { tank }
    };
    let look = move || {
        let tank = *seen.lock().unwrap_or_else(PoisonError::into_inner);
        async move { tank }
    };
    Site::new()
        .endpoint("/turn", rpc(turn).arguments(["degrees"]).endpoint())
        .endpoint("/drive", rpc(drive).arguments(["metres"]).endpoint())
        .endpoint("/fire", rpc(fire).endpoint())
        .endpoint("/look", rpc(look).endpoint())
}
