//! The file system `torture` for SQLite: translates its C calls to a [`Disk`] in memory.
//!
//! A path is `FOLDER/NAME`; the folder says which mounted disk is meant. Answers what SQLite's own
//! file system answers on Linux about sectors (4,096 bytes, power-safe overwrite) and syncs the
//! folder when that one does: at the first sync of a new journal or log. Only this file is unsafe.
#![allow(unsafe_code, reason = "SQLite takes a file system as a table of C functions")]

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use parking_lot::Mutex;
use rusqlite::ffi;

use super::disk::{Answer, Disk, Image, Opened, Plan};
use crate::rng::Rng;

/// What `?vfs=` names.
pub const NAME: &CStr = c"torture";

static MOUNTED: Mutex<BTreeMap<String, Weak<Disk>>> = Mutex::new(BTreeMap::new());
static MOUNTS: AtomicU64 = AtomicU64::new(0);
static REGISTERED: OnceLock<c_int> = OnceLock::new();

/// A disk within SQLite's reach while this lives; files that are open keep it beyond.
#[derive(Debug)]
pub struct Mount {
    folder: String,
    pub disk: Arc<Disk>,
}

impl Mount {
    /// Mounts a disk under a name of its own.
    pub fn new(disk: Disk) -> Result<Self> {
        let code = *REGISTERED.get_or_init(register);
        ensure!(code == ffi::SQLITE_OK, "SQLite refused the file system: {code}");
        let folder = format!("torture-disk-{}", MOUNTS.fetch_add(1, Ordering::Relaxed));
        let disk = Arc::new(disk);
        MOUNTED.lock().insert(folder.clone(), Arc::downgrade(&disk));
        Ok(Self { folder, disk })
    }

    /// The path of a file on this disk.
    pub fn path(&self, name: &str) -> PathBuf {
        [&self.folder, name].iter().collect()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        MOUNTED.lock().remove(&self.folder);
    }
}

fn disk_of(path: &str) -> Option<(Arc<Disk>, &str)> {
    let (folder, name) = path.rsplit_once('/')?;
    Some((MOUNTED.lock().get(folder)?.upgrade()?, name))
}

/// What SQLite allocates for an open file: its own head, then ours.
#[repr(C)]
struct File {
    head: ffi::sqlite3_file,
    open: *mut Open,
}

struct Open {
    disk: Arc<Disk>,
    opened: Opened,
    /// Whether the next sync is to make the name durable as well.
    sync_folder: bool,
}

