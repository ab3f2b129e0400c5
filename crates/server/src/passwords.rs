//! Password hashing: Argon2id in a bounded pool of threads with a bounded queue.
//!
//! A hash costs a core some tens of milliseconds and 19 MiB, so there are never more at once than
//! cores less one (at least one), at a lower priority than the threads that answer requests (I23).
//! A full queue or a wait over two seconds is [`Busy`], which sign-in answers with 429.
//! Passwords arrive normalised (NFKC, in `ligand_protocol::password`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use argon2::password_hash::phc;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use data_encoding::BASE64_NOPAD;
use ligand_protocol::limits::{PASSWORD_QUEUE_MAX, PASSWORD_WAIT_MS_MAX};
use ligand_protocol::password::NormalisedPassword;
use ligand_storage::users::PasswordHash;
use parking_lot::{Condvar, Mutex};
use subtle::ConstantTimeEq as _;
use tokio::sync::oneshot;

/// OWASP's Argon2id parameters: 19 MiB, two passes, one lane.
pub const MEMORY_KIB: u32 = 19 * 1024;
pub const PASSES: u32 = 2;
pub const LANES: u32 = 1;
const OUTPUT: usize = 32;
/// How much nicer than the rest of the process the hashing threads are.
const NICE: i32 = 10;

/// The pool is overloaded; nothing was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// What a verification found.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Wrong,
    /// Right; with a new hash, if the stored one has other parameters than today's.
    Right {
        rehashed: Option<PasswordHash>,
    },
}

enum Work {
    /// No hash where there is no such account or it has no password: then the same work is done
    /// on a hash that nothing matches.
    Verify {
        password: NormalisedPassword,
        hash: Option<PasswordHash>,
        salt: [u8; 16],
        answer: oneshot::Sender<Verdict>,
    },
    Hash {
        password: NormalisedPassword,
        salt: [u8; 16],
        answer: oneshot::Sender<PasswordHash>,
    },
}

impl Work {
    fn abandoned(&self) -> bool {
        match self {
            Self::Verify { answer, .. } => answer.is_closed(),
            Self::Hash { answer, .. } => answer.is_closed(),
        }
    }
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(Instant, Work)>,
    closed: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
}

/// The pool. Cheap to clone; its threads end when the last clone is gone.
#[derive(Clone)]
pub struct Passwords {
    shared: Arc<Shared>,
    _closer: Arc<Closer>,
}

struct Closer(Arc<Shared>);

impl Drop for Closer {
    fn drop(&mut self) {
        self.0.queue.lock().closed = true;
        self.0.arrived.notify_all();
    }
}

impl Passwords {
    /// Starts cores − 1 threads, at least one.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start() -> std::io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let shared = Arc::new(Shared { queue: Mutex::default(), arrived: Condvar::new() });
        for at in 0..cores.saturating_sub(1).max(1) {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name(format!("password-{at}")).spawn(move || work(&shared))?;
        }
        Ok(Self { _closer: Arc::new(Closer(Arc::clone(&shared))), shared })
    }

    /// Verifies a password. `salt` is fresh randomness for a new hash, should one be due.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn verify(
        &self,
        password: NormalisedPassword,
        hash: Option<PasswordHash>,
        salt: [u8; 16],
    ) -> Result<Verdict, Busy> {
        let (answer, verdict) = oneshot::channel();
        self.push(Work::Verify { password, hash, salt, answer })?;
        verdict.await.map_err(|_| Busy)
    }

    /// Hashes a new password.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn hash(&self, password: NormalisedPassword, salt: [u8; 16]) -> Result<PasswordHash, Busy> {
        let (answer, hash) = oneshot::channel();
        self.push(Work::Hash { password, salt, answer })?;
        hash.await.map_err(|_| Busy)
    }

    /// How many wait.
    #[must_use]
    pub fn queue_depth(&self) -> usize {
        self.shared.queue.lock().waiting.len()
    }

    fn push(&self, work: Work) -> Result<(), Busy> {
        let mut queue = self.shared.queue.lock();
        if queue.waiting.len() >= PASSWORD_QUEUE_MAX {
            // Whoever went away in the meantime makes room.
            queue.waiting.retain(|(_, work)| !work.abandoned());
            if queue.waiting.len() >= PASSWORD_QUEUE_MAX {
                return Err(Busy);
            }
        }
        queue.waiting.push_back((Instant::now(), work));
        drop(queue);
        self.shared.arrived.notify_one();
        Ok(())
    }
}

fn work(shared: &Shared) {
    // Linux keeps a nice value per thread; where that is not so, or not allowed, all stays equal.
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        tracing::debug!(%error, "cannot lower the priority of a password thread");
    }
    let mut hasher = Hasher::new();
    let wait_max = Duration::from_millis(PASSWORD_WAIT_MS_MAX.unsigned_abs());
    loop {
        let mut queue = shared.queue.lock();
        let (arrived, work) = loop {
            if let Some(next) = queue.waiting.pop_front() {
                break next;
            }
            if queue.closed {
                return;
            }
            shared.arrived.wait(&mut queue);
        };
        drop(queue);
        // Dropping the work drops its answer's sender: the caller learns that it was busy here.
        if arrived.elapsed() > wait_max || work.abandoned() {
            continue;
        }
        match work {
            Work::Verify { password, hash, salt, answer } => {
                drop(answer.send(hasher.verify(&password, hash.as_ref(), &salt)));
            }
            Work::Hash { password, salt, answer } => {
                if let Some(hash) = hasher.hash(&password, &salt) {
                    drop(answer.send(hash));
                }
            }
        }
    }
}

