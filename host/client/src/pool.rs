//! Connections, and who uses them.
//!
//! A call takes the connection that was used last, or makes one, and gives it back when the answer is read. The pool
//! therefore holds as many as there were calls at once, and one task that calls in sequence keeps one connection.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST, HeaderValue};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::base_url::BaseUrl;
use crate::{Error, Request, Response, Streamed};

/// A connection that idled longer is dropped: the server closes idle ones after 10 s.
pub const IDLE_MS_MAX: u64 = 8_000;
/// Idle connections kept.
const IDLE_CONNECTIONS_MAX: usize = 1_024;

/// How a client calls.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Sent as `Authorization: Bearer`.
    pub token: Option<String>,
    /// How long an answer may take. Long polls add their wait; streams are not bounded.
    pub timeout: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { token: None, timeout: Duration::from_secs(15) }
    }
}

/// A client of one server. Clones share connections.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    base: BaseUrl,
    host: HeaderValue,
    authorization: Option<HeaderValue>,
    options: ClientOptions,
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<Full<Bytes>>,
    since: Instant,
}

impl Client {
    /// A client of the server at `http://host:port`. Connects when it first calls.
    ///
    /// # Errors
    /// [`Error::InvalidUrl`], or [`Error::InvalidRequest`] for a token that is no header value.
    pub fn new(base_url: &str, options: ClientOptions) -> Result<Self, Error> {
        let base = BaseUrl::parse(base_url)?;
        let value = |text: &str, what: &str| {
            HeaderValue::from_str(text)
                .map_err(|_| Error::InvalidRequest(format!("the {what} holds control characters")))
        };
        let host = value(&base.authority, "URL")?;
        let mut authorization =
            options.token.as_ref().map(|token| value(&format!("Bearer {token}"), "token")).transpose()?;
        if let Some(authorization) = &mut authorization {
            authorization.set_sensitive(true);
        }
        Ok(Self(Arc::new(Inner { base, host, authorization, options, idle: Mutex::default() })))
    }

    /// The base URL, without a slash at its end.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.0.base.authority)
    }

    /// Sends a request as it is and reads the whole answer, whatever its status.
    ///
    /// # Errors
    /// Those of the connection; a refusal is a good answer here.
    pub async fn send(&self, request: Request) -> Result<Response, Error> {
        let timeout = request.timeout.unwrap_or(self.0.options.timeout);
        let call = async {
            let (streamed, sender) = self.exchange(request).await?;
            let response = streamed.collect().await?;
            self.give_back(sender);
            Ok(response)
        };
        let late = |_| Error::Timeout { timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX) };
        tokio::time::timeout(timeout, call).await.map_err(late)?
    }

    /// Sends a request and gives the answer's body piece by piece. Only the head of the answer must come in time.
    ///
    /// # Errors
    /// Those of the connection; a refusal is a good answer here.
    pub async fn open(&self, request: Request) -> Result<Streamed, Error> {
        let timeout = request.timeout.unwrap_or(self.0.options.timeout);
        let late = |_| Error::Timeout { timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX) };
        let (streamed, _) = tokio::time::timeout(timeout, self.exchange(request)).await.map_err(late)??;
        Ok(streamed)
    }

    async fn exchange(&self, request: Request) -> Result<(Streamed, SendRequest<Full<Bytes>>), Error> {
        if let Some(wrong) = request.wrong {
            return Err(Error::InvalidRequest(wrong));
        }
        let uri: http::Uri = request.path.parse().map_err(|error| Error::InvalidRequest(format!("path: {error}")))?;
        let mut message = http::Request::new(Full::new(request.body));
        *message.method_mut() = request.method;
        *message.uri_mut() = uri;
        *message.headers_mut() = request.headers;
        message.headers_mut().insert(HOST, self.0.host.clone());
        if let Some(authorization) = &self.0.authorization {
            message.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        loop {
            let (mut sender, reused) = match self.take_idle() {
                Some(sender) => (sender, true),
                None => (self.connect().await?, false),
            };
            // An answer just read leaves its connection busy until the connection's task has seen the end of it.
            if sender.ready().await.is_err() && reused {
                continue;
            }
            match sender.try_send_request(message).await {
                Ok(response) => return Ok((self.streamed(response), sender)),
                Err(mut failed) => match failed.take_message() {
                    // Surely not sent: the server had closed the connection while it idled.
                    Some(unsent) if reused => message = unsent,
                    _ => return Err(self.broken(failed.into_error())),
                },
            }
        }
    }

    fn streamed(&self, response: http::Response<Incoming>) -> Streamed {
        let (parts, body) = response.into_parts();
        Streamed { status: parts.status, headers: parts.headers, address: self.0.base.address.clone(), body }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Error> {
        let failed = |source| Error::Connect { address: self.0.base.address.clone(), source };
        let socket = TcpStream::connect(&self.0.base.address).await.map_err(failed)?;
        socket.set_nodelay(true).map_err(failed)?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(socket)).await.map_err(|source| self.broken(source))?;
        // Ends with its sender; what goes wrong on it is told to whoever waits for an answer.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(sender)
    }

    fn broken(&self, source: hyper::Error) -> Error {
        Error::Broken { address: self.0.base.address.clone(), source }
    }

    fn take_idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(Idle { sender, since }) = idle.pop() {
            if since.elapsed() >= Duration::from_millis(IDLE_MS_MAX) {
                // Those below are older still.
                idle.clear();
                return None;
            }
            if !sender.is_closed() {
                return Some(sender);
            }
        }
        None
    }

    fn give_back(&self, sender: SendRequest<Full<Bytes>>) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.0.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_CONNECTIONS_MAX {
            idle.push(Idle { sender, since: Instant::now() });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers `per_connection` requests on each connection and then closes it.
    async fn server(per_connection: usize) -> (Client, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.expect("a client");
                count.fetch_add(1, Ordering::SeqCst);
                for _ in 0..per_connection {
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\n") {
                        request.push(socket.read_u8().await.expect("a request"));
                    }
                    socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.expect("written");
                }
            }
        });
        (Client::new(&url, ClientOptions::default()).expect("a URL"), connections)
    }

    async fn call(client: &Client) {
        let answer = client.send(Request::get("/")).await.expect("an answer");
        assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"ok"[..]));
    }

    #[tokio::test]
    async fn calls_in_sequence_share_one_connection() {
        let (client, connections) = server(usize::MAX).await;
        for _ in 0..20 {
            call(&client).await;
        }
        assert_eq!(connections.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_connection_that_the_server_closed_while_idle_costs_no_call() {
        let (client, connections) = server(1).await;
        for _ in 0..5 {
            call(&client).await;
            // Lets the close arrive.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(connections.load(Ordering::SeqCst), 5);
    }

    #[tokio::test]
    async fn an_answer_that_does_not_come_is_a_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let client = Client::new(&url, ClientOptions::default()).expect("a URL");
        let error = client.send(Request::get("/").timeout(Duration::from_millis(20))).await.expect_err("late");
        assert!(matches!(error, Error::Timeout { timeout_ms: 20 }), "{error}");
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused_before_sending() {
        let client = Client::new("http://127.0.0.1:1", ClientOptions::default()).expect("a URL");
        let error = client.send(Request::get("/").header("pm-tag", "a\nb")).await.expect_err("refused");
        assert!(matches!(error, Error::InvalidRequest(_)), "{error}");
    }
}