/// Registers the file system, for the life of the process.
fn register() -> c_int {
    let vfs = ffi::sqlite3_vfs {
        iVersion: 1,
        szOsFile: size_of::<File>() as c_int,
        mxPathname: 512,
        pNext: std::ptr::null_mut(),
        zName: NAME.as_ptr(),
        pAppData: std::ptr::null_mut(),
        xOpen: Some(x_open),
        xDelete: Some(x_delete),
        xAccess: Some(x_access),
        xFullPathname: Some(x_full_pathname),
        xDlOpen: None,
        xDlError: None,
        xDlSym: None,
        xDlClose: None,
        xRandomness: Some(x_randomness),
        xSleep: Some(x_sleep),
        xCurrentTime: Some(x_current_time),
        xGetLastError: None,
        xCurrentTimeInt64: None,
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    };
    // SAFETY: the table is leaked, so SQLite may keep it; every function in it follows the contract
    // of its place in `sqlite3_vfs`.
    unsafe { ffi::sqlite3_vfs_register(Box::leak(Box::new(vfs)), 0) }
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(x_close),
    xRead: Some(x_read),
    xWrite: Some(x_write),
    xTruncate: Some(x_truncate),
    xSync: Some(x_sync),
    xFileSize: Some(x_file_size),
    xLock: Some(x_lock),
    xUnlock: Some(x_unlock),
    xCheckReservedLock: Some(x_check_reserved_lock),
    xFileControl: Some(x_file_control),
    xSectorSize: Some(x_sector_size),
    xDeviceCharacteristics: Some(x_device_characteristics),
    xShmMap: Some(x_shm_map),
    xShmLock: Some(x_shm_lock),
    xShmBarrier: Some(x_shm_barrier),
    xShmUnmap: Some(x_shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

fn code(answer: Answer) -> c_int {
    answer.err().unwrap_or(ffi::SQLITE_OK)
}

/// The open file behind a pointer of SQLite's.
///
/// # Safety
/// `file` must be one that `x_open` filled and `x_close` has not seen. SQLite calls the methods of
/// one file from one thread at a time.
unsafe fn open_file<'a>(file: *mut ffi::sqlite3_file) -> &'a mut Open {
    // SAFETY: as above, `open` points to the box that `x_open` made.
    unsafe { &mut *(*file.cast::<File>()).open }
}

/// A path of SQLite's; none for a temporary file.
///
/// # Safety
/// `path` must be null or end with a zero and outlive the answer.
unsafe fn text<'a>(path: *const c_char) -> Option<&'a str> {
    if path.is_null() {
        return None;
    }
    // SAFETY: as above.
    unsafe { CStr::from_ptr(path) }.to_str().ok()
}

/// Writes an answer through a pointer of SQLite's, which may be null where it does not care.
///
/// # Safety
/// `to` must be null or writable.
unsafe fn tell<T>(to: *mut T, value: T) {
    if !to.is_null() {
        // SAFETY: as above.
        unsafe { to.write(value) };
    }
}

unsafe extern "C" fn x_open(
    _: *mut ffi::sqlite3_vfs,
    path: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives room for a `File`; a null table says that there is nothing to close.
    unsafe { (*file).pMethods = std::ptr::null() };
    // SAFETY: SQLite's path is null or ends with a zero.
    let (disk, name) = match unsafe { text(path) } {
        Some(path) => match disk_of(path) {
            Some((disk, name)) => (disk, name),
            None => return ffi::SQLITE_CANTOPEN,
        },
        // A temporary file: nothing of it is to last, and no fault is looked for there.
        None => {
            let disk = Disk::new(Image::new(), Plan::Sound, Duration::ZERO, Rng::new(0, 0));
            (Arc::new(disk), "temporary")
        }
    };
    let is = |flag| flags & flag != 0;
    let opened = match disk.open(name, is(ffi::SQLITE_OPEN_CREATE), is(ffi::SQLITE_OPEN_MAIN_DB)) {
        Ok(opened) => opened,
        Err(code) => return code,
    };
    let journal = ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_SUPER_JOURNAL;
    let open = Box::new(Open { disk, opened, sync_folder: opened.created && is(journal) });
    // SAFETY: as at the top; the box lives until `x_close`.
    unsafe {
        (*file.cast::<File>()).open = Box::into_raw(open);
        (*file).pMethods = &raw const METHODS;
        tell(out_flags, flags);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite closes once what `x_open` filled; the box was made there.
    let open = unsafe { Box::from_raw((*file.cast::<File>()).open) };
    open.disk.unlock(open.opened, ffi::SQLITE_LOCK_NONE);
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_read(
    file: *mut ffi::sqlite3_file,
    buffer: *mut c_void,
    len: c_int,
    offset: i64,
) -> c_int {
    // SAFETY: an open file, and a buffer of `len` bytes that is SQLite's alone.
    let (open, buffer) =
        unsafe { (open_file(file), std::slice::from_raw_parts_mut(buffer.cast::<u8>(), len as usize)) };
    code(open.disk.read(open.opened.file, offset as usize, buffer))
}

unsafe extern "C" fn x_write(
    file: *mut ffi::sqlite3_file,
    bytes: *const c_void,
    len: c_int,
    offset: i64,
) -> c_int {
    // SAFETY: an open file, and `len` bytes that nobody changes meanwhile.
    let (open, bytes) =
        unsafe { (open_file(file), std::slice::from_raw_parts(bytes.cast::<u8>(), len as usize)) };
    code(open.disk.write(open.opened.file, offset as usize, bytes))
}

unsafe extern "C" fn x_truncate(file: *mut ffi::sqlite3_file, len: i64) -> c_int {
    // SAFETY: an open file.
    let open = unsafe { open_file(file) };
    code(open.disk.truncate(open.opened.file, len as usize))
}

unsafe extern "C" fn x_sync(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    // SAFETY: an open file.
    let open = unsafe { open_file(file) };
    let answer = open.disk.sync(open.opened.file, open.sync_folder);
    open.sync_folder &= answer.is_err();
    code(answer)
}

unsafe extern "C" fn x_file_size(file: *mut ffi::sqlite3_file, size: *mut i64) -> c_int {
    // SAFETY: an open file, and room for the answer.
    let (open, size) = unsafe { (open_file(file), &mut *size) };
    code(open.disk.size(open.opened.file).map(|bytes| *size = bytes as i64))
}

unsafe extern "C" fn x_lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: an open file.
    let open = unsafe { open_file(file) };
    code(open.disk.lock(open.opened, level))
}

unsafe extern "C" fn x_unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: an open file.
    let open = unsafe { open_file(file) };
    open.disk.unlock(open.opened, level);
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_check_reserved_lock(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: an open file, and room for the answer.
    unsafe {
        let open = open_file(file);
        tell(out, open.disk.is_reserved(open.opened.file).into());
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_file_control(_: *mut ffi::sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn x_sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    4_096
}

unsafe extern "C" fn x_device_characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn x_shm_map(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    bytes: c_int,
    make: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: an open file.
    let open = unsafe { open_file(file) };
    let region = open.disk.shm_map(open.opened, region as usize, bytes as usize, make != 0);
    // SAFETY: room for the answer.
    unsafe { tell(out, *region.as_ref().unwrap_or(&std::ptr::null_mut())) };
    code(region.map(drop))
}

unsafe extern "C" fn x_shm_lock(
    file: *mut ffi::sqlite3_file,
    first: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    // SAFETY: an open file.
    let open = unsafe { open_file(file) };
    let (first, count) = (first as usize, count as usize);
    if flags & ffi::SQLITE_SHM_UNLOCK != 0 {
        open.disk.shm_unlock(open.opened, first, count);
        return ffi::SQLITE_OK;
    }
    let alone = flags & ffi::SQLITE_SHM_EXCLUSIVE != 0;
    code(open.disk.shm_lock(open.opened, first, count, alone))
}

unsafe extern "C" fn x_shm_barrier(_: *mut ffi::sqlite3_file) {
    fence(Ordering::SeqCst);
}

unsafe extern "C" fn x_shm_unmap(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    // SAFETY: an open file.
    let open = unsafe { open_file(file) };
    open.disk.shm_leave(open.opened);
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_delete(_: *mut ffi::sqlite3_vfs, path: *const c_char, sync_folder: c_int) -> c_int {
    // SAFETY: SQLite's path ends with a zero.
    match unsafe { text(path) }.and_then(disk_of) {
        Some((disk, name)) => code(disk.delete(name, sync_folder != 0)),
        None => ffi::SQLITE_IOERR_DELETE,
    }
}

unsafe extern "C" fn x_access(
    _: *mut ffi::sqlite3_vfs,
    path: *const c_char,
    _: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite's path ends with a zero.
    let Some((disk, name)) = unsafe { text(path) }.and_then(disk_of) else {
        return ffi::SQLITE_IOERR_ACCESS;
    };
    // SAFETY: room for the answer.
    code(disk.exists(name).map(|exists| unsafe { tell(out, exists.into()) }))
}

unsafe extern "C" fn x_full_pathname(
    _: *mut ffi::sqlite3_vfs,
    path: *const c_char,
    room: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: SQLite's path ends with a zero.
    let path = CString::from(unsafe { CStr::from_ptr(path) });
    let bytes = path.as_bytes_with_nul();
    if bytes.len() > room as usize {
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: `out` has room for `room` bytes, and is not the memory of our own copy.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), out, bytes.len()) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn x_randomness(_: *mut ffi::sqlite3_vfs, len: c_int, out: *mut c_char) -> c_int {
    // SAFETY: SQLite gives `len` bytes of room.
    let out = unsafe { std::slice::from_raw_parts_mut(out.cast::<u8>(), len as usize) };
    getrandom::fill(out).map_or(0, |()| len)
}

unsafe extern "C" fn x_sleep(_: *mut ffi::sqlite3_vfs, microseconds: c_int) -> c_int {
    std::thread::sleep(Duration::from_micros(microseconds.unsigned_abs().into()));
    microseconds
}

unsafe extern "C" fn x_current_time(_: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    // SAFETY: room for the answer, a Julian day.
    unsafe { tell(out, 2_440_587.5 + since_1970.as_secs_f64() / 86_400.0) };
    ffi::SQLITE_OK
}
