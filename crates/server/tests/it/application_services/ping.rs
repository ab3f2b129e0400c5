//! `POST /appservice/{appserviceId}/ping`, with an application service that listens.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{Bridged, OTHER_TOKEN};
use crate::both;
use crate::harness::{Request, Server};

/// An application service: answers each call with these bytes, or not at all.
struct Listening {
    url: String,
    heard: Arc<Mutex<Vec<String>>>,
}

async fn listening(answer: Option<String>) -> Listening {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/below/", listener.local_addr().unwrap());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = Arc::clone(&heard);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"}") && stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
            }
            hears.lock().push(String::from_utf8(request).unwrap());
            if let Some(answer) = &answer {
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            held.push(stream);
        }
    });
    Listening { url, heard }
}

fn http(status: &str, body: &str) -> Option<String> {
    Some(format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
}

fn ping(bridged: &Bridged, body: Value) -> Request {
    bridged.asks("POST", "v1/appservice/bridge/ping").json(body)
}

both! {
    async fn a_service_that_answers_is_reached(server: Server) {
        let service = listening(http("200 OK", "{}")).await;
        let bridged = Bridged::on(server, Some(&service.url)).await;
        let answer = ping(&bridged, json!({"transaction_id": "meow"})).await.expect_ok();
        assert!(answer["duration_ms"].as_u64().is_some_and(|ms| ms < 10_000), "{answer}");
        let heard = service.heard.lock()[0].clone();
        assert!(heard.starts_with("POST /below/_matrix/app/v1/ping HTTP/1.1\r\n"), "{heard}");
        assert!(heard.contains("authorization: Bearer hs-secret\r\n"), "{heard}");
        assert!(heard.ends_with(r#"{"transaction_id":"meow"}"#), "{heard}");
        ping(&bridged, json!({})).await.expect_ok();
        assert!(service.heard.lock()[1].ends_with("\r\n\r\n{}"));
        bridged.asks("POST", "v1/appservice/bridge/ping").await.expect_ok();
    }

    async fn a_bad_status_is_passed_on_with_the_body(server: Server) {
        let long = "x".repeat(5_000);
        let service = listening(http("401 Unauthorized", &format!("é{long}"))).await;
        let bridged = Bridged::on(server, Some(&service.url)).await;
        let answer = ping(&bridged, json!({})).await.expect(502, "M_BAD_STATUS");
        assert_eq!(answer["status"], 401);
        assert_eq!(answer["body"], format!("é{}", &long[..999]));
    }

    async fn a_redirect_is_a_bad_status(server: Server) {
        let elsewhere = listening(http("200 OK", "{}")).await;
        let moved = format!("HTTP/1.1 307 Moved\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", elsewhere.url);
        let service = listening(Some(moved)).await;
        let bridged = Bridged::on(server, Some(&service.url)).await;
        assert_eq!(ping(&bridged, json!({})).await.expect(502, "M_BAD_STATUS")["status"], 307);
        assert!(elsewhere.heard.lock().is_empty());
    }

    async fn who_does_not_listen_is_not_reached(server: Server) {
        let bridged = Bridged::on(server, Some("http://127.0.0.1:1")).await;
        let answer = ping(&bridged, json!({})).await;
        answer.expect(502, "M_CONNECTION_FAILED");
        assert!(!answer.text.contains("hs-secret") && !answer.text.contains("127.0.0.1"), "{answer:?}");
    }

    async fn who_does_not_answer_times_out(server: Server) {
        let service = listening(None).await;
        let server = server.with(|config| config.outgoing.timeout = Duration::from_millis(100)).await;
        let bridged = Bridged::on(server, Some(&service.url)).await;
        ping(&bridged, json!({})).await.expect(504, "M_CONNECTION_TIMEOUT");
    }

    async fn without_a_url_there_is_nothing_to_reach(bridged: Bridged) {
        ping(&bridged, json!({})).await.expect(400, "M_URL_NOT_SET");
    }

    async fn only_the_service_itself_may_ask(bridged: Bridged) {
        let alice = bridged.server.user("alice").await.log_in().await;
        let ask = |token: &str| {
            bridged.server.post("v1/appservice/bridge/ping").bearer(token).json(json!({"transaction_id": 1}))
        };
        ask(&alice.tokens.access_token).await.expect(403, "M_FORBIDDEN");
        ask(OTHER_TOKEN).await.expect(403, "M_FORBIDDEN");
        ask("nobodys").await.expect_unknown_token(false);
        bridged.asks("POST", "v1/appservice/other/ping").await.expect(403, "M_FORBIDDEN");
        bridged.asks("POST", "v1/appservice/%ff/ping").await.expect(403, "M_FORBIDDEN");
        ping(&bridged, json!({"transaction_id": 1})).await.expect(400, "M_INVALID_PARAM");
    }
}