/// One thread's Argon2id with its memory, so that no hash has to ask for 19 MiB anew.
struct Hasher {
    blocks: Vec<Block>,
}

impl Hasher {
    fn new() -> Self {
        Self { blocks: Vec::new() }
    }

    fn raw(&mut self, argon2: &Argon2<'_>, password: &[u8], salt: &[u8], out: &mut [u8]) -> bool {
        let blocks = argon2.params().block_count();
        if self.blocks.len() < blocks {
            self.blocks.resize(blocks, Block::default());
        }
        argon2.hash_password_into_with_memory(password, salt, out, &mut self.blocks[..blocks]).is_ok()
    }

    fn hash(&mut self, password: &NormalisedPassword, salt: &[u8; 16]) -> Option<PasswordHash> {
        let mut out = [0; OUTPUT];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, todays_params()?);
        self.raw(&argon2, password.as_bytes(), salt, &mut out).then(|| {
            let (salt, hash) = (BASE64_NOPAD.encode(salt), BASE64_NOPAD.encode(&out));
            PasswordHash(format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${salt}${hash}"))
        })
    }

    fn verify(
        &mut self,
        password: &NormalisedPassword,
        stored: Option<&PasswordHash>,
        salt: &[u8; 16],
    ) -> Verdict {
        let Some(stored) = stored.and_then(|stored| Stored::read(&stored.0)) else {
            // The same work, so that time does not tell which accounts exist.
            let _ = self.hash(password, salt);
            return Verdict::Wrong;
        };
        let mut found = vec![0; stored.hash.len()];
        let computed = self.raw(&stored.argon2, password.as_bytes(), &stored.salt, &mut found);
        if !computed || !bool::from(found.ct_eq(&stored.hash)) {
            return Verdict::Wrong;
        }
        Verdict::Right { rehashed: if stored.current { None } else { self.hash(password, salt) } }
    }
}

/// A stored hash, taken apart.
struct Stored {
    argon2: Argon2<'static>,
    salt: Vec<u8>,
    hash: Vec<u8>,
    /// Made with today's parameters.
    current: bool,
}

impl Stored {
    fn read(text: &str) -> Option<Self> {
        let phc = phc::PasswordHash::new(text).ok()?;
        let algorithm = Algorithm::try_from(phc.algorithm.as_str()).ok()?;
        let version =
            phc.version.map_or(Some(Version::default()), |version| Version::try_from(version).ok())?;
        let params = Params::try_from(&phc).ok()?;
        let today = todays_params()?;
        let current = algorithm == Algorithm::Argon2id
            && version == Version::V0x13
            && (params.m_cost(), params.t_cost(), params.p_cost())
                == (today.m_cost(), today.t_cost(), today.p_cost());
        Some(Self {
            argon2: Argon2::new(algorithm, version, params),
            salt: phc.salt?.as_ref().to_vec(),
            hash: phc.hash?.as_bytes().to_vec(),
            current,
        })
    }
}

fn todays_params() -> Option<Params> {
    Params::new(MEMORY_KIB, PASSES, LANES, Some(OUTPUT)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> NormalisedPassword {
        NormalisedPassword::presented(text).unwrap_or_else(|_| panic!("too long"))
    }

    #[test]
    fn a_hash_verifies_its_password_only() {
        let mut hasher = Hasher::new();
        let hash = hasher.hash(&password("ilovebananas"), &[7; 16]).unwrap();
        assert!(hash.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_eq!(
            hasher.verify(&password("ilovebananas"), Some(&hash), &[8; 16]),
            Verdict::Right { rehashed: None }
        );
        assert_eq!(hasher.verify(&password("ilovebanana"), Some(&hash), &[8; 16]), Verdict::Wrong);
        assert_eq!(hasher.verify(&password("ilovebananas"), None, &[8; 16]), Verdict::Wrong);
    }

    #[test]
    fn a_hash_of_other_parameters_is_made_anew() {
        let mut hasher = Hasher::new();
        let old = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(4096, 3, 1, None).unwrap());
        let mut out = [0; 32];
        old.hash_password_into(b"ilovebananas", b"somesaltsomesalt", &mut out).unwrap();
        let (salt, hash) = (BASE64_NOPAD.encode(b"somesaltsomesalt"), BASE64_NOPAD.encode(&out));
        let stored = PasswordHash(format!("$argon2id$v=19$m=4096,t=3,p=1${salt}${hash}"));
        let Verdict::Right { rehashed: Some(new) } =
            hasher.verify(&password("ilovebananas"), Some(&stored), &[9; 16])
        else {
            panic!("not rehashed")
        };
        assert!(new.0.contains("m=19456,t=2,p=1"));
        assert!(matches!(
            hasher.verify(&password("ilovebananas"), Some(&new), &[9; 16]),
            Verdict::Right { rehashed: None }
        ));
    }

    #[tokio::test]
    async fn a_full_queue_says_busy_at_once() {
        let passwords = Passwords::start().unwrap();
        let tries = (0..200).map(|_| {
            let passwords = passwords.clone();
            tokio::spawn(async move { passwords.verify(password("something long"), None, [1; 16]).await })
        });
        let mut busy = 0;
        for task in tries.collect::<Vec<_>>() {
            busy += usize::from(task.await.unwrap() == Err(Busy));
        }
        assert!((200 - PASSWORD_QUEUE_MAX - 64..200).contains(&busy), "{busy}");
    }
}
