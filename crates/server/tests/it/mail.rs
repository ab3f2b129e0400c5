//! What leaves the outbox: notices of sign-ins, passwords and reuse, links and codes; what is
//! tried again and what is dropped. What arrives at a real mail server is tested in `tests/mail`.

use ligand_protocol::ids::ValidationId;
use ligand_protocol::validation::{Code, Medium};
use ligand_server::config::{Config, SecretText, Security};
use ligand_storage::outbox::Message;
use ligand_storage::params;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::both;
use crate::harness::{HOUR, MailServer, SECOND, Server, User};

fn email(config: &mut Config, mail: &MailServer) {
    config.email.host = Some("127.0.0.1".to_owned());
    config.email.port = Some(mail.address.port());
    config.email.security = Security::None;
    config.email.from = Some("Ligand <no-reply@example.org>".parse().unwrap());
    config.http.public_url = Some("https://matrix.example.org".to_owned());
}

async fn with_mail(server: Server) -> (Server, MailServer) {
    let mail = MailServer::start().await;
    let server = server.with(|config| email(config, &mail)).await;
    (server, mail)
}

async fn user_with_address(server: &Server, name: &str) -> User {
    let user = server.user(name).await;
    let sql = "INSERT INTO threepids (medium, address, user_id, validated_at, added_at) VALUES ('email', $1, $2, 0, 0)";
    let write = ligand_storage::Write::one(sql, params![format!("{name}@example.com"), user.key]);
    server.store().commit(vec![write], Vec::new()).await.unwrap();
    user
}

/// Waits until the sending side has settled a try, as the row shows it.
async fn until(server: &Server, sql: &'static str, wanted: i64) {
    let begun = std::time::Instant::now();
    while server.store().read(sql, Vec::new()).await.unwrap()[0].int(0).unwrap() != wanted {
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{sql} is never {wanted}");
        tokio::task::yield_now().await;
    }
}

async fn until_empty(server: &Server) {
    until(server, "SELECT COUNT(*) FROM outbox", 0).await;
}

fn metric(server: &Server, line: &str) -> bool {
    server.app().metrics.text(server.app()).unwrap().contains(line)
}

async fn enqueue(server: &Server, medium: Medium, recipient: &str, template: &str, params: Value) {
    let message = Message {
        medium,
        recipient: recipient.to_owned(),
        template: template.to_owned(),
        params: params.to_string(),
        created_at: server.now(),
        expires_at: server.now() + HOUR,
    };
    server.store().add_mail(&message).await.unwrap();
    server.app().mail.wake();
}

