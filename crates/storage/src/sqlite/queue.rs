//! The bounded channel between async callers and the storage threads: push never blocks, take does,
//! many at a time.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

use crate::StoreError;

/// More waiting work than this is refused: at some 10,000 a second it is answered within a second,
/// and beyond that a client is better served by an honest 503.
const WAITING_MAX: usize = 8_192;

pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    ready: Condvar,
}

struct State<T> {
    items: VecDeque<T>,
    closed: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        let state = State { items: VecDeque::new(), closed: false };
        Queue { state: Mutex::new(state), ready: Condvar::new() }
    }
}

impl<T> Queue<T> {
    pub(super) fn push(&self, item: T) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(StoreError::unavailable("the store is closed"));
        }
        if state.items.len() >= WAITING_MAX {
            return Err(StoreError::unavailable("too many requests wait for the database"));
        }
        state.items.push_back(item);
        drop(state);
        self.ready.notify_one();
        Ok(())
    }

    /// Waits for work and takes up to `max` items; nothing once the queue is closed and empty.
    pub(super) fn take(&self, max: usize) -> Option<Vec<T>> {
        let mut state = self.state.lock();
        while state.items.is_empty() {
            if state.closed {
                return None;
            }
            self.ready.wait(&mut state);
        }
        let count = state.items.len().min(max);
        Some(state.items.drain(..count).collect())
    }

    /// Refuses further items; what is queued is still taken.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.ready.notify_all();
    }

    pub(super) fn is_open(&self) -> bool {
        !self.state.lock().closed
    }

    pub(super) fn len(&self) -> usize {
        self.state.lock().items.len()
    }

    /// Closes the queue and drops what waits when the taking thread ends, by a panic too, so that
    /// nobody waits for an answer that cannot come.
    pub(super) fn close_on_drop(&self) -> CloseOnDrop<'_, T> {
        CloseOnDrop(self)
    }
}

pub(super) struct CloseOnDrop<'q, T>(&'q Queue<T>);

impl<T> Drop for CloseOnDrop<'_, T> {
    fn drop(&mut self) {
        self.0.close();
        self.0.state.lock().items.clear();
    }
}
