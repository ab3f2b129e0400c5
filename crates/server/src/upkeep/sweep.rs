//! Removes what has had its time: ended sessions after thirty days, sessions past their absolute
//! end, seals whose window is over, authentication sessions, expired validations, tokens for one purpose and
//! messages, old changes of the feed, what memory no longer needs. Also keeps the clock's floor.

use std::time::Duration;

use ligand_protocol::UnixMs;
use ligand_protocol::ids::SessionId;
use ligand_protocol::limits::{ENDED_ROW_LIFETIME_MS, UPKEEP_ROWS_MAX};
use ligand_storage::StoreError;

use crate::app::App;

/// Every process has polled the feed long before.
const FEED_KEPT_MS: UnixMs = 10 * 60_000;
/// Between two stretches of the table: a sweep takes its time, requests do not.
const BREATH: Duration = Duration::from_millis(20);
const ROWS: u32 = UPKEEP_ROWS_MAX as u32;

/// Sweeps for ever. The whole sessions table is walked at start, where a crash may have left
/// seals, and then once in every [`WALK_EVERY`] rounds.
pub async fn run(app: App) {
    const WALK_EVERY: u32 = 120;
    let mut round = 0_u32;
    loop {
        if let Err(error) = sweep(&app, round.is_multiple_of(WALK_EVERY)).await {
            tracing::warn!(%error, "upkeep was interrupted; it goes on in the next round");
        }
        round = round.wrapping_add(1);
        tokio::time::sleep(super::interval()).await;
    }
}

/// One round.
///
/// # Errors
/// Storage trouble; what was done until then stays done.
pub async fn sweep(app: &App, walk: bool) -> Result<(), StoreError> {
    let now = app.clock.now();
    app.store.raise_clock_floor(now).await?;
    app.limiters.sweep(now);
    app.store.live().sweep();
    app.store.trim_feed(now - FEED_KEPT_MS).await?;
    while app.store.delete_expired_uia(now, ROWS).await? == u64::from(ROWS) {
        tokio::time::sleep(BREATH).await;
    }
    while app.store.delete_expired_validations(now, ROWS).await? == u64::from(ROWS) {
        tokio::time::sleep(BREATH).await;
    }
    while app.store.delete_expired_login_tokens(now, ROWS).await? == u64::from(ROWS) {
        tokio::time::sleep(BREATH).await;
    }
    while app.store.delete_expired_openid_tokens(now, ROWS).await? == u64::from(ROWS) {
        tokio::time::sleep(BREATH).await;
    }
    loop {
        let expired = app.store.delete_expired_mail(now, ROWS).await?;
        app.metrics.messages_expired(expired);
        if expired < u64::from(ROWS) {
            break;
        }
        tokio::time::sleep(BREATH).await;
    }
    while app.store.delete_ended_sessions(now - ENDED_ROW_LIFETIME_MS, ROWS).await? == u64::from(ROWS) {
        tokio::time::sleep(BREATH).await;
    }
    if walk { walk_sessions(app, now).await } else { Ok(()) }
}

async fn walk_sessions(app: &App, now: UnixMs) -> Result<(), StoreError> {
    let windows = &app.windows;
    let mut after = SessionId([0; 16]);
    while let Some(stretch) = app.store.next_stretch(after, ROWS).await? {
        app.store.erase_seals(stretch, now - windows.oauth_retry_ms, now - windows.legacy_retry_ms).await?;
        app.store.end_expired(stretch, now).await?;
        after = stretch.to;
        tokio::time::sleep(BREATH).await;
    }
    Ok(())
}
