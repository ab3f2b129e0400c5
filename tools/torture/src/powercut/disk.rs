//! A disk in memory whose power can be cut and whose calls can fail: what the file system of
//! `vfs` works on.
//!
//! Files have a [`Medium`] each; names have their own fate, since a new or removed name lasts only
//! once the folder has been synced. The main database file's name lasts at once: the store makes it
//! so before SQLite ever sees the file. Shared memory (`-shm`) is not on the disk at all.
//! Errors are SQLite's numbers, so that nothing is translated twice.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{c_int, c_void};
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::ffi;

use super::locks::{FileLocks, Handle, ShmLocks};
use super::medium::{Medium, Survival};
use crate::rng::Rng;

/// Files by name, as another process (or the next start) finds them.
pub type Image = BTreeMap<String, Vec<u8>>;

/// What is to go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// Nothing.
    Sound,
    /// The power goes at the n-th call that changes the disk (a sync counts), which has no effect
    /// of its own.
    CutAt(u64),
    /// The n-th call that can fail fails, and so do those after it up to `times` in all.
    FailFrom { call: u64, times: u64, full: bool },
}

/// A call that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Open,
    Read,
    Write,
    Truncate,
    Sync,
    Size,
    Delete,
    Access,
    Lock,
    ShmMap,
}

impl Call {
    /// The number that SQLite's own file system would give.
    fn error(self, full: bool) -> c_int {
        match self {
            Self::Open => ffi::SQLITE_CANTOPEN,
            Self::Read => ffi::SQLITE_IOERR_READ,
            Self::Write if full => ffi::SQLITE_FULL,
            Self::Write => ffi::SQLITE_IOERR_WRITE,
            Self::Truncate => ffi::SQLITE_IOERR_TRUNCATE,
            Self::Sync => ffi::SQLITE_IOERR_FSYNC,
            Self::Size => ffi::SQLITE_IOERR_FSTAT,
            Self::Delete => ffi::SQLITE_IOERR_DELETE,
            Self::Access => ffi::SQLITE_IOERR_ACCESS,
            Self::Lock => ffi::SQLITE_IOERR_LOCK,
            Self::ShmMap => ffi::SQLITE_IOERR_SHMSIZE,
        }
    }

    fn changes(self) -> bool {
        matches!(self, Self::Write | Self::Truncate | Self::Sync | Self::Delete)
    }
}

/// The result of a call, with SQLite's number for the error.
pub type Answer<T = ()> = Result<T, c_int>;

/// A disk; shared by the connections of a store.
#[derive(Debug)]
pub struct Disk {
    state: Mutex<State>,
    /// How long a sync takes: while it lasts, others gather for the next one.
    sync_time: Duration,
}

#[derive(Debug)]
struct State {
    files: Vec<File>,
    names: BTreeMap<String, Name>,
    plan: Plan,
    rng: Rng,
    calls: u64,
    changes: u64,
    handles: Handle,
    cut: bool,
    failed: Vec<Call>,
}

#[derive(Debug, Default)]
struct File {
    medium: Medium,
    locks: FileLocks,
    shm_locks: ShmLocks,
    shm_users: BTreeSet<Handle>,
    /// Shared with C, which reads and writes it atomically: hence the type.
    shm: Vec<Box<[AtomicU64]>>,
}

/// Which file a name stands for: on the medium, and after each change not yet synced.
#[derive(Debug, Default)]
struct Name {
    durable: Option<usize>,
    unsynced: Vec<(u64, Option<usize>)>,
}

impl Name {
    fn now(&self) -> Option<usize> {
        self.unsynced.last().map_or(self.durable, |(_, file)| *file)
    }

    fn after(&self, survival: Survival, rng: &mut Rng) -> Option<usize> {
        let kept = match survival {
            Survival::Nothing => 0,
            Survival::Until(at) => self.unsynced.iter().filter(|(then, _)| *then < at).count(),
            Survival::Scattered => rng.below(self.unsynced.len() as u64 + 1) as usize,
            Survival::Everything => self.unsynced.len(),
        };
        kept.checked_sub(1).map_or(self.durable, |last| self.unsynced[last].1)
    }
}

/// An open file.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    pub file: usize,
    pub handle: Handle,
    pub created: bool,
}

