//! Every cap and every lifetime of its own that the server has, each with the reason for its
//! value, and the pure limiters that hold abuse down.
//!
//! Lifetimes of tokens and sessions are the operator's (`[sessions]` in the configuration); the
//! numbers here are not. Times are milliseconds, sizes bytes unless the name says characters.
//! The limiters are plain data changed through `&mut self`: the server owns the locks, decides
//! what to ask them about, and asks nothing while `[rate_limits] enabled = false`.

mod backoff;
mod keyed;
mod rate;

pub use backoff::AccountBackoff;
pub use keyed::{AddressKey, Fading, Keyed, KeyedBackoff, KeyedLimiter};
pub use rate::{LeakyBucket, RateLimit, RetryAfterMs};

use crate::UnixMs;

const SECOND_MS: UnixMs = 1_000;
const MINUTE_MS: UnixMs = 60 * SECOND_MS;
const HOUR_MS: UnixMs = 60 * MINUTE_MS;
const DAY_MS: UnixMs = 24 * HOUR_MS;

// ---- one request ----

/// Largest request body. The largest honest one, `delete_devices` with a thousand names, is a
/// third of it; Matrix caps whole events at the same 64 KiB.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Largest request line and headers together: twice the 8 KiB that nginx and Apache let through,
/// so a request that passed a common proxy never dies here.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Most header fields in a request; browsers behind two proxies send about forty.
pub const HEADERS_MAX: usize = 100;
/// Longest wait for a complete header. A phone on a bad link needs a few seconds; a slow-header
/// attack wants minutes.
pub const HEADER_READ_MS_MAX: UnixMs = 10 * SECOND_MS;
/// Longest wait for a complete body, at most 64 KiB: a bad link does it in a few seconds.
pub const BODY_READ_MS_MAX: UnixMs = 15 * SECOND_MS;
/// Longest time for a whole request, body and answer included: as long as common clients wait.
pub const REQUEST_MS_MAX: UnixMs = 30 * SECOND_MS;
/// Longest silence on a kept connection. Longer than the 60 s that nginx keeps an upstream
/// connection, so the proxy closes first and never sends into a closed one.
pub const IDLE_CONNECTION_MS_MAX: UnixMs = 75 * SECOND_MS;
/// Most open connections: room for 10,000 idle clients, which together may cost 100 MiB.
pub const CONNECTIONS_MAX: usize = 10_240;
/// Longest wait for requests under way when asked to stop: the whole-request time, so that none
/// is cut that could still have finished.
pub const DRAIN_MS_MAX: UnixMs = REQUEST_MS_MAX;

/// Most of another server's answer that is read, for calls that we make. What the known ones
/// answer stays under 1 KiB; what asks for more is broken or hostile.
pub const OUTGOING_BODY_BYTES_MAX: usize = 64 * 1024;

// ---- messages ----

/// How long an address can be validated, and the proof counts, after it was asked for: a slow mail
/// and a person who finishes the form; short enough that a forgotten link is soon worth nothing.
pub const VALIDATION_LIFETIME_MS: UnixMs = HOUR_MS;
/// Wrong codes after which one message's code is dead: five guesses at eight digits.
pub const CODE_FAILURES_MAX: u32 = 5;

/// Messages that one address may have sent: a household that signs up together, no mail bomb.
pub const MESSAGE_RATE: RateLimit = RateLimit::one_in_ms(MINUTE_MS, 10);
/// Messages that one address may have sent to one recipient: a few lost mails.
pub const RECIPIENT_RATE: RateLimit = RateLimit::one_in_ms(10 * MINUTE_MS, 3);
/// Messages to one recipient, whoever asks: no mail bomb, and more than one stranger alone can use
/// up, so that the owner still gets a reset.
pub const RECIPIENT_RATE_IN_ALL: RateLimit = RateLimit::one_in_ms(4 * MINUTE_MS, 12);
/// Messages that wait, at most: past it nothing more is asked for, so that a flood does not keep
/// what people wait for behind it for hours.
pub const OUTBOX_MAX: i64 = 10_000;
/// Addresses of one account: more than a person has, few enough that a notice goes to all.
pub const THREEPIDS_MAX: usize = 10;
/// How long a notice is tried: after three days of a broken mail server it is no news any more.
pub const NOTICE_LIFETIME_MS: UnixMs = 3 * DAY_MS;
/// How long sending one message may take in all; a mail server that is slower gets it again later.
pub const SEND_MS_MAX: UnixMs = 30 * SECOND_MS;
/// How long a message belongs to who is sending it: longer than sending and settling take.
pub const SEND_LEASE_MS: UnixMs = SEND_MS_MAX + 15 * SECOND_MS;
/// Wait before a message is tried again; it doubles with each try, up to the most.
pub const SEND_RETRY_MS: UnixMs = 10 * SECOND_MS;
pub const SEND_RETRY_MS_MAX: UnixMs = HOUR_MS;
/// Messages that one process sends at once: a mail server counts connections.
pub const SENDING_MAX: u32 = 4;

// ---- one value ----

/// Longest device display name, in characters; longer ones are refused. A line of a device list.
pub const DISPLAY_NAME_CHARS_MAX: usize = 256;
/// Longest part of a `User-Agent` kept, in bytes, cut at a character: browsers stay under 200.
pub const USER_AGENT_BYTES_MAX: usize = 256;
/// Most devices in one `delete_devices`: one storage batch that delays no other writer.
pub const DELETE_DEVICES_MAX: usize = 1_000;

