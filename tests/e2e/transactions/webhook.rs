//! A service that the built-in `webhook` asks.

use super::*;

/// A check-back service: answers every request with this status line and body; says what it was asked.
pub(super) fn service(answer: &'static str) -> (String, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("address").to_string();
    let (heard, asked) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = vec![0; 8_192];
            let n = stream.read(&mut request).unwrap_or(0);
            let body = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
                answer.len()
            );
            // A client that went away needs no answer.
            let _ = stream.write_all(body.as_bytes());
            if heard.send(String::from_utf8_lossy(&request[..n]).into_owned()).is_err() {
                return;
            }
        }
    });
    (address, asked)
}

pub(super) fn bind_webhook(server: &Server, url: &str, allow: &str) {
    let binding = json!({"slot": "check-back", "topic": "orders", "plugin": "builtin/webhook", "version": "0.1.0",
        "config": {"url": url, "allow": [allow]}, "limits": {"wall_ms": 1000}});
    server.json("PUT", &format!("{T}/bindings/shop"), &binding).expect(201);
}

pub(super) fn prepared_soon(server: &Server) -> String {
    let headers = [("Content-Type", "text/plain"), ("Pm-Check-After-Ms", "50"), ("Pm-Key", "1042")];
    let path = format!("{T}/topics/orders/transactions");
    let prepared = server.call("POST", &path, &headers, b"half").expect(201);
    prepared["transaction"].as_str().expect("an id").to_owned()
}