impl Disk {
    /// A disk with these files, all durable.
    pub fn new(image: Image, plan: Plan, sync_time: Duration, rng: Rng) -> Self {
        let mut files = Vec::new();
        let mut names = BTreeMap::new();
        for (name, bytes) in image {
            names.insert(name, Name { durable: Some(files.len()), unsynced: Vec::new() });
            files.push(File { medium: Medium::of(bytes), ..File::default() });
        }
        let (calls, changes, handles) = (0, 0, 0);
        let (cut, failed) = (false, Vec::new());
        let state = State { files, names, plan, rng, calls, changes, handles, cut, failed };
        Self { state: Mutex::new(state), sync_time }
    }

    /// Whether the power is off. From then on every call fails and changes nothing.
    pub fn is_cut(&self) -> bool {
        self.state.lock().cut
    }

    /// Calls so far that could have failed.
    pub fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    /// Calls that were made to fail.
    pub fn failed(&self) -> Vec<Call> {
        self.state.lock().failed.clone()
    }

    /// What the next process finds while the power stays on.
    pub fn seen(&self) -> Image {
        let state = self.state.lock();
        let named = state.names.iter().filter_map(|(name, entry)| Some((name.clone(), entry.now()?)));
        named.map(|(name, file)| (name, state.files[file].medium.seen().to_vec())).collect()
    }

    /// What the next start finds after a power cut.
    pub fn after_cut(&self, survival: Survival) -> Image {
        let state = &mut *self.state.lock();
        let mut image = Image::new();
        for (name, entry) in &state.names {
            if let Some(file) = entry.after(survival, &mut state.rng) {
                let bytes = state.files[file].medium.after(survival, &mut state.rng);
                image.insert(name.clone(), bytes);
            }
        }
        image
    }

    /// A fate for the unsynced: each kind equally often.
    pub fn fate(&self) -> Survival {
        let state = &mut *self.state.lock();
        match state.rng.below(4) {
            0 => Survival::Nothing,
            1 => Survival::Until(state.rng.below(state.changes + 2)),
            2 => Survival::Scattered,
            _ => Survival::Everything,
        }
    }

    /// Opens a file. A `lasting` name is durable at once.
    pub fn open(&self, name: &str, create: bool, lasting: bool) -> Answer<Opened> {
        let mut state = self.state.lock();
        state.step(Call::Open)?;
        state.handles += 1;
        let handle = state.handles;
        if let Some(file) = state.names.get(name).and_then(Name::now) {
            return Ok(Opened { file, handle, created: false });
        }
        if !create {
            return Err(ffi::SQLITE_CANTOPEN);
        }
        let file = state.files.len();
        state.files.push(File::default());
        state.rename(name, Some(file));
        if lasting {
            state.sync_names();
        }
        Ok(Opened { file, handle, created: true })
    }

    pub fn exists(&self, name: &str) -> Answer<bool> {
        let mut state = self.state.lock();
        state.step(Call::Access)?;
        Ok(state.names.get(name).and_then(Name::now).is_some())
    }

    /// Removes a name; open files live on.
    pub fn delete(&self, name: &str, sync_folder: bool) -> Answer {
        let mut state = self.state.lock();
        state.step(Call::Delete)?;
        if state.names.get(name).and_then(Name::now).is_none() {
            return Err(ffi::SQLITE_IOERR_DELETE_NOENT);
        }
        state.rename(name, None);
        if sync_folder {
            state.sync_names();
        }
        Ok(())
    }

    /// Fills the buffer, with zeros beyond the end (`SQLITE_IOERR_SHORT_READ`).
    pub fn read(&self, file: usize, offset: usize, buffer: &mut [u8]) -> Answer {
        let mut state = self.state.lock();
        state.step(Call::Read)?;
        let there = state.files[file].medium.seen().get(offset..).unwrap_or_default();
        let len = there.len().min(buffer.len());
        buffer[..len].copy_from_slice(&there[..len]);
        buffer[len..].fill(0);
        if len < buffer.len() { Err(ffi::SQLITE_IOERR_SHORT_READ) } else { Ok(()) }
    }

    /// Writes. When that fails, half of it has been written.
    pub fn write(&self, file: usize, offset: usize, bytes: &[u8]) -> Answer {
        let mut state = self.state.lock();
        let step = state.step(Call::Write);
        let written = match step {
            Ok(()) => bytes,
            Err(_) if state.cut => return step,
            Err(_) => &bytes[..bytes.len() / 2],
        };
        let at = state.changes;
        state.files[file].medium.write(at, offset, written);
        step
    }

