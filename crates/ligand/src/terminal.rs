//! What a person is asked: to confirm, and for a password.
//!
//! Only where the standard input is a terminal. Scripts are never asked.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Context, anyhow, bail};
use ligand_protocol::limits::PASSWORD_BYTES_MAX;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::failure::Failure;

/// Asks before something that cannot be undone. `yes` answers beforehand; without a terminal the
/// command itself is the answer.
pub fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    let stdin = std::io::stdin();
    if yes || !stdin.is_terminal() {
        return Ok(());
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    stdin.read_line(&mut answer).context("cannot read the answer")?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Failure::Failed(anyhow!("not confirmed; nothing was changed"))),
    }
}

/// A new password: one line of the standard input, or asked for twice at the terminal.
pub fn new_password(from_stdin: bool) -> Result<Zeroizing<String>, Failure> {
    if from_stdin {
        return Ok(first_line(std::io::stdin().lock())?);
    }
    if !std::io::stdin().is_terminal() {
        let text = "no password given; write it to the standard input and add --password-stdin";
        return Err(Failure::Refused(anyhow!(text)));
    }
    let first = ask("Password: ")?;
    let again = ask("Again: ")?;
    if *first != *again {
        let text = "the two passwords differ; nothing was changed";
        return Err(Failure::Failed(anyhow!(text)));
    }
    Ok(first)
}

/// The first line without its line feed, and nothing else taken away: a password may end in blanks.
fn first_line(input: impl BufRead) -> anyhow::Result<Zeroizing<String>> {
    // One more than allowed, so that a longer one is seen to be too long.
    let mut line = Zeroizing::new(Vec::with_capacity(PASSWORD_BYTES_MAX + 2));
    input
        .take(PASSWORD_BYTES_MAX as u64 + 2)
        .read_until(b'\n', &mut line)
        .context("cannot read the password")?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    if line.is_empty() {
        bail!("the password is empty; write it to the standard input, in one line");
    }
    let text = std::str::from_utf8(&line).context("the password is not UTF-8 text")?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn ask(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    eprint!("{prompt}");
    let hidden = Hidden::new()?;
    let line = first_line(std::io::stdin().lock());
    drop(hidden);
    eprintln!();
    line
}

/// While it lives, the terminal does not show what is typed.
struct Hidden(Termios);

impl Hidden {
    fn new() -> anyhow::Result<Self> {
        std::io::stderr().flush().context("cannot write to the terminal")?;
        let shown = tcgetattr(std::io::stdin()).context("cannot ask the terminal")?;
        let mut quiet = shown.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &quiet).context("cannot hide what is typed")?;
        Ok(Self(shown))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // The process ends anyway; there is nobody to tell.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(input: &[u8]) -> Option<String> {
        first_line(input).ok().map(|line| line.to_string())
    }

    #[test]
    fn only_the_line_feed_is_taken_away() {
        assert_eq!(read(b"secret\n").as_deref(), Some("secret"));
        assert_eq!(read(b"secret").as_deref(), Some("secret"));
        assert_eq!(read(b" secret \nmore\n").as_deref(), Some(" secret "));
        assert_eq!(read(b"secret\r\n").as_deref(), Some("secret\r"));
    }

    #[test]
    fn nothing_and_nonsense_are_refused() {
        assert_eq!(read(b""), None);
        assert_eq!(read(b"\n"), None);
        assert_eq!(read(b"\xff\xfe\n"), None);
        // What is longer than any password stays too long, and is not read to its end.
        let long = read(&vec![b'x'; 10 * PASSWORD_BYTES_MAX]).map(|line| line.len());
        assert_eq!(long, Some(PASSWORD_BYTES_MAX + 2));
    }
}
