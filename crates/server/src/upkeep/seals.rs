//! Erases sealed successors once their retry window is over. The process that acknowledged a
//! session remembers it here; what a crash forgets, the sweep finds.

use std::collections::VecDeque;
use std::time::Duration;

use ligand_protocol::UnixMs;
use ligand_protocol::ids::SessionId;
use ligand_protocol::session::Api;
use parking_lot::Mutex;

use crate::app::App;

const ROUND: Duration = Duration::from_secs(5);
/// Beyond this the sweep does the work.
const REMEMBERED_MAX: usize = 100_000;

struct Due {
    at: UnixMs,
    session: SessionId,
    generation: u32,
}

/// Seals that are due, by API, since each API has one window: so each queue is in order of time.
#[derive(Default)]
pub struct Seals([Mutex<VecDeque<Due>>; 2]);

impl Seals {
    /// A session was acknowledged: its seal is due when the retry window of its API ends.
    pub fn acknowledged(&self, app: &App, session: SessionId, generation: u32, api: Api, now: UnixMs) {
        let window = app.windows.retry_ms(api);
        if window == 0 {
            // The acknowledgement itself has erased it.
            return;
        }
        let mut queue = self.0[api as usize].lock();
        if queue.len() < REMEMBERED_MAX {
            queue.push_back(Due { at: now.saturating_add(window), session, generation });
        }
    }

    fn pop(&self, now: UnixMs) -> Option<Due> {
        self.0.iter().find_map(|queue| {
            let mut queue = queue.lock();
            if queue.front().is_some_and(|due| due.at <= now) { queue.pop_front() } else { None }
        })
    }
}

/// Erases for ever.
pub async fn run(app: App) {
    loop {
        while let Some(due) = app.seals.pop(app.clock.now()) {
            if let Err(error) = app.store.erase_seal(due.session, due.generation).await {
                tracing::warn!(%error, "cannot erase a seal; the sweep will");
                break;
            }
        }
        tokio::time::sleep(ROUND).await;
    }
}