/// Fewest characters of a new password (NIST SP 800-63B, revision 3, §5.1.1.2).
pub const PASSWORD_CHARS_MIN: usize = 8;
/// Most characters of a password: far beyond any passphrase, small enough to hash without effort.
pub const PASSWORD_CHARS_MAX: usize = 512;
/// Most bytes of a password before normalising, so that the work is bounded: 512 characters take
/// at most 12 bytes each when fully decomposed, rounded up.
pub const PASSWORD_BYTES_MAX: usize = 8 * 1024;

// ---- waiting lines and background work ----

/// Password verifications that may wait for a worker. Argon2id takes some 30 ms, so on one worker
/// the last in line waits 2 s: longer lines only serve people who have gone.
pub const PASSWORD_QUEUE_MAX: usize = 64;
/// Longest wait in that line before the answer is 429.
pub const PASSWORD_WAIT_MS_MAX: UnixMs = 2 * SECOND_MS;
/// How often a lost race is run again (load, ask, commit) before the answer is 503.
pub const CONFLICT_ATTEMPTS_MAX: u32 = 3;
/// Ended sessions keep their row and reason this long, so that a device coming back from a
/// drawer is told the truth about its old tokens.
pub const ENDED_ROW_LIFETIME_MS: UnixMs = 30 * DAY_MS;
/// Rows that one step of upkeep touches: a few milliseconds of the one SQLite writer.
pub const UPKEEP_ROWS_MAX: usize = 500;
/// Pause between rounds of upkeep: expired seals are erased within a minute.
pub const UPKEEP_INTERVAL_MS: UnixMs = 30 * SECOND_MS;

// ---- user-interactive authentication ----

/// Life of an authentication session: time to find a registration token or a password, short
/// enough that a walked-away-from screen authorises nothing.
pub const AUTH_SESSION_LIFETIME_MS: UnixMs = 10 * MINUTE_MS;
/// Longest answer to a captcha: providers write 2 KiB, and say to expect more.
pub const CAPTCHA_RESPONSE_BYTES_MAX: usize = 16 * 1024;

// ---- tokens for one purpose ----

/// Life of a login token: what the specification recommends, time to carry it to another device.
pub const LOGIN_TOKEN_LIFETIME_MS: UnixMs = 2 * MINUTE_MS;

/// Life of an OpenID token, as everywhere in Matrix: third parties ask again when it ends.
pub const OPENID_TOKEN_LIFETIME_MS: UnixMs = HOUR_MS;

// ---- rates, the defaults of `[rate_limits]` ----

/// Sign-in attempts per address: ten at once for a household behind one address, then one in six
/// seconds, which makes a guessed password a matter of years.
pub const LOGIN_RATE: RateLimit = RateLimit::one_in_ms(6 * SECOND_MS, 10);
/// Registrations per address: a family of three, then one in twenty minutes.
pub const REGISTRATION_RATE: RateLimit = RateLimit::one_in_ms(20 * MINUTE_MS, 3);
/// Genuine refreshes per session, and refused refresh tokens per address: so wide that only a
/// runaway loop meets it.
pub const REFRESH_RATE: RateLimit = RateLimit::one_in_ms(SECOND_MS / 2, 120);
/// Questions per address that reveal whether a name or a registration token exists: as fast as a
/// person types a name, too slow to walk through a dictionary.
pub const LOOKUP_RATE: RateLimit = RateLimit::one_in_ms(SECOND_MS, 30);
/// Login tokens per account: the one in a minute that the specification suggests, after three for
/// somebody who sets up a phone, a tablet and a computer.
pub const LOGIN_TOKEN_RATE: RateLimit = RateLimit::one_in_ms(MINUTE_MS, 3);
/// OpenID tokens per account: a page full of widgets at once, then one in ten seconds.
pub const OPENID_TOKEN_RATE: RateLimit = RateLimit::one_in_ms(10 * SECOND_MS, 30);
/// Answers to captchas per address: each makes us ask the provider. Ten for a person who misreads
/// them, then one in ten seconds.
pub const CAPTCHA_RATE: RateLimit = RateLimit::one_in_ms(10 * SECOND_MS, 10);
/// What one application service creates: users, devices, sessions, pings. Wide, since a bridge makes
/// its users by the hundred when it first starts; only a runaway loop should meet it.
pub const SERVICE_RATE: RateLimit = RateLimit::one_in_ms(SECOND_MS / 10, 300);

/// Failures per account that cost nothing: ten, for a person who goes through their passwords.
pub const ACCOUNT_FAILURES_FREE: u32 = 10;
/// The first delay after those; it doubles with each failure.
pub const ACCOUNT_DELAY_MS_MIN: UnixMs = SECOND_MS;
/// The longest delay. Four guesses an hour are hopeless for the guesser, and a quarter of an hour
/// is bearable for the owner: an account is never locked by failures.
pub const ACCOUNT_DELAY_MS_MAX: UnixMs = 15 * MINUTE_MS;
/// One failure is forgotten in this time. Equal to the longest delay, so patience gains a guesser
/// nothing over the long run, and a whole evening of failures is forgotten by morning.
pub const ACCOUNT_FORGET_MS: UnixMs = ACCOUNT_DELAY_MS_MAX;

/// Keys that one limiter remembers: 3 MiB where addresses are the keys, 20 MiB at worst where
/// user names are. Past it the least loaded keys are forgotten first.
pub const LIMITER_KEYS_MAX: usize = 65_536;
