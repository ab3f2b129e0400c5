//! Sends what waits in the outbox: claims a few messages, makes them, sends them, settles them.
//!
//! A message that was not taken is tried again, ten seconds later and then after ever longer, until
//! it expires. One that a mail server refuses for good is dropped. When the server stops, what is
//! being sent is sent to its end. What a crash leaves claimed is free again when the lease is over.

use std::time::Duration;

use futures_util::future::join_all;
use ligand_protocol::UnixMs;
use ligand_protocol::limits::{SEND_LEASE_MS, SEND_RETRY_MS, SEND_RETRY_MS_MAX, SENDING_MAX};
use ligand_protocol::validation::Medium;
use ligand_storage::StoreError;
use ligand_storage::outbox::Claimed;
use tokio::sync::watch;

use crate::app::App;
use crate::mail::{NotSent, domain_of};

/// Between two looks when nobody says that there is a message: those of the command line and of
/// other processes, and those whose time to be tried again has come.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Sends until `shutdown` is true.
pub async fn run(app: App, mut shutdown: watch::Receiver<bool>) {
    if ![Medium::Email, Medium::Msisdn].into_iter().any(|medium| app.mail.is_configured(medium)) {
        return;
    }
    let mut complaint = Complaint::default();
    loop {
        if let Err(error) = send_all(&app, &mut complaint, &shutdown).await {
            tracing::warn!(%error, "cannot read the outbox; messages wait");
        }
        app.mail.rest().await;
        tokio::select! {
            () = app.mail.woken() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = crate::serve::stopped(&mut shutdown) => return,
        }
    }
}

/// Sends whatever is due.
async fn send_all(
    app: &App,
    complaint: &mut Complaint,
    shutdown: &watch::Receiver<bool>,
) -> Result<(), StoreError> {
    while !*shutdown.borrow() {
        let now = app.clock.now();
        let claimed = app.store.claim_mail(now, now + SEND_LEASE_MS, SENDING_MAX).await?;
        app.metrics.outbox_depth(app.store.outbox_depth().await?);
        if claimed.is_empty() {
            return Ok(());
        }
        for outcome in join_all(claimed.iter().map(|claimed| send(app, claimed))).await {
            complaint.hear(outcome?);
        }
    }
    Ok(())
}

/// Sends one message and settles it. What storage cannot settle is sent again after its lease.
async fn send(app: &App, claimed: &Claimed) -> Result<Result<(), NotSent>, StoreError> {
    let Claimed { id, attempts, message } = claimed;
    let sent = app.mail.send(&app.keys, &app.outgoing, claimed, app.clock.now()).await;
    let now = app.clock.now();
    let outcome = match &sent {
        Ok(()) => "sent",
        Err(NotSent::Unreachable(_) | NotSent::Later(_)) => "failed",
        Err(NotSent::Never(_)) => "dropped",
    };
    app.metrics.message(message.medium, outcome);
    match &sent {
        Ok(()) => {
            let waited = u64::try_from(now - message.created_at).unwrap_or(0);
            app.metrics.message_waited(Duration::from_millis(waited));
            app.store.mail_sent(*id, *attempts).await?
        }
        Err(NotSent::Unreachable(_) | NotSent::Later(_)) => {
            app.store.mail_failed(*id, *attempts, now + retry_after(*attempts)).await?
        }
        Err(NotSent::Never(_)) => app.store.mail_dropped(*id, *attempts).await?,
    };
    let (domain, template) = (domain_of(&message.recipient), &message.template);
    match &sent {
        Ok(()) => tracing::debug!(domain, template, attempts, "a message was sent"),
        Err(NotSent::Unreachable(why)) => tracing::debug!(domain, template, attempts, why, "a message waits"),
        Err(NotSent::Later(why)) => tracing::info!(domain, template, attempts, why, "a message waits"),
        Err(NotSent::Never(why)) => tracing::warn!(domain, template, why, "a message was dropped"),
    }
    Ok(sent)
}

/// How long to wait after so many tries.
fn retry_after(attempts: i64) -> UnixMs {
    (SEND_RETRY_MS << (attempts - 1).clamp(0, 16)).min(SEND_RETRY_MS_MAX)
}

/// Whether it has been said that nothing can be sent: once, not for each message.
#[derive(Default)]
struct Complaint(bool);

impl Complaint {
    fn hear(&mut self, outcome: Result<(), NotSent>) {
        match outcome {
            Ok(()) if self.0 => {
                tracing::info!("messages are sent again");
                self.0 = false;
            }
            Err(NotSent::Unreachable(why)) if !self.0 => {
                tracing::warn!(why, "messages cannot be sent; they wait, and are tried again");
                self.0 = true;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_an_hour() {
        let waits: Vec<_> = (1..=11).map(|attempts| retry_after(attempts) / 1_000).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 3_600, 3_600]);
        assert_eq!(retry_after(i64::MAX), SEND_RETRY_MS_MAX);
        assert_eq!(retry_after(0), SEND_RETRY_MS);
    }
}
