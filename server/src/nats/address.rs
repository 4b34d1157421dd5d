//! Parses the value of `--nats`, and separates the credentials from the URLs.

use std::io;

use async_nats::{ConnectOptions, ServerAddr};
use percent_encoding::percent_decode_str;

/// The servers of one cluster, and the credentials for all of them.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) servers: Vec<ServerAddr>,
    credentials: Option<Credentials>,
}

#[derive(PartialEq)]
enum Credentials {
    Password(String, String),
    Token(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Credentials")
    }
}

impl Address {
    /// Parses URLs separated by commas. A user and a password, or a token alone, precede the `@`; they are
    /// percent-encoded. One URL with credentials suffices for all servers of a cluster.
    ///
    /// # Errors
    /// Returns an error if one of the URLs is invalid, or two have different credentials. The message contains no
    /// credentials.
    pub(super) fn parse(urls: &str) -> io::Result<Self> {
        let (mut servers, mut credentials) = (Vec::new(), None);
        for (position, text) in urls.split(',').map(str::trim).enumerate() {
            let at = |what: &str| invalid(format!("address {} of NATS {what}", position + 1));
            let mut url = match text.parse::<ServerAddr>() {
                Ok(server) => server.into_inner(),
                Err(error) => return Err(at(&format!("cannot be read: {error}"))),
            };
            if url.host_str().is_none_or(str::is_empty) {
                return Err(at("has no host: expected nats://HOST:PORT"));
            }
            let decode = |part: &str| {
                let decoded = percent_decode_str(part).decode_utf8();
                decoded.map(String::from).map_err(|_| at("has credentials that are not UTF-8"))
            };
            let found = match (url.username(), url.password()) {
                ("", None) => None,
                (token, None) => Some(Credentials::Token(decode(token)?)),
                (user, Some(password)) => Some(Credentials::Password(decode(user)?, decode(password)?)),
            };
            // These cannot fail: a URL with a host accepts both.
            let _ = url.set_username("");
            let _ = url.set_password(None);
            if found.is_some() && credentials.is_some() && found != credentials {
                return Err(at(
                    "has other credentials than one before it: all servers of a cluster have the same",
                ));
            }
            credentials = credentials.or(found);
            servers.push(ServerAddr::from_url(url)?);
        }
        Ok(Self { servers, credentials })
    }

    /// Adds the credentials to the options of a connection.
    pub(super) fn authenticate(&mut self, options: ConnectOptions) -> ConnectOptions {
        match self.credentials.take() {
            Some(Credentials::Password(user, password)) => options.user_and_password(user, password),
            Some(Credentials::Token(token)) => options.token(token),
            None => options,
        }
    }
}

fn invalid(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(urls: &str) -> Result<(Vec<String>, Option<Credentials>), String> {
        let Address { servers, credentials } = Address::parse(urls).map_err(|error| error.to_string())?;
        let servers = servers.iter().map(|server| format!("{}:{}", server.host(), server.port())).collect();
        assert!(!format!("{credentials:?}").contains("s3cret"));
        Ok((servers, credentials))
    }

    #[test]
    fn credentials_are_read_from_urls_and_decoded() {
        let password = |user: &str, password: &str| Some(Credentials::Password(user.into(), password.into()));
        for (urls, servers, credentials) in [
            ("nats://h", vec!["h:4222"], None),
            ("h:1", vec!["h:1"], None),
            ("nats://ada:s3cret@h:1", vec!["h:1"], password("ada", "s3cret")),
            ("ada:s3cret@h", vec!["h:4222"], password("ada", "s3cret")),
            ("nats://ada:p%40ss%2Fw%23rd%2Cx@[::1]:1", vec!["::1:1"], password("ada", "p@ss/w#rd,x")),
            ("nats://a%3Ab:%C3%A9@h", vec!["h:4222"], password("a:b", "é")),
            ("nats://:s3cret@h", vec!["h:4222"], password("", "s3cret")),
            ("nats://tok%2Fen@h", vec!["h:4222"], Some(Credentials::Token("tok/en".into()))),
            ("nats://a:b@h:1, nats://i:2,nats://a:b@j:3", vec!["h:1", "i:2", "j:3"], password("a", "b")),
            ("nats://h:1,nats://a:b@i:2", vec!["h:1", "i:2"], password("a", "b")),
        ] {
            let servers = servers.into_iter().map(str::to_owned).collect::<Vec<_>>();
            assert!(read(urls) == Ok((servers, credentials)), "{urls}: {:?}", read(urls));
        }
    }

    #[test]
    fn an_invalid_address_is_refused_without_its_password() {
        for (urls, reason) in [
            ("", "no host"),
            ("nats://a:s3cret@", "address 1"),
            ("nats://h:1,http://a:s3cret@h", "address 2"),
            ("nats://a:s3cret@h:1,nats://b:s3cret@h:2", "other credentials"),
            ("nats://a:%ff@h", "not UTF-8"),
        ] {
            let Err(said) = read(urls) else { panic!("{urls} was accepted") };
            assert!(said.contains(reason) && !said.contains("s3cret"), "{urls}: {said}");
        }
    }
}
