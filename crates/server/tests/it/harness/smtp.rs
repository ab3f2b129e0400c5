//! A mail server that takes everything, or answers as it is told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A message that was taken.
#[derive(Debug, Clone)]
pub struct Mail {
    pub recipient: String,
    /// Headers and both parts, as they came, but for the transfer encoding.
    pub text: String,
}

impl Mail {
    /// The value of a header that stands on one line.
    pub fn header(&self, name: &str) -> &str {
        let prefix = format!("{name}: ");
        self.text.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default()
    }
}

pub struct MailServer {
    pub address: SocketAddr,
    /// Answers to the next recipients; without one, they are taken.
    answers: Arc<Mutex<VecDeque<&'static str>>>,
    taken: UnboundedReceiver<Mail>,
}

impl MailServer {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let answers: Arc<Mutex<VecDeque<&'static str>>> = Arc::default();
        let (sender, taken) = unbounded_channel();
        let theirs = Arc::clone(&answers);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, Arc::clone(&theirs), sender.clone()));
            }
        });
        Self { address, answers, taken }
    }

    /// Has the next recipient be answered so.
    pub fn answers(&self, answer: &'static str) {
        self.answers.lock().push_back(answer);
    }

    /// Whether all of that was said.
    pub fn has_answered(&self) -> bool {
        self.answers.lock().is_empty()
    }

    /// The next message.
    pub async fn takes(&mut self) -> Mail {
        let patience = std::time::Duration::from_secs(20);
        let taken = tokio::time::timeout(patience, self.taken.recv()).await;
        taken.expect("a message comes").expect("the mail server runs")
    }

    /// Nothing came beside what was asked for.
    pub fn expect_no_more(&mut self) {
        assert!(self.taken.try_recv().is_err(), "no further message");
    }
}

async fn converse(
    stream: TcpStream,
    answers: Arc<Mutex<VecDeque<&'static str>>>,
    taken: UnboundedSender<Mail>,
) -> Option<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut recipient = String::new();
    write.write_all(b"220 mail.test\r\n").await.ok()?;
    loop {
        let line = lines.next_line().await.ok()??;
        let answer = match line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase().as_str() {
            "EHLO" => "250-mail.test\r\n250 8BITMIME",
            "RCPT" => {
                recipient = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                answers.lock().pop_front().unwrap_or("250 OK")
            }
            "DATA" => {
                write.write_all(b"354 go on\r\n").await.ok()?;
                let mut text = String::new();
                loop {
                    let line = lines.next_line().await.ok()??;
                    if line == "." {
                        break;
                    }
                    text += line.strip_prefix('.').unwrap_or(&line);
                    text.push('\n');
                }
                let _ = taken.send(Mail { recipient: recipient.clone(), text: decoded(&text) });
                "250 taken"
            }
            "QUIT" => {
                let _ = write.write_all(b"221 bye\r\n").await;
                return None;
            }
            _ => "250 OK",
        };
        write.write_all(format!("{answer}\r\n").as_bytes()).await.ok()?;
    }
}

/// Quoted-printable undone, as far as these tests need it: ASCII.
fn decoded(text: &str) -> String {
    text.replace("=\n", "").replace("=3D", "=")
}
