//! Follows the feed: forgets in memory what another process changed, and so renews the lease
//! under which memory may answer (`ligand_storage::live`).

use std::time::Duration;

use ligand_storage::live::LEASE;

use crate::app::App;

/// Several polls fit into one lease, so that one slow poll does not end it.
const POLL_EVERY: Duration = Duration::from_millis(LEASE.as_millis() as u64 / 5);

/// Polls for ever.
pub async fn follow(app: App) {
    let mut position = Position::default();
    let mut failing = false;
    loop {
        match poll(&app, &mut position).await {
            Ok(()) => failing = false,
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

/// How far the feed has been read.
#[derive(Default)]
struct Position {
    /// The number to go on from; none before the first poll.
    seq: Option<i64>,
    /// The database has changed and has not been read to its end since.
    behind: bool,
}

/// One complete poll.
async fn poll(app: &App, position: &mut Position) -> Result<(), ligand_storage::StoreError> {
    let live = app.store.live();
    let began = live.poll_begins();
    let Some(mut seq) = position.seq else {
        // Memory is empty before the first poll, so only what comes after it matters.
        position.seq = Some(app.store.feed_head().await?);
        live.forget_all();
        live.polled(began);
        return Ok(());
    };
    position.behind |= app.store.changed_by_others();
    while position.behind {
        let poll = app.store.poll_feed(seq).await?;
        if poll.gap {
            live.forget_all();
        }
        live.forget(&poll.changes);
        seq = poll.seq;
        position.seq = Some(seq);
        position.behind = poll.full;
    }
    live.polled(began);
    Ok(())
}
