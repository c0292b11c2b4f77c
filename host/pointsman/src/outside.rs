//! The requests that check-back plugins name, made by the host: the plugin itself has no network.
//!
//! A request goes to a host of the binding's allow-list and to nothing else. The name is looked up here, the address is
//! checked ([`mod@address`]), and the connection is made to just that address, so that a name that answers differently a
//! moment later leads nowhere. Redirects are not followed: they are an answer like any other.

mod address;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::uri::Scheme;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_util::rt::TokioIo;
use pointsman_broker::ports::{BoxFuture, Outside};
use pointsman_model::judge::{CheckResponse, OutsideRequest};
use pointsman_model::limits;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Headers that the connection itself sets.
const OWN_HEADERS: [HeaderName; 8] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::TE,
    header::TRAILER,
    header::EXPECT,
];

/// Makes requests for plugins.
pub(crate) struct OutsideClient {
    tls: TlsConnector,
    /// Private addresses are allowed: the operator's setting.
    private: bool,
}

impl OutsideClient {
    /// A client that trusts the public authorities.
    pub(crate) fn new(private: bool) -> Self {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Self { tls: TlsConnector::from(Arc::new(config)), private }
    }

    async fn exchange(&self, request: OutsideRequest, allow: &[String]) -> Result<CheckResponse, String> {
        let target = Target::parse(&request.url)?;
        if !allow.iter().any(|entry| target.is(entry)) {
            return Err(format!("`{}` is not on the binding's allow-list", target.authority()));
        }
        let message = message(&target, request)?;
        let stream = TcpStream::connect(self.address(&target).await?);
        let stream = stream.await.map_err(|error| format!("no connection: {error}"))?;
        if target.tls {
            let name =
                ServerName::try_from(target.host.clone()).map_err(|_| "the host is no name for TLS".to_owned())?;
            let stream = self.tls.connect(name, stream).await.map_err(|error| format!("no TLS: {error}"))?;
            answer(stream, message).await
        } else {
            answer(stream, message).await
        }
    }

    /// The address to connect to: the first one of the name that may be.
    async fn address(&self, target: &Target) -> Result<SocketAddr, String> {
        let found: Vec<SocketAddr> = match target.host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, target.port)],
            Err(_) => tokio::net::lookup_host((target.host.as_str(), target.port))
                .await
                .map_err(|error| format!("`{}` is not found: {error}", target.host))?
                .collect(),
        };
        let allowed = found.into_iter().find(|address| self.private || address::is_public(address.ip()));
        allowed.ok_or_else(|| format!("`{}` leads to a private address", target.host))
    }
}

impl Outside for OutsideClient {
    fn ask(&self, request: OutsideRequest, allow: Vec<String>) -> BoxFuture<'_, CheckResponse> {
        Box::pin(async move {
            let time = Duration::from_millis(limits::OUTSIDE_MS_MAX);
            match tokio::time::timeout(time, self.exchange(request, &allow)).await {
                Ok(Ok(response)) => response,
                Ok(Err(words)) => CheckResponse::Failed(words),
                Err(_) => CheckResponse::Failed(format!("no answer within {} ms", limits::OUTSIDE_MS_MAX)),
            }
        })
    }
}

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    tls: bool,
    /// In lower case; an IPv6 address without its brackets.
    host: String,
    port: u16,
    /// Path and query.
    path: String,
}

impl Target {
    fn parse(url: &str) -> Result<Self, String> {
        let uri: http::Uri = url.parse().map_err(|_| "it is not a URL".to_owned())?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err("the URL must start with http:// or https://".to_owned()),
        };
        let authority = uri.authority().ok_or("the URL has no host")?;
        if authority.as_str().contains('@') {
            return Err("the URL must not hold credentials".to_owned());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if host.is_empty() {
            return Err("the URL has no host".to_owned());
        }
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            None => default_port(tls),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { tls, host, port, path })
    }

    /// `host:port`.
    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// True if an entry of an allow-list names it: `host:port`, or `host` for the scheme's own port.
    fn is(&self, entry: &str) -> bool {
        let entry = entry.to_ascii_lowercase();
        let bare = self.authority();
        entry == bare
            || (self.port == default_port(self.tls) && bare.strip_suffix(&format!(":{}", self.port)) == Some(&*entry))
    }
}

const fn default_port(tls: bool) -> u16 {
    if tls { 443 } else { 80 }
}

fn message(target: &Target, request: OutsideRequest) -> Result<http::Request<Full<Bytes>>, String> {
    let mut message = http::Request::builder().method(request.method.as_str()).uri(&target.path);
    let host = if target.port == default_port(target.tls) {
        target.authority().trim_end_matches(&format!(":{}", target.port)).to_owned()
    } else {
        target.authority()
    };
    message = message.header(header::HOST, host).header(header::USER_AGENT, "pointsman");
    for (name, value) in &request.headers {
        let name = HeaderName::try_from(name.as_str()).map_err(|_| format!("`{name}` is no header"))?;
        if OWN_HEADERS.contains(&name) {
            return Err(format!("the header `{name}` is the connection's own"));
        }
        let value =
            HeaderValue::try_from(value.as_str()).map_err(|_| format!("`{name}` has no value that HTTP carries"))?;
        message = message.header(name, value);
    }
    message.body(Full::new(request.body)).map_err(|error| error.to_string())
}

async fn answer<S>(stream: S, message: http::Request<Full<Bytes>>) -> Result<CheckResponse, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let failed = |error: hyper::Error| format!("no answer: {error}");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream)).await.map_err(failed)?;
    // One request a connection; it ends with the answer.
    let driver = tokio::spawn(connection);
    let answered = read(sender.send_request(message).await.map_err(failed)?).await;
    driver.abort();
    answered
}

/// Reads an answer, its body up to the limit.
async fn read(response: http::Response<Incoming>) -> Result<CheckResponse, String> {
    let (parts, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    while bytes.len() < limits::CHECK_BODY_BYTES_MAX && !body.is_end_stream() {
        let Some(frame) = body.frame().await else { break };
        if let Ok(data) = frame.map_err(|error| format!("a broken answer: {error}"))?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    bytes.truncate(limits::CHECK_BODY_BYTES_MAX);
    let text = |(name, value): (&HeaderName, &HeaderValue)| Some((name.to_string(), value.to_str().ok()?.to_owned()));
    let headers = parts.headers.iter().filter_map(text).take(limits::CHECK_HEADERS_MAX).collect();
    Ok(CheckResponse::Answered { status: parts.status.as_u16(), headers, body: bytes.into() })
}

#[cfg(test)]
mod tests;
