//! NOTIFY: the wake-up for whoever polls the feed of changes. A hint, never a source of truth: it
//! may come late, twice or not at all.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use deadpool_postgres::Pool;
use futures_util::{TryStreamExt, stream::poll_fn};
use tokio::{sync::Notify, task::JoinHandle};
use tokio_postgres::AsyncMessage;

use super::{connect::Connector, give_up, take};

const LISTEN: &str = "listen ligand_changes";
/// A lost hint costs nothing, so it need not wait for the disk.
const NOTIFY: &str = "select set_config('synchronous_commit', 'off', true),
                             pg_notify('ligand_changes', '')";
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(50);
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(2);

/// Sends NOTIFY, at most one at a time: PostgreSQL lets all transactions that notify commit one
/// after the other, so a storm of them would hold up their own commits.
#[derive(Default)]
pub(super) struct Announce {
    asked: AtomicBool,
    turn: tokio::sync::Mutex<()>,
}

impl Announce {
    /// Returns when a notification has gone out after this call began, by this task or another.
    pub(super) async fn announce(&self, pool: &Pool) {
        if self.asked.swap(true, Ordering::AcqRel) {
            return;
        }
        let _turn = self.turn.lock().await;
        self.asked.store(false, Ordering::Release);
        let Ok(client) = take(pool).await else { return };
        if client.batch_execute(NOTIFY).await.is_err() {
            give_up(client);
        }
    }
}

/// A connection of its own that listens, and comes back when it is lost.
pub(super) struct Listener {
    heard: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Listener {
    pub(super) fn start(connector: Connector) -> Self {
        let heard = Arc::new(Notify::new());
        let task = tokio::spawn(keep_listening(connector, heard.clone()));
        Listener { heard, task }
    }

    /// Returns when something was announced since the last call.
    pub(super) async fn heard(&self) {
        self.heard.notified().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep_listening(connector: Connector, heard: Arc<Notify>) {
    let mut pause = RECONNECT_PAUSE_MIN;
    loop {
        match listen(&connector, &heard).await {
            Ok(()) => pause = RECONNECT_PAUSE_MIN,
            Err(error) => {
                tracing::debug!(%error, "cannot listen for changes");
                pause = (pause * 2).min(RECONNECT_PAUSE_MAX);
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// Listens until the connection is lost; an error if it could not be made.
async fn listen(connector: &Connector, heard: &Notify) -> Result<(), tokio_postgres::Error> {
    let (client, mut connection) = connector.connect().await?;
    let messages = poll_fn(move |context| connection.poll_message(context));
    // Ends with the first error: the connection would report it again for ever.
    let receive = messages.try_for_each(async |message| {
        if let AsyncMessage::Notification(_) = message {
            heard.notify_one();
        }
        Ok(())
    });
    let mut receive = std::pin::pin!(receive);
    tokio::select! {
        ended = &mut receive => return ended,
        listening = client.batch_execute(LISTEN) => listening?,
    }
    // Something may have been announced while nobody listened.
    heard.notify_one();
    if let Err(error) = receive.await {
        tracing::debug!(%error, "the listening connection was lost");
    }
    Ok(())
}
