//! Follows the feed: forgets in memory what another process changed, and so renews the lease
//! under which memory may answer (`ligand_storage::live`).

use std::time::Duration;

use ligand_storage::live::LEASE;

use crate::app::App;

/// Several polls fit into one lease, so that one slow poll does not end it.
const POLL_EVERY: Duration = Duration::from_millis(LEASE.as_millis() as u64 / 5);

/// Polls for ever.
pub async fn follow(app: App) {
    let mut seq = None;
    let mut failing = false;
    loop {
        match poll(&app, seq).await {
            Ok(next) => {
                seq = Some(next);
                failing = false;
            }
            Err(error) => {
                if !failing {
                    tracing::error!(%error, "cannot follow changes by other processes; checks read the database");
                }
                failing = true;
            }
        }
        app.store.wait_for_notify(POLL_EVERY).await;
    }
}

/// One complete poll; the number to go on from.
async fn poll(app: &App, seq: Option<i64>) -> Result<i64, ligand_storage::StoreError> {
    let live = app.store.live();
    let began = live.poll_begins();
    let Some(mut seq) = seq else {
        // Memory is empty before the first poll, so only what comes after it matters.
        let head = app.store.feed_head().await?;
        live.forget_all();
        live.polled(began);
        return Ok(head);
    };
    if app.store.changed_by_others() {
        loop {
            let poll = app.store.poll_feed(seq).await?;
            if poll.gap {
                live.forget_all();
            }
            live.forget(&poll.changes);
            seq = poll.seq;
            if !poll.full {
                break;
            }
        }
    }
    live.polled(began);
    Ok(seq)
}
