//! The rate limits of this process: which key counts for what. The arithmetic is in
//! `ligand_protocol::limits`; here are the tables, their locks and the switch that turns all off.

use std::net::IpAddr;

use ligand_protocol::UnixMs;
use ligand_protocol::ids::{SessionId, UserKey};
use ligand_protocol::limits::{
    AddressKey, CAPTCHA_RATE, KeyedBackoff, KeyedLimiter, LIMITER_KEYS_MAX, LOGIN_TOKEN_RATE, LOOKUP_RATE,
    MESSAGE_RATE, OPENID_TOKEN_RATE, RECIPIENT_RATE, RECIPIENT_RATE_IN_ALL, RateLimit, SERVICE_RATE,
};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::application_services::ApplicationService;
use crate::config::RateLimits;
use crate::error::ApiError;

/// Limits by address, account and session. Nothing here ever locks an account.
pub struct Limiters {
    enabled: bool,
    login_rate: RateLimit,
    registration_rate: RateLimit,
    refresh_rate: RateLimit,
    login: Mutex<KeyedLimiter<AddressKey>>,
    registration: Mutex<KeyedLimiter<AddressKey>>,
    /// Questions that anybody may ask: free names, valid registration tokens.
    lookup: Mutex<KeyedLimiter<AddressKey>>,
    /// Answers to captchas, each of which makes us ask the provider.
    captcha: Mutex<KeyedLimiter<AddressKey>>,
    refresh_failures: Mutex<KeyedLimiter<AddressKey>>,
    refresh_sessions: Mutex<KeyedLimiter<SessionId>>,
    accounts: Mutex<KeyedBackoff<AccountName>>,
    login_tokens: Mutex<KeyedLimiter<UserKey>>,
    openid_tokens: Mutex<KeyedLimiter<UserKey>>,
    notices: Mutex<KeyedLimiter<SessionId>>,
    /// Messages, by who asks and by who gets them.
    messages: Mutex<KeyedLimiter<AddressKey>>,
    recipients: Mutex<KeyedLimiter<AccountName>>,
    /// By the name of the application service.
    services: Mutex<KeyedLimiter<AccountName>>,
}

/// A user name as somebody typed it, of bounded size: the start of its SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AccountName([u8; 16]);

impl AccountName {
    #[must_use]
    pub fn of(typed: &str) -> Self {
        let mut start = [0; 16];
        start.copy_from_slice(&Sha256::digest(typed.as_bytes())[..16]);
        Self(start)
    }
}

/// Audit rows about one session that a client could cause in a loop: two, then one in ten minutes.
const NOTICE_RATE: RateLimit = RateLimit::one_in_ms(600_000, 2);

impl Limiters {
    #[must_use]
    pub fn new(config: &RateLimits) -> Self {
        let rate = |limit: &crate::config::RateLimit, default: RateLimit| {
            RateLimit::per_second(limit.per_second, limit.burst).unwrap_or(default)
        };
        Self {
            enabled: config.enabled,
            login_rate: rate(&config.login, ligand_protocol::limits::LOGIN_RATE),
            registration_rate: rate(&config.registration, ligand_protocol::limits::REGISTRATION_RATE),
            refresh_rate: rate(&config.refresh, ligand_protocol::limits::REFRESH_RATE),
            login: Mutex::new(KeyedLimiter::new(LIMITER_KEYS_MAX)),
            registration: Mutex::new(KeyedLimiter::new(LIMITER_KEYS_MAX)),
            lookup: Mutex::new(KeyedLimiter::new(LIMITER_KEYS_MAX)),
            captcha: Mutex::new(KeyedLimiter::new(LIMITER_KEYS_MAX)),
            refresh_failures: Mutex::new(KeyedLimiter::new(LIMITER_KEYS_MAX)),
            refresh_sessions: Mutex::new(KeyedLimiter::new(LIMITER_KEYS_MAX)),
            accounts: Mutex::new(KeyedBackoff::new(LIMITER_KEYS_MAX)),
            login_tokens: Mutex::new(KeyedLimiter::new(LIMITER_KEYS_MAX)),
            openid_tokens: Mutex::new(KeyedLimiter::new(LIMITER_KEYS_MAX)),
            notices: Mutex::new(KeyedLimiter::new(LIMITER_KEYS_MAX)),
            messages: Mutex::new(KeyedLimiter::new(LIMITER_KEYS_MAX)),
            recipients: Mutex::new(KeyedLimiter::new(LIMITER_KEYS_MAX)),
            services: Mutex::new(KeyedLimiter::new(LIMITER_KEYS_MAX)),
        }
    }

    fn take<K: Ord>(
        &self,
        table: &Mutex<KeyedLimiter<K>>,
        rate: RateLimit,
        key: K,
        now: UnixMs,
    ) -> Result<(), ApiError> {
        if !self.enabled {
            return Ok(());
        }
        table.lock().take(key, rate, now).map_err(ApiError::limited)
    }

