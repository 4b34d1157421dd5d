//! Both ends of a link that can be resumed, and the steps of a test on them.

use manysocket_protocol::{Endpoint, Event, Message, Millis, Physical, Resume, Settings, Side, Token};

/// How long the server keeps a link.
pub(crate) const KEPT: Millis = 30_000;

pub(crate) fn settings(side: Side) -> Settings {
    let (resume_timeout, ping_interval) = if side == Side::Server { (KEPT, 25_000) } else { (1, 0) };
    Settings::new().resume_timeout(resume_timeout).ping_interval(ping_interval)
}

pub(crate) fn token(number: u8) -> Token {
    Token::new([number; 16])
}

/// Both ends, and a connection that loses nothing until it is cut.
pub(crate) struct Pair {
    pub(crate) client: Endpoint,
    pub(crate) server: Endpoint,
    pub(crate) now: Millis,
    pub(crate) tokens: u8,
}

impl Pair {
    /// A link with channel 1 open, that can be resumed.
    pub(crate) fn new() -> Self {
        Self::with(settings(Side::Client), settings(Side::Server))
    }

    pub(crate) fn with(client: Settings, server: Settings) -> Self {
        let mut client = Endpoint::new(Side::Client, client, 0);
        let mut server = Endpoint::new(Side::Server, server, 0);
        server.allow_resumption(token(1));
        client.open("/", "");
        server.receive_handshake(0, &client.handshake()).expect("a correct first batch");
        server.accept(1, "");
        let mut pair = Self { client, server, now: 0, tokens: 1 };
        pair.settle();
        while pair.client.poll_event().is_some() || pair.server.poll_event().is_some() {}
        pair
    }

    pub(crate) fn end(&mut self, side: Side) -> &mut Endpoint {
        if side == Side::Client { &mut self.client } else { &mut self.server }
    }

    /// Returns the messages that one side sends now.
    pub(crate) fn sent(&mut self, side: Side) -> Vec<Physical> {
        std::iter::from_fn(|| self.end(side).poll_transmit()).collect()
    }

    /// Carries messages until nobody has any. Returns how many there were.
    pub(crate) fn settle(&mut self) -> usize {
        let mut count = 0;
        loop {
            let (up, down) = (self.sent(Side::Client), self.sent(Side::Server));
            if up.is_empty() && down.is_empty() {
                return count;
            }
            count += up.len() + down.len();
            for message in up {
                self.server.receive(self.now, message).expect("a correct client");
            }
            for message in down {
                self.client.receive(self.now, message).expect("a correct server");
            }
        }
    }

    /// Returns a side's verdict on the message that arrived.
    pub(crate) fn messages(&mut self, side: Side) -> Vec<Message> {
        let events = std::iter::from_fn(|| self.end(side).poll_event());
        let messages = events.filter_map(|event| match event {
            Event::Message { message, .. } => Some(message),
            Event::Drained { .. } => None,
            other => panic!("{other:?}"),
        });
        messages.collect()
    }

    /// The client's first message over a new connection.
    pub(crate) fn redial(&mut self) -> Resume {
        assert!(self.client.carrier_lost(self.now), "the link can be resumed");
        self.client.redialled(self.now);
        let [Physical::Binary(batch)] = &self.sent(Side::Client)[..] else { panic!("one message: RESUME") };
        Resume::read(batch).expect("RESUME")
    }

    /// The server takes the connection.
    pub(crate) fn take(&mut self, resume: &Resume) {
        assert!(self.server.accepts(resume));
        self.tokens += 1;
        self.server.resume(self.now, resume, token(self.tokens));
    }
}

pub(crate) fn text(content: &str) -> Message {
    Message::text(content)
}
