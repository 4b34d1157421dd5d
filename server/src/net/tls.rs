//! The server's own TLS: a certificate chain and its key from PEM files, which may be replaced while it serves.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
#[cfg(feature = "http2")]
use tokio_rustls::server::TlsStream;

/// The protocols inside (RFC 7301), the preferred one first.
const PROTOCOLS: &[&[u8]] = &[
    #[cfg(feature = "http2")]
    HTTP_2,
    b"http/1.1",
];

#[cfg(feature = "http2")]
const HTTP_2: &[u8] = b"h2";

/// A certificate and its key, for [`Serve::tls`](crate::Serve::tls). Clones share them.
#[derive(Debug, Clone)]
pub struct Tls(Arc<Files>);

#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    config: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads the certificate, followed by those that lead to a root, and its private key from PEM files.
    ///
    /// # Errors
    /// A file cannot be read, or the two do not fit.
    pub fn open(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> io::Result<Self> {
        let (certificate, key) = (certificate.into(), key.into());
        let config = RwLock::new(read(&certificate, &key)?);
        Ok(Self(Arc::new(Files { certificate, key, config })))
    }

    /// Reads the files again, for connections to come; those that are open go on.
    ///
    /// # Errors
    /// As [`open`](Self::open); then the files that were read before stay in use.
    pub fn reload(&self) -> io::Result<()> {
        let config = read(&self.0.certificate, &self.0.key)?;
        *self.0.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// For the next connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.0.config.read().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

/// Returns whether client and server have agreed on HTTP/2.
#[cfg(feature = "http2")]
pub(crate) fn is_http2<S>(stream: &TlsStream<S>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(HTTP_2)
}

fn read(certificate: &Path, key: &Path) -> io::Result<Arc<ServerConfig>> {
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(certificate, error))?;
    if chain.is_empty() {
        return Err(wrong(certificate, "there is no certificate in it"));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, error))?;
    // The provider is named here, so that an application's own choice of another is left alone.
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| wrong(certificate, format!("with the key {}: {error}", key.display())))?;
    config.alpn_protocols = PROTOCOLS.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

fn wrong(file: &Path, why: impl Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", file.display()))
}
