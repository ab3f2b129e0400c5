//! What a power cut leaves of one file: its durable bytes, and of every write since the last sync
//! as much as fate allows.
//!
//! A write reaches the medium in sectors of 512 bytes, each whole or not at all (which is what
//! "power-safe overwrite" means, SQLite's own assumption about the disks of this world); beyond
//! that nothing is promised before a sync: any sector may be there without the one before it.

use crate::rng::Rng;

/// The unit that is written whole or not at all.
const SECTOR: usize = 512;

/// What happens to writes that no sync has confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// None is there.
    Nothing,
    /// Those before a moment (the number of a change on this disk) are there, the one at that
    /// moment is torn, the later ones are not there.
    Until(u64),
    /// Each sector on its own is there or not, in no order.
    Scattered,
    /// All are there: the cut came before the answer only.
    Everything,
}

/// One change that the medium may or may not have seen.
#[derive(Clone, Debug)]
struct Change {
    at: u64,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate(usize),
}

/// The bytes of one file, as programs see them and as the medium has them.
#[derive(Clone, Debug, Default)]
pub struct Medium {
    seen: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

impl Medium {
    /// A file that was there before.
    pub fn of(bytes: Vec<u8>) -> Self {
        Self { seen: bytes.clone(), durable: bytes, unsynced: Vec::new() }
    }

    /// As programs see it.
    pub fn seen(&self) -> &[u8] {
        &self.seen
    }

    /// Writes; `at` numbers the changes of the disk.
    pub fn write(&mut self, at: u64, offset: usize, bytes: &[u8]) {
        put(&mut self.seen, offset, bytes);
        let what = What::Write { offset, bytes: bytes.to_vec() };
        self.unsynced.push(Change { at, what });
    }

    /// Cuts the file, or lengthens it with zeros.
    pub fn truncate(&mut self, at: u64, len: usize) {
        self.seen.resize(len, 0);
        self.unsynced.push(Change { at, what: What::Truncate(len) });
    }

    /// Everything written so far is on the medium.
    pub fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// A sync that failed: part of it was written, and the rest never will be, since the system
    /// takes pages that it could not write for clean.
    pub fn fail_sync(&mut self, rng: &mut Rng) {
        self.durable = self.after(Survival::Scattered, rng);
        self.unsynced.clear();
    }

    /// What is there after a cut.
    pub fn after(&self, survival: Survival, rng: &mut Rng) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for change in &self.unsynced {
            match survival {
                Survival::Nothing => {}
                Survival::Until(at) if change.at > at => {}
                Survival::Until(at) if change.at == at => change.tear(&mut bytes, rng),
                Survival::Scattered => change.tear(&mut bytes, rng),
                Survival::Until(_) | Survival::Everything => change.apply(&mut bytes),
            }
        }
        // The length may be written although the bytes are not.
        if survival == Survival::Scattered && bytes.len() < self.seen.len() && rng.chance(0.5) {
            bytes.resize(self.seen.len(), 0);
        }
        bytes
    }
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match &self.what {
            What::Write { offset, bytes } => put(to, *offset, bytes),
            What::Truncate(len) => to.resize(*len, 0),
        }
    }

    /// Applies every second sector, by chance.
    fn tear(&self, to: &mut Vec<u8>, rng: &mut Rng) {
        let What::Write { offset, bytes } = &self.what else {
            if rng.chance(0.5) {
                self.apply(to);
            }
            return;
        };
        for (from, piece) in sectors(*offset, bytes) {
            if rng.chance(0.5) {
                put(to, from, piece);
            }
        }
    }
}

/// A write in pieces that end where sectors end.
fn sectors(offset: usize, bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let mut pieces = Vec::new();
    let (mut from, mut rest) = (offset, bytes);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(SECTOR - from % SECTOR));
        pieces.push((from, piece));
        from += piece.len();
        rest = after;
    }
    pieces
}

fn put(to: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if to.len() < end {
        to.resize(end, 0);
    }
    to[offset..end].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synced_bytes_stay_and_others_are_at_the_mercy_of_fate() {
        let mut rng = Rng::new(1, 1);
        let mut medium = Medium::default();
        medium.write(1, 0, &[1; 1024]);
        medium.sync();
        medium.write(2, 512, &[2; 1024]);
        medium.write(3, 0, &[3; 512]);
        assert_eq!(medium.after(Survival::Nothing, &mut rng), [1; 1024]);
        assert_eq!(medium.after(Survival::Everything, &mut rng), medium.seen());
        let until = medium.after(Survival::Until(2), &mut rng);
        assert_eq!(until[..512], [1; 512]);
        for _ in 0..50 {
            let scattered = medium.after(Survival::Scattered, &mut rng);
            for sector in scattered.chunks(512) {
                assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is torn");
            }
        }
    }

    #[test]
    fn a_write_is_cut_where_sectors_end() {
        let ends: Vec<_> = sectors(500, &[0; 600]).iter().map(|(from, piece)| from + piece.len()).collect();
        assert_eq!(ends, [512, 1024, 1100]);
    }

    #[test]
    fn what_a_failed_sync_lost_no_later_sync_brings_back() {
        let mut rng = Rng::new(1, 1);
        let mut medium = Medium::default();
        medium.write(1, 0, &[1; 64 * 512]);
        medium.fail_sync(&mut rng);
        medium.sync();
        let after = medium.after(Survival::Everything, &mut rng);
        assert_ne!(after, medium.seen());
    }
}
