//! The members of topics on several servers, over NATS.

mod common;

use std::collections::BTreeSet;

use axum::Router;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use common::nats::NatsServer;
use common::{KINDS, Kind, Server, Socket, get, next, open};
use manysocket_server::topic::{Member, TopicPolicy, TopicStore, Topics};
use manysocket_server::{Nats, Site};
use serde_json::{Value, json};

struct Named;

impl TopicPolicy for Named {
    type Subscriber = String;

    async fn accept(&self, _: &str, request: &Parts) -> Result<String, Response> {
        let name = request.uri.query().unwrap_or_default().strip_prefix("name=").map(str::to_owned);
        name.ok_or_else(|| StatusCode::FORBIDDEN.into_response())
    }

    fn member(&self, name: &String) -> Option<Member> {
        Some(Member::new(name).about(json!({ "length": name.len() })))
    }
}

/// Makes the topics of one server.
type Make = fn(&Nats, Option<TopicStore>) -> Topics<Named>;

/// With a store, and without.
const TOPICS: [(bool, Make); 2] = [
    (false, |nats, _| Topics::with_policy(Named).nats(nats)),
    (true, |_, store| Topics::with_policy(Named).stored(&store.expect("a store"))),
];

async fn serve(nats: &NatsServer, (has_store, make): (bool, Make), path: &str) -> Server {
    let nats = nats.connect().await;
    let store = match has_store {
        true => Some(TopicStore::nats(&nats, "rooms").await.expect("a store")),
        false => None,
    };
    let topics = make(&nats, store);
    let site: Site = Site::new()
        .endpoint(&format!("{path}/{{room}}"), topics.endpoint())
        .endpoint(&format!("{path}/{{room}}/members"), topics.members());
    let app: Router = site.into_router();
    Server::start(app).await
}

fn member(name: &str) -> Value {
    json!({"name": name, "about": {"length": name.len()}})
}

/// Reads until exactly these are listed.
async fn until(watcher: &mut Socket, names: &mut BTreeSet<String>, expected: &[&str]) {
    while !names.iter().eq(expected) {
        let message = next(watcher).await;
        let name = |value: &Value| value.as_str().expect("a name").to_owned();
        if let Some(members) = message["members"].as_array() {
            *names = members.iter().map(|member| name(&member["name"])).collect();
        } else if let Some(joined) = message.get("joined") {
            assert!(names.insert(name(&joined["name"])), "once: {message}");
        } else if let Some(left) = message.get("left") {
            assert!(names.remove(&name(left)), "of those that are there: {message}");
        }
    }
}

#[tokio::test]
async fn the_members_of_all_servers_are_listed_once() {
    let Some(nats) = NatsServer::start().await else { return };
    for topics in TOPICS {
        for kind in KINDS {
            let path = format!("/rooms{kind:?}");
            let here = serve(&nats, topics, &path).await;
            let there = serve(&nats, topics, &path).await;
            let open = async |server: &Server, at: &str| open(kind, server, &format!("{path}{at}")).await;
            let ada = open(&here, "/a?name=ada").await;
            let mut watcher = open(&here, "/a/members?name=x").await;
            assert_eq!(next(&mut watcher).await, json!({"members": [member("ada")]}), "{kind:?}");
            let bob = open(&there, "/a?name=bob").await;
            assert_eq!(next(&mut watcher).await, json!({"joined": member("bob")}), "{kind:?}");
            let _elsewhere = open(&there, "/b?name=eve").await;
            // The same name at another server is the same member.
            let again = open(&there, "/a?name=ada").await;
            let carl = open(&there, "/a?name=carl").await;
            assert_eq!(next(&mut watcher).await, json!({"joined": member("carl")}), "{kind:?}");
            ada.vanish();
            carl.vanish();
            assert_eq!(next(&mut watcher).await, json!({"left": "carl"}), "{kind:?}");
            again.vanish();
            assert_eq!(next(&mut watcher).await, json!({"left": "ada"}), "{kind:?}");
            // A server that has just begun has all of them at once.
            let third = serve(&nats, topics, &path).await;
            let list = get(third.address, &format!("{path}/a/members?name=x")).await;
            assert!(list.ends_with(&json!({"members": [member("bob")]}).to_string()), "{list}");
            drop(bob);
            assert_eq!(next(&mut watcher).await, json!({"left": "bob"}), "{kind:?}");
        }
    }
}

#[tokio::test]
async fn what_changed_while_nats_was_away_is_known_afterwards() {
    let Some(mut nats) = NatsServer::start().await else { return };
    let topics = TOPICS[0];
    let (here, there) = (serve(&nats, topics, "/rooms").await, serve(&nats, topics, "/rooms").await);
    let mut watcher = open(Kind::Native, &here, "/rooms/a/members?name=x").await;
    let mut names = BTreeSet::new();
    let _stays = open(Kind::Virtual, &there, "/rooms/a?name=stays").await;
    let goes = open(Kind::Virtual, &there, "/rooms/a?name=goes").await;
    until(&mut watcher, &mut names, &["goes", "stays"]).await;
    nats.kill().await;
    goes.vanish();
    let _comes = open(Kind::Native, &there, "/rooms/a?name=comes").await;
    let _here = open(Kind::Native, &here, "/rooms/a?name=here").await;
    nats.restart().await;
    until(&mut watcher, &mut names, &["comes", "here", "stays"]).await;
}

/// More than one message holds.
#[tokio::test]
async fn a_long_list_arrives_whole() {
    let Some(nats) = NatsServer::start().await else { return };
    let topics = TOPICS[0];
    let here = serve(&nats, topics, "/rooms").await;
    let long = "x".repeat(3000);
    let mut members = Vec::new();
    for number in 100..300 {
        members.push(open(Kind::Native, &here, &format!("/rooms/a?name={number}{long}")).await);
    }
    let there = serve(&nats, topics, "/rooms").await;
    let mut watcher = open(Kind::Native, &there, "/rooms/a/members?name=x").await;
    let all: Vec<String> = (100..300).map(|number| format!("{number}{long}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    until(&mut watcher, &mut BTreeSet::new(), &all).await;
}
