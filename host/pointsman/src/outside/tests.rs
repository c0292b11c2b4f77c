//! Requests of plugins: where they may go, and what comes back.

use pointsman_model::judge::OutsideMethod;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

fn request(url: &str) -> OutsideRequest {
    OutsideRequest { method: OutsideMethod::Get, url: url.to_owned(), headers: Vec::new(), body: Bytes::new() }
}

fn allow(entries: &[&str]) -> Vec<String> {
    entries.iter().map(|entry| (*entry).to_owned()).collect()
}

async fn failure(private: bool, request: OutsideRequest, entries: &[&str]) -> String {
    match OutsideClient::new(private).ask(request, allow(entries)).await {
        CheckResponse::Failed(words) => words,
        answered @ CheckResponse::Answered { .. } => panic!("{answered:?}"),
    }
}

/// A server of one connection: what it was told, after it told `answer`.
async fn server(answer: Vec<u8>) -> (u16, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut heard = vec![0; 4_096];
        let n = stream.read(&mut heard).await.expect("a request");
        // A client that has enough closes first.
        let _ = stream.write_all(&answer).await;
        String::from_utf8_lossy(&heard[..n]).into_owned()
    });
    (port, heard)
}

#[test]
fn an_entry_names_a_host_with_its_port() {
    let is = |url: &str, entry: &str| Target::parse(url).expect("a URL").is(entry);
    assert!(is("https://Shop.example/x?y", "shop.example") && is("https://shop.example/x", "SHOP.example:443"));
    assert!(is("http://shop.example", "shop.example") && is("http://shop.example:8080/", "shop.example:8080"));
    assert!(is("http://[::1]:9000/", "[::1]:9000") && is("http://[2606:4700::1]/", "[2606:4700::1]"));
    for (url, entry) in [
        ("http://shop.example:8080/", "shop.example"),
        ("https://shop.example/", "shop.example:80"),
        ("https://shop.example.evil.test/", "shop.example"),
        ("https://evil.test/shop.example", "shop.example"),
        ("https://a.shop.example/", "shop.example"),
    ] {
        assert!(!is(url, entry), "{url} {entry}");
    }
    for url in ["ftp://shop.example/", "/x", "shop.example", "https://user@shop.example/", "http://a b/", "https://"] {
        assert!(Target::parse(url).is_err(), "{url}");
    }
}

#[tokio::test]
async fn private_addresses_need_the_operators_leave() {
    for host in ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "169.254.169.254", "[::ffff:127.0.0.1]", "0.0.0.0"] {
        let words = failure(false, request(&format!("http://{host}:9/")), &[&format!("{host}:9")]).await;
        assert!(words.contains("private address"), "{host}: {words}");
    }
    // Other spellings of 127.0.0.1 are addresses to whoever looks names up.
    for host in ["127.1", "2130706433", "0x7f000001"] {
        let words = failure(false, request(&format!("http://{host}:9/")), &[&format!("{host}:9")]).await;
        assert!(words.contains("private address") || words.contains("not found"), "{host}: {words}");
    }
}

#[tokio::test]
async fn what_is_not_allowed_is_not_even_looked_up() {
    let words = failure(true, request("http://nowhere.invalid/"), &["elsewhere.invalid"]).await;
    assert!(words.contains("allow-list"), "{words}");
    assert!(failure(true, request("http://nowhere.invalid/"), &[]).await.contains("allow-list"));
}

#[tokio::test]
async fn an_answer_comes_back_whatever_its_status_and_redirects_are_not_followed() {
    let (port, heard) =
        server(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 2\r\n\r\nno".to_vec()).await;
    let mut asked = request(&format!("http://127.0.0.1:{port}/check?tx=1"));
    asked.method = OutsideMethod::Post;
    asked.headers.push(("X-Shop".to_owned(), "berlin".to_owned()));
    asked.body = Bytes::from_static(b"body");
    let answered = OutsideClient::new(true).ask(asked, allow(&[&format!("127.0.0.1:{port}")])).await;
    let CheckResponse::Answered { status, headers, body } = answered else { panic!("{answered:?}") };
    assert_eq!((status, &body[..]), (302, &b"no"[..]));
    assert!(headers.contains(&("location".to_owned(), "http://127.0.0.1:1/".to_owned())));
    let heard = heard.await.expect("heard").to_ascii_lowercase();
    assert!(heard.starts_with("post /check?tx=1 http/1.1\r\n") && heard.ends_with("\r\n\r\nbody"), "{heard}");
    assert!(heard.contains(&format!("host: 127.0.0.1:{port}\r\n")) && heard.contains("x-shop: berlin\r\n"), "{heard}");
}

#[tokio::test]
async fn a_long_answer_is_cut() {
    let mut long = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n".to_vec();
    long.resize(long.len() + 1_000_000, b'x');
    let (port, _heard) = server(long).await;
    let asked = request(&format!("http://127.0.0.1:{port}/"));
    let answered = OutsideClient::new(true).ask(asked, allow(&[&format!("127.0.0.1:{port}")])).await;
    let CheckResponse::Answered { body, .. } = answered else { panic!("{answered:?}") };
    assert_eq!(body.len(), limits::CHECK_BODY_BYTES_MAX);
}

#[tokio::test]
async fn headers_of_the_connection_are_not_the_plugins() {
    for name in ["Host", "content-length", "Transfer-Encoding", "connection"] {
        let mut asked = request("http://127.0.0.1:9/");
        asked.headers.push((name.to_owned(), "x".to_owned()));
        let words = failure(true, asked, &["127.0.0.1:9"]).await;
        assert!(words.contains("the connection's own"), "{name}: {words}");
    }
    let mut asked = request("http://127.0.0.1:9/");
    asked.headers.push(("x".to_owned(), "a\r\nb: c".to_owned()));
    assert!(failure(true, asked, &["127.0.0.1:9"]).await.contains("no value"));
}
