//! Stands in for `stored/` without the feature `topic-store`: no topic is in a file, so none of these values exists.

use std::sync::Weak;

use axum::extract::ws::Message;

use super::limits::TopicLimits;
use super::not_taken::NotTaken;
use super::positions::Positions;
use super::refused::Refused;
use super::served::Served;

#[derive(Debug, Clone)]
pub(super) enum FileStore {}

impl FileStore {
    pub(super) async fn load(
        &self,
        _hub: Weak<dyn Served>,
        _name: &str,
        _limits: TopicLimits,
        _peer: u64,
    ) -> Result<(), Refused> {
        match *self {}
    }

    pub(super) async fn publish(
        &self,
        _to: Destination<'_>,
        _message: Message,
        _from: u64,
        _peer: u64,
    ) -> Result<u64, NotTaken> {
        match *self {}
    }

    pub(super) fn publish_now(&self, _to: Destination<'_>, _message: Message) {
        match *self {}
    }
}

#[derive(Debug, Clone, Copy)]
#[expect(dead_code, reason = "nothing publishes there")]
pub(super) struct Destination<'a> {
    pub(super) hub: &'a Weak<dyn Served>,
    pub(super) name: &'a str,
    pub(super) limits: Positions,
}