    pub fn truncate(&self, file: usize, len: usize) -> Answer {
        let mut state = self.state.lock();
        state.step(Call::Truncate)?;
        let at = state.changes;
        state.files[file].medium.truncate(at, len);
        Ok(())
    }

    /// Makes a file durable, and the names in its folder where the caller syncs that too.
    pub fn sync(&self, file: usize, folder: bool) -> Answer {
        std::thread::sleep(self.sync_time);
        let state = &mut *self.state.lock();
        let step = state.step(Call::Sync);
        match step {
            Ok(()) => state.files[file].medium.sync(),
            Err(_) if state.cut => return step,
            Err(_) => state.files[file].medium.fail_sync(&mut state.rng),
        }
        if folder && step.is_ok() {
            state.sync_names();
        }
        step
    }

    pub fn size(&self, file: usize) -> Answer<usize> {
        let mut state = self.state.lock();
        state.step(Call::Size)?;
        Ok(state.files[file].medium.seen().len())
    }

    pub fn lock(&self, opened: Opened, level: c_int) -> Answer {
        let mut state = self.state.lock();
        state.step(Call::Lock)?;
        busy_unless(state.files[opened.file].locks.lock(opened.handle, level))
    }

    pub fn unlock(&self, opened: Opened, level: c_int) {
        self.state.lock().files[opened.file].locks.unlock(opened.handle, level);
    }

    pub fn is_reserved(&self, file: usize) -> bool {
        self.state.lock().files[file].locks.is_reserved()
    }

    /// A region of the shared memory; null where it does not exist and is not to be made. It stays
    /// until every user has called [`Disk::shm_leave`].
    pub fn shm_map(&self, opened: Opened, region: usize, bytes: usize, make: bool) -> Answer<*mut c_void> {
        let mut state = self.state.lock();
        if make {
            state.step(Call::ShmMap)?;
        }
        let file = &mut state.files[opened.file];
        file.shm_users.insert(opened.handle);
        while make && file.shm.len() <= region {
            file.shm.push((0..bytes / 8).map(|_| AtomicU64::new(0)).collect());
        }
        let region = file.shm.get(region);
        Ok(region.map_or(std::ptr::null_mut(), |region| region.as_ptr().cast_mut().cast()))
    }

    pub fn shm_lock(&self, opened: Opened, first: usize, count: usize, alone: bool) -> Answer {
        let state = &mut *self.state.lock();
        busy_unless(state.files[opened.file].shm_locks.lock(opened.handle, first, count, alone))
    }

    pub fn shm_unlock(&self, opened: Opened, first: usize, count: usize) {
        self.state.lock().files[opened.file].shm_locks.unlock(opened.handle, first, count);
    }

    /// Leaves the shared memory. The last one out takes it along: the next one in finds zeros and
    /// reads the log anew, as after SQLite's own file system has cleared a left-over file.
    pub fn shm_leave(&self, opened: Opened) {
        let state = &mut *self.state.lock();
        let file = &mut state.files[opened.file];
        file.shm_users.remove(&opened.handle);
        file.shm_locks.unlock(opened.handle, 0, ffi::SQLITE_SHM_NLOCK as usize);
        if file.shm_users.is_empty() {
            file.shm.clear();
        }
    }
}

impl State {
    /// Counts a call, and says whether it fails.
    fn step(&mut self, call: Call) -> Answer {
        if self.cut {
            return Err(call.error(false));
        }
        self.calls += 1;
        self.changes += u64::from(call.changes());
        match self.plan {
            Plan::CutAt(change) if call.changes() && self.changes == change => {
                self.cut = true;
                Err(call.error(false))
            }
            Plan::FailFrom { call: from, times, full } if (from..from + times).contains(&self.calls) => {
                self.failed.push(call);
                Err(call.error(full))
            }
            _ => Ok(()),
        }
    }

    fn rename(&mut self, name: &str, file: Option<usize>) {
        let at = self.changes;
        self.names.entry(name.to_owned()).or_default().unsynced.push((at, file));
    }

    fn sync_names(&mut self) {
        for name in self.names.values_mut() {
            name.durable = name.now();
            name.unsynced.clear();
        }
    }
}

fn busy_unless(granted: bool) -> Answer {
    if granted { Ok(()) } else { Err(ffi::SQLITE_BUSY) }
}

/// Writes the files of an image into a folder.
pub fn write_image(image: &Image, folder: &Path) -> std::io::Result<()> {
    image.iter().try_for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes))
}