    /// A try to sign in, before anything is looked up.
    ///
    /// # Errors
    /// 429.
    pub fn login(&self, address: IpAddr, now: UnixMs) -> Result<(), ApiError> {
        self.take(&self.login, self.login_rate, address.into(), now)
    }

    /// A try to register.
    ///
    /// # Errors
    /// 429.
    pub fn registration(&self, address: IpAddr, now: UnixMs) -> Result<(), ApiError> {
        self.take(&self.registration, self.registration_rate, address.into(), now)
    }

    /// A question whose answers could be collected.
    ///
    /// # Errors
    /// 429.
    pub fn lookup(&self, address: IpAddr, now: UnixMs) -> Result<(), ApiError> {
        self.take(&self.lookup, LOOKUP_RATE, address.into(), now)
    }

    /// A message to an e-mail address or a phone number.
    ///
    /// # Errors
    /// 429.
    pub fn message(&self, address: IpAddr, recipient: &str, now: UnixMs) -> Result<(), ApiError> {
        self.take(&self.messages, MESSAGE_RATE, address.into(), now)?;
        let network = AddressKey::from(address);
        let from_here = AccountName::of(&format!("{network:?} {recipient}"));
        self.take(&self.recipients, RECIPIENT_RATE, from_here, now)?;
        self.take(&self.recipients, RECIPIENT_RATE_IN_ALL, AccountName::of(recipient), now)
    }

    /// A login token to be made.
    ///
    /// # Errors
    /// 429.
    pub fn login_token(&self, user: UserKey, now: UnixMs) -> Result<(), ApiError> {
        self.take(&self.login_tokens, LOGIN_TOKEN_RATE, user, now)
    }

    /// An OpenID token to be made.
    ///
    /// # Errors
    /// 429.
    pub fn openid_token(&self, user: UserKey, now: UnixMs) -> Result<(), ApiError> {
        self.take(&self.openid_tokens, OPENID_TOKEN_RATE, user, now)
    }

    /// An answer to a captcha, before its provider is asked.
    ///
    /// # Errors
    /// 429.
    pub fn captcha(&self, address: IpAddr, now: UnixMs) -> Result<(), ApiError> {
        self.take(&self.captcha, CAPTCHA_RATE, address.into(), now)
    }

    /// A refresh with a genuine token: wide enough that only a runaway loop meets it.
    ///
    /// # Errors
    /// The wait in milliseconds.
    pub fn refresh(&self, session: SessionId, now: UnixMs) -> Result<(), i64> {
        if !self.enabled {
            return Ok(());
        }
        self.refresh_sessions.lock().take(session, self.refresh_rate, now)
    }

    /// A refresh with a token that is none of ours.
    ///
    /// # Errors
    /// The wait in milliseconds.
    pub fn refresh_failure(&self, address: IpAddr, now: UnixMs) -> Result<(), i64> {
        if !self.enabled {
            return Ok(());
        }
        self.refresh_failures.lock().take(address.into(), self.refresh_rate, now)
    }

    /// A try at an account's password. It counts as a failure until [`Limiters::account_settled`]
    /// says otherwise, so that parallel tries cannot all pass.
    ///
    /// # Errors
    /// The wait in milliseconds.
    pub fn account(&self, name: AccountName, now: UnixMs) -> Result<(), i64> {
        if !self.enabled {
            return Ok(());
        }
        self.accounts.lock().admit(name, now)
    }

    /// What became of an admitted try: `Some(true)` right, `Some(false)` wrong, `None` no verdict.
    pub fn account_settled(&self, name: AccountName, right: Option<bool>, now: UnixMs) {
        if !self.enabled {
            return;
        }
        let mut accounts = self.accounts.lock();
        match right {
            Some(true) => accounts.succeeded(&name),
            Some(false) => {}
            None => accounts.cancelled(&name, now),
        }
    }

    /// What an application service creates, or makes us send. Its registration file may lift this.
    ///
    /// # Errors
    /// 429.
    pub fn service(&self, service: &ApplicationService, now: UnixMs) -> Result<(), ApiError> {
        if !service.rate_limited {
            return Ok(());
        }
        self.take(&self.services, SERVICE_RATE, AccountName::of(&service.id), now)
    }

    /// Whether an audit row about something that may repeat is due. Not a matter of the switch:
    /// the audit table only grows.
    pub fn notice(&self, session: SessionId, now: UnixMs) -> bool {
        self.notices.lock().take(session, NOTICE_RATE, now).is_ok()
    }

    /// Drops what has faded.
    pub fn sweep(&self, now: UnixMs) {
        let by_address = [
            &self.login,
            &self.registration,
            &self.lookup,
            &self.captcha,
            &self.refresh_failures,
            &self.messages,
        ];
        for table in by_address {
            table.lock().drop_faded(now);
        }
        self.refresh_sessions.lock().drop_faded(now);
        self.notices.lock().drop_faded(now);
        self.recipients.lock().drop_faded(now);
        self.accounts.lock().drop_faded(now);
        for table in [&self.login_tokens, &self.openid_tokens] {
            table.lock().drop_faded(now);
        }
        self.services.lock().drop_faded(now);
    }
}
