//! Mutual TLS between nodes: each shows a certificate that the cluster's own CA has signed.
//!
//! The dialing side also checks that the certificate names the host it dialed. TLS 1.3 only: both ends are ours.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::config::TlsFiles;
use crate::error::Error;
use crate::handshake::{Denied, Unknown};

/// Both sides' TLS, with the same certificate.
#[derive(Clone)]
pub(crate) struct Tls {
    connector: TlsConnector,
    acceptor: TlsAcceptor,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// A file cannot be read, or is not what it should be.
    pub(crate) fn load(files: &TlsFiles) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&files.ca)? {
            roots.add(certificate).map_err(|reason| bad(&files.ca, &reason))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(&files.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|reason| bad(&files.key, &reason))?;
        let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(|reason| Error::Tls { reason: reason.to_string() })?;
        let failed = |reason: tokio_rustls::rustls::Error| Error::Tls { reason: reason.to_string() };
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(failed)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(failed)?;
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(failed)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(failed)?;
        Ok(Self { connector: Arc::new(client).into(), acceptor: Arc::new(server).into() })
    }

    /// The dialing side, to a node whose certificate must name `host`.
    pub(crate) async fn connect(&self, host: &str, stream: TcpStream) -> Result<Unknown, Denied> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Denied::Address(format!("{host:?} is no name that a certificate could have")))?;
        let stream = self.connector.connect(name, stream).await.map_err(Denied::Tls)?;
        let (reader, writer) = tokio::io::split(stream);
        Ok(Unknown::new(Box::new(reader), Box::new(writer)))
    }

    /// The listening side.
    pub(crate) async fn accept(&self, stream: TcpStream) -> Result<Unknown, Denied> {
        let stream = self.acceptor.accept(stream).await.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Denied::Cut,
            _ => Denied::Tls(error),
        })?;
        let (reader, writer) = tokio::io::split(stream);
        Ok(Unknown::new(Box::new(reader), Box::new(writer)))
    }
}

/// A connection without TLS.
pub(crate) fn plain(stream: TcpStream) -> Unknown {
    let (reader, writer) = stream.into_split();
    Unknown::new(Box::new(reader), Box::new(writer))
}

/// What is set on every connection, TLS or not.
pub(crate) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|reason| bad(path, &reason))?;
    if certificates.is_empty() {
        return Err(Error::TlsFile { path: path.to_owned(), reason: "no certificate in it".to_owned() });
    }
    Ok(certificates)
}

fn bad(path: &Path, reason: &dyn std::fmt::Display) -> Error {
    Error::TlsFile { path: path.to_owned(), reason: reason.to_string() }
}
