//! The locks of one file, as SQLite asks a file system for them: the five levels of the database
//! file, and the eight slots of the shared memory beside a write-ahead log. All connections are in
//! this process, so a map of who holds what is enough.

use std::collections::BTreeMap;

use rusqlite::ffi;

/// One open file, for telling its locks from others'.
pub type Handle = u64;

/// Levels of the database file (`SQLITE_LOCK_NONE` … `SQLITE_LOCK_EXCLUSIVE`) by holder.
#[derive(Debug, Default)]
pub struct FileLocks(BTreeMap<Handle, i32>);

impl FileLocks {
    /// Raises a lock; false when others are in the way. On the way to an exclusive one a pending
    /// lock may stay, which keeps new readers out.
    pub fn lock(&mut self, handle: Handle, wanted: i32) -> bool {
        let held = self.level(handle);
        if held >= wanted {
            return true;
        }
        let others = self.0.iter().filter(|(other, _)| **other != handle);
        let others = others.map(|(_, level)| *level).max().unwrap_or(ffi::SQLITE_LOCK_NONE);
        let barred_by = match wanted {
            ffi::SQLITE_LOCK_SHARED => ffi::SQLITE_LOCK_PENDING,
            _ => ffi::SQLITE_LOCK_RESERVED,
        };
        if others >= barred_by {
            return false;
        }
        let waits = wanted == ffi::SQLITE_LOCK_EXCLUSIVE && others >= ffi::SQLITE_LOCK_SHARED;
        self.0.insert(handle, if waits { ffi::SQLITE_LOCK_PENDING } else { wanted });
        !waits
    }

    /// Lowers a lock.
    pub fn unlock(&mut self, handle: Handle, to: i32) {
        match to {
            ffi::SQLITE_LOCK_NONE => self.0.remove(&handle),
            level => self.0.insert(handle, self.level(handle).min(level)),
        };
    }

    /// Whether anybody is about to write.
    pub fn is_reserved(&self) -> bool {
        self.0.values().any(|level| *level >= ffi::SQLITE_LOCK_RESERVED)
    }

    fn level(&self, handle: Handle) -> i32 {
        self.0.get(&handle).copied().unwrap_or(ffi::SQLITE_LOCK_NONE)
    }
}

const SLOTS: usize = ffi::SQLITE_SHM_NLOCK as usize;

/// Slots of the shared memory: who holds each, and whether alone.
#[derive(Debug, Default)]
pub struct ShmLocks([BTreeMap<Handle, bool>; SLOTS]);

impl ShmLocks {
    /// Takes `count` slots from `first` on, all or none.
    pub fn lock(&mut self, handle: Handle, first: usize, count: usize, alone: bool) -> bool {
        let Some(slots) = self.0.get_mut(first..first + count) else { return false };
        let free = slots
            .iter()
            .all(|holders| holders.iter().all(|(other, is_alone)| *other == handle || !(alone || *is_alone)));
        if free {
            for holders in slots {
                holders.insert(handle, alone);
            }
        }
        free
    }

    /// Gives slots back.
    pub fn unlock(&mut self, handle: Handle, first: usize, count: usize) {
        for holders in self.0.iter_mut().skip(first).take(count) {
            holders.remove(&handle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_and_a_writer_to_be_keeps_new_ones_out() {
        let mut locks = FileLocks::default();
        assert!(locks.lock(1, ffi::SQLITE_LOCK_SHARED));
        assert!(locks.lock(2, ffi::SQLITE_LOCK_SHARED));
        assert!(locks.lock(1, ffi::SQLITE_LOCK_RESERVED));
        assert!(!locks.lock(2, ffi::SQLITE_LOCK_RESERVED));
        assert!(!locks.lock(1, ffi::SQLITE_LOCK_EXCLUSIVE), "2 still reads");
        assert!(!locks.lock(3, ffi::SQLITE_LOCK_SHARED), "1 waits");
        assert!(locks.is_reserved());
        locks.unlock(2, ffi::SQLITE_LOCK_NONE);
        assert!(locks.lock(1, ffi::SQLITE_LOCK_EXCLUSIVE));
        locks.unlock(1, ffi::SQLITE_LOCK_SHARED);
        assert!(locks.lock(3, ffi::SQLITE_LOCK_SHARED) && !locks.is_reserved());
    }

    #[test]
    fn slots_are_shared_or_held_alone() {
        let mut locks = ShmLocks::default();
        assert!(locks.lock(1, 3, 1, false));
        assert!(locks.lock(2, 3, 1, false));
        assert!(!locks.lock(2, 2, 2, true));
        locks.unlock(1, 3, 1);
        assert!(locks.lock(2, 2, 2, true));
        assert!(!locks.lock(1, 3, 1, false));
    }
}
