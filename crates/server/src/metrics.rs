//! What `/metrics` shows (Prometheus text format, on a listener of its own): every refresh
//! outcome, sign-ins, endings, queue depths, commit sizes and times, latencies.

use std::sync::Arc;
use std::time::Duration;

use ligand_protocol::session::{Door, EndReason, Refusal};
use ligand_protocol::validation::Medium;
use ligand_storage::{CommitObservation, OnCommit};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::app::App;
use crate::tokens::{Issued, RefreshError, Success};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RefreshLabels {
    door: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct MessageLabels {
    medium: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResponseLabels {
    path: Arc<str>,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PathLabel {
    path: Arc<str>,
}

/// How a refresh ended, as it is counted.
#[derive(Debug, Clone, Copy)]
pub struct RefreshOutcome(&'static str);

impl RefreshOutcome {
    pub(crate) fn of(result: &Result<(Issued, Success), RefreshError>) -> Self {
        Self(match result {
            Ok((_, Success::Minted)) => "minted",
            Ok((_, Success::SamePair)) => "same_pair",
            Ok((_, Success::Resealed)) => "resealed",
            Err(RefreshError::Limited(_)) => "limited",
            Err(RefreshError::Unavailable(_)) => "unavailable",
            Err(RefreshError::Refused(refusal)) => match refusal {
                Refusal::Unknown => "unknown",
                Refusal::Ended(EndReason::Reuse) => "reuse",
                Refusal::Ended(_) => "ended",
                Refusal::SessionExpired => "session_expired",
                Refusal::Expired => "expired",
                Refusal::Spent => "spent",
                Refusal::Locked => "locked",
                Refusal::LostCommit => "lost_commit",
            },
        })
    }
}

/// Metrics of this process.
pub struct Metrics {
    registry: Registry,
    refreshes: Family<RefreshLabels, Counter>,
    sign_ins: Family<OutcomeLabel, Counter>,
    registrations: Family<OutcomeLabel, Counter>,
    endings: Family<ReasonLabel, Counter>,
    lost_commits: Counter,
    responses: Family<ResponseLabels, Counter>,
    latency: Family<PathLabel, Histogram>,
    commit_batches: Histogram,
    commit_seconds: Histogram,
    storage_queue: Gauge,
    password_queue: Gauge,
    live_sessions: Gauge,
    outbox: Gauge,
    messages: Family<MessageLabels, Counter>,
    message_seconds: Histogram,
}

/// From 50 µs to 10 s.
const SECONDS: [f64; 12] =
    [0.000_05, 0.000_2, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.5, 2.0, 10.0];
/// From a fifth of a second to three days.
const MESSAGE_SECONDS: [f64; 10] = [0.2, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 3_600.0, 21_600.0, 259_200.0];
const SIZES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

impl Metrics {
    #[must_use]
    pub fn new() -> Self {
        let seconds = || Histogram::new(SECONDS);
        let mut metrics = Self {
            registry: Registry::with_prefix("ligand"),
            refreshes: Family::default(),
            sign_ins: Family::default(),
            registrations: Family::default(),
            endings: Family::default(),
            lost_commits: Counter::default(),
            responses: Family::default(),
            latency: Family::new_with_constructor(seconds),
            commit_batches: Histogram::new(SIZES),
            commit_seconds: seconds(),
            storage_queue: Gauge::default(),
            password_queue: Gauge::default(),
            live_sessions: Gauge::default(),
            outbox: Gauge::default(),
            messages: Family::default(),
            message_seconds: Histogram::new(MESSAGE_SECONDS),
        };
        let registry = &mut metrics.registry;
        registry.register("refreshes", "Refreshes by door and outcome", metrics.refreshes.clone());
        registry.register("sign_ins", "Tries to sign in by outcome", metrics.sign_ins.clone());
        registry.register("registrations", "Tries to register by outcome", metrics.registrations.clone());
        registry.register("endings", "Ended sessions by reason", metrics.endings.clone());
        registry.register(
            "lost_commits",
            "Genuine tokens that are ahead of the database",
            metrics.lost_commits.clone(),
        );
        registry.register("responses", "Responses by path and status", metrics.responses.clone());
        registry.register_with_unit(
            "request",
            "Time to answer by path",
            Unit::Seconds,
            metrics.latency.clone(),
        );
        registry.register(
            "commit_batches",
            "Requests that shared one commit",
            metrics.commit_batches.clone(),
        );
        registry.register_with_unit(
            "commit",
            "Time of one commit",
            Unit::Seconds,
            metrics.commit_seconds.clone(),
        );
        registry.register("storage_queue", "Writes waiting for a commit", metrics.storage_queue.clone());
        registry.register("password_queue", "Passwords waiting to be hashed", metrics.password_queue.clone());
        registry.register("live_sessions", "Sessions held in memory", metrics.live_sessions.clone());
        registry.register("outbox", "Messages that wait, at the last look", metrics.outbox.clone());
        registry.register("messages", "Tries to send a message by outcome", metrics.messages.clone());
        registry.register_with_unit(
            "message_delay",
            "Time from a message's cause to its sending",
            Unit::Seconds,
            metrics.message_seconds.clone(),
        );
        metrics
    }

    pub fn refreshed(&self, door: Door, outcome: RefreshOutcome) {
        let door = match door {
            Door::Refresh => "refresh",
            Door::TokenRefresh => "tokenrefresh",
            Door::Grant => "grant",
        };
        self.refreshes.get_or_create(&RefreshLabels { door, outcome: outcome.0 }).inc();
    }

    /// A try to sign in: `success`, `wrong`, `locked`, `deactivated`, `limited`, `busy`.
    pub fn signed_in(&self, outcome: &'static str) {
        self.sign_ins.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// A try to register: `success`, `guest`, `taken`, `token_spent`.
    pub fn registered(&self, outcome: &'static str) {
        self.registrations.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    pub fn ended(&self, reason: EndReason) {
        self.endings.get_or_create(&ReasonLabel { reason: reason.as_str() }).inc();
    }

    pub fn lost_commit(&self) {
        self.lost_commits.inc();
    }

    /// A response; `path` is the route, not what was asked for.
    pub fn responded(&self, path: &Arc<str>, status: u16, took: Duration) {
        self.responses.get_or_create(&ResponseLabels { path: Arc::clone(path), status }).inc();
        self.latency.get_or_create(&PathLabel { path: Arc::clone(path) }).observe(took.as_secs_f64());
    }

    /// A try to send a message: `sent`, `failed` (it is tried again) or `dropped`.
    pub fn message(&self, medium: Medium, outcome: &'static str) {
        self.messages.get_or_create(&MessageLabels { medium: medium.as_str(), outcome }).inc();
    }

    /// How long a message that was sent had waited.
    pub fn message_waited(&self, waited: Duration) {
        self.message_seconds.observe(waited.as_secs_f64());
    }

    /// Messages that expired before they could be sent.
    pub fn messages_expired(&self, count: u64) {
        if count > 0 {
            self.messages.get_or_create(&MessageLabels { medium: "any", outcome: "expired" }).inc_by(count);
        }
    }

    pub fn outbox_depth(&self, depth: i64) {
        self.outbox.set(depth);
    }

    /// What storage calls after every commit.
    #[must_use]
    pub fn commit_observer(&self) -> OnCommit {
        let (batches, seconds) = (self.commit_batches.clone(), self.commit_seconds.clone());
        Arc::new(move |commit: CommitObservation| {
            // Exact for every count below 2^53.
            #[allow(clippy::cast_precision_loss)]
            batches.observe(commit.batches as f64);
            seconds.observe(Duration::from_micros(commit.microseconds).as_secs_f64());
        })
    }

    /// The text of `/metrics`.
    ///
    /// # Errors
    /// When a metric cannot be written as text.
    pub fn text(&self, app: &App) -> Result<String, std::fmt::Error> {
        let depth = |depth: usize| i64::try_from(depth).unwrap_or(i64::MAX);
        self.storage_queue.set(depth(app.store.queue_depth()));
        self.password_queue.set(depth(app.passwords.queue_depth()));
        self.live_sessions.set(depth(app.store.live().len()));
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