both! {
    async fn a_sign_in_on_a_new_device_is_told_once(server: Server) {
        let (server, mut mail) = with_mail(server).await;
        let alice = user_with_address(&server, "alice").await;
        let body = json!({"device_id": "PHONE", "initial_device_display_name": "Élise’s\r\nBcc: x@example.com"});
        alice.log_in_with(body.clone()).await;
        let told = mail.takes().await;
        assert_eq!(told.recipient, "alice@example.com");
        assert_eq!(told.header("Subject"), "New sign-in to @alice:example.org on example.org");
        assert_eq!(told.header("From"), "Ligand <no-reply@example.org>");
        assert_eq!(told.header("To"), "alice@example.com");
        assert_eq!(told.header("Auto-Submitted"), "auto-generated");
        assert!(told.header("Message-ID").ends_with("@example.org>"), "{}", told.text);
        assert_eq!(told.header("Date"), "Fri, 15 Jan 2027 08:00:00 +0000");
        assert_eq!(told.header("Bcc"), "");
        assert!(told.text.contains("PHONE") && told.text.contains("127.0.0.1"), "{}", told.text);
        assert!(told.text.contains("text/plain") && told.text.contains("text/html"), "{}", told.text);
        // The same device again, and somebody without an address.
        alice.log_in_with(body).await;
        server.user("bob").await.log_in().await;
        until_empty(&server).await;
        alice.log_in().await;
        assert!(!mail.takes().await.text.contains("PHONE"));
        until_empty(&server).await;
        mail.expect_no_more();
        assert!(metric(&server, r#"ligand_messages_total{medium="email",outcome="sent"} 2"#));
    }

    async fn a_changed_password_and_an_ended_family_are_told(server: Server) {
        let (server, mut mail) = with_mail(server).await;
        let alice = user_with_address(&server, "alice").await;
        let mut client = alice.log_in_with(json!({"device_id": "PHONE"})).await;
        mail.takes().await;
        let spent = client.clone();
        for _ in 0..3 {
            client.refresh().await;
            client.whoami().await.expect_ok();
        }
        spent.try_to_refresh().await.expect_unknown_token(true);
        let told = mail.takes().await;
        assert_eq!(told.header("Subject"), "A session of @alice:example.org on example.org was ended");
        assert!(told.text.contains("PHONE"), "{}", told.text);
        let client = alice.log_in_with(json!({"device_id": "PHONE"})).await;
        let new = json!({"new_password": "another good passphrase"});
        client.post_with_password("v3/account/password", new).await.expect_ok();
        let told = mail.takes().await;
        assert_eq!(told.header("Subject"), "Your password on example.org was changed");
        until_empty(&server).await;
        mail.expect_no_more();
    }

    async fn without_mail_or_notices_nothing_waits(server: Server) {
        let alice = user_with_address(&server, "alice").await;
        alice.log_in().await;
        assert_eq!(server.store().outbox_depth().await, Ok(0));
        assert!(!server.app().mail.is_configured(Medium::Email));
        let mail = MailServer::start().await;
        let server = server.with(|config| { email(config, &mail); config.email.notices = false; }).await;
        alice.log_in().await;
        assert_eq!(server.store().outbox_depth().await, Ok(0));
        assert!(server.app().mail.is_configured(Medium::Email));
        assert!(!server.app().mail.is_configured(Medium::Msisdn));
    }

    async fn what_is_refused_for_now_is_tried_again(server: Server) {
        let (server, mut mail) = with_mail(server).await;
        mail.answers("451 4.7.1 greylisted <alice@example.com>");
        mail.answers("421 too many");
        user_with_address(&server, "alice").await.log_in().await;
        until(&server, "SELECT due_at - created_at FROM outbox", 10 * SECOND).await;
        server.pass(10 * SECOND);
        server.app().mail.wake();
        until(&server, "SELECT due_at - created_at FROM outbox", 30 * SECOND).await;
        mail.expect_no_more();
        server.pass(20 * SECOND);
        server.app().mail.wake();
        mail.takes().await;
        until_empty(&server).await;
        assert!(mail.has_answered());
        assert!(metric(&server, r#"ligand_messages_total{medium="email",outcome="failed"} 2"#));
        assert!(metric(&server, "ligand_message_delay_seconds_count 1"));
    }

    async fn what_is_refused_for_good_is_dropped(server: Server) {
        let (server, mut mail) = with_mail(server).await;
        mail.answers("550 5.1.1 no such mailbox");
        let alice = user_with_address(&server, "alice").await;
        alice.log_in().await;
        until_empty(&server).await;
        assert!(metric(&server, r#"ligand_messages_total{medium="email",outcome="dropped"} 1"#));
        mail.expect_no_more();
        alice.log_in().await;
        mail.takes().await;
    }

    async fn a_mail_server_that_is_away_loses_nothing(server: Server) {
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut mail = MailServer::start().await;
        let away = nobody.local_addr().unwrap();
        drop(nobody);
        let server = server.with(|config| { email(config, &mail); config.email.port = Some(away.port()); }).await;
        user_with_address(&server, "alice").await.log_in().await;
        until(&server, "SELECT due_at - created_at FROM outbox", 10 * SECOND).await;
        let server = server.with(|config| email(config, &mail)).await;
        server.pass(10 * SECOND);
        server.app().mail.wake();
        mail.takes().await;
        until_empty(&server).await;
        mail.expect_no_more();
    }

    async fn a_claim_that_a_crash_left_is_free_when_its_lease_is_over(server: Server) {
        let mut mail = MailServer::start().await;
        enqueue(&server, Medium::Email, "a@example.com", "test", json!({})).await;
        let now = server.now();
        assert_eq!(server.store().claim_mail(now, now + 45 * SECOND, 10).await.unwrap().len(), 1);
        let server = server.with(|config| email(config, &mail)).await;
        server.pass(45 * SECOND);
        server.app().mail.wake();
        assert_eq!(mail.takes().await.recipient, "a@example.com");
        until_empty(&server).await;
        mail.expect_no_more();
    }

    async fn a_link_validates_and_is_in_no_table(server: Server) {
        let (server, mut mail) = with_mail(server).await;
        let params = json!({"validation": "05".repeat(16), "message": 3});
        enqueue(&server, Medium::Email, "a@example.com", "validate_register", params).await;
        let text = mail.takes().await.text;
        let code = Code::derive(&server.app().keys, ValidationId([5; 16]), 3, Medium::Email);
        let link = format!(
            "https://matrix.example.org/_matrix/client/unstable/org.ligand/validate/email?sid={}&token={}",
            "05".repeat(16), code.expose()
        );
        assert!(text.contains(&format!("\n{link}\n")), "{text}");
        assert!(text.contains(&format!("href=\"{}\"", link.replace('&', "&amp;").replace('/', "&#x2f;"))), "{text}");
    }

    async fn a_text_message_goes_to_the_hook(server: Server) {
        let hook = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/send", hook.local_addr().unwrap());
        let server = server.with(|config| {
            config.sms.hook_url = Some(url);
            config.sms.hook_token = Some(SecretText::new("hook-secret"));
        }).await;
        assert!(server.app().mail.is_configured(Medium::Msisdn));
        let params = json!({"validation": "05".repeat(16), "message": 1});
        enqueue(&server, Medium::Msisdn, "491701234567", "validate_3pid", params).await;
        let mut asked = Vec::new();
        for status in ["500 No", "204 Done"] {
            let (mut stream, _) = hook.accept().await.unwrap();
            let mut bytes = vec![0; 4_096];
            let length = stream.read(&mut bytes).await.unwrap();
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            drop(stream);
            asked.push(String::from_utf8(bytes[..length].to_vec()).unwrap());
            if status.starts_with('5') {
                until(&server, "SELECT due_at - created_at FROM outbox", 10 * SECOND).await;
                server.pass(10 * SECOND);
                server.app().mail.wake();
            }
        }
        until_empty(&server).await;
        assert_eq!(asked[0], asked[1]);
        assert!(asked[0].starts_with("POST /send HTTP/1.1\r\n"), "{}", asked[0]);
        assert!(asked[0].contains("authorization: Bearer hook-secret\r\n"), "{}", asked[0]);
        let body: Value = serde_json::from_str(asked[0].split_once("\r\n\r\n").unwrap().1).unwrap();
        let code = Code::derive(&server.app().keys, ValidationId([5; 16]), 1, Medium::Msisdn);
        assert_eq!(body["to"], "491701234567");
        assert!(body["text"].as_str().unwrap().starts_with(code.expose()), "{body}");
    }

    async fn many_messages_are_sent_once_each(server: Server) {
        let (server, mut mail) = with_mail(server).await;
        for number in 0..20 {
            enqueue(&server, Medium::Email, &format!("a{number}@example.com"), "test", json!({})).await;
        }
        let mut recipients = Vec::new();
        for _ in 0..20 {
            recipients.push(mail.takes().await.recipient);
        }
        until_empty(&server).await;
        mail.expect_no_more();
        recipients.sort();
        recipients.dedup();
        assert_eq!(recipients.len(), 20);
    }
}
