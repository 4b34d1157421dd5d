//! Stands in for `shared/` without the feature `nats`: no other process has the topics, so none of these values exists.

use std::sync::Arc;

use axum::extract::ws::Message;

use super::not_taken::NotTaken;
use super::positions::Positions;
use super::refused::Refused;
use super::ring::{Ring, Saved};

#[derive(Debug, Clone)]
pub(super) enum SharedStore {}

#[derive(Debug)]
pub(super) enum SharedTopic {}

pub(super) enum Opened {}

impl SharedStore {
    pub(super) fn admits(&self, _topic: &str) -> bool {
        match *self {}
    }

    pub(super) async fn turn(&self, _topic: &str) {
        match *self {}
    }

    pub(super) async fn load(&self, _topic: &str, _limits: Positions) -> Result<Opened, Refused> {
        match *self {}
    }

    pub(super) fn publish_now(&self, _topic: &str, _message: Message, _limits: Positions) {
        match *self {}
    }
}

impl Opened {
    pub(super) fn saved(&mut self) -> Saved {
        match *self {}
    }

    pub(super) fn begin(self, _ring: &Arc<Ring>) -> SharedTopic {
        match self {}
    }
}

impl SharedTopic {
    pub(super) async fn publish(&self, _message: Message, _from: u64) -> Result<u64, NotTaken> {
        match *self {}
    }

    pub(super) async fn reach(&self, _number: u64) -> Result<(), Refused> {
        match *self {}
    }
}
