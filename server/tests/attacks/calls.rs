//! Calls with arguments as large as they may be.

use manysocket_protocol::{Event, Message};

use crate::common::Link;
use crate::measure::survive;

#[tokio::test]
async fn large_calls_on_many_sockets() {
    survive("64 sockets with calls of 249 KB, four times", &[], 200, async |binary| {
        let mut link = Link::dial(&binary.server).await;
        let mut channels = Vec::new();
        for _ in 0..64 {
            channels.push(link.open("/demo/rpc/add").await);
        }
        let call = Message::text(format!("[{}]", vec!["[]"; 83_000].join(",")));
        for _ in 0..4 {
            for &channel in &channels {
                link.endpoint.send(channel, call.clone());
            }
            for _ in &channels {
                let news = link.news().await;
                let Event::Message { channel, message } = news else { panic!("{news:?}") };
                link.endpoint.consumed(channel, 1, message.units());
            }
        }
    })
    .await;
}
