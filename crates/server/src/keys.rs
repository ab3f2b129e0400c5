//! Key files in the data directory: made where missing, mode 0600, never in the database.
//!
//! `token.key` is the key of the token tags (32 bytes, hexadecimal). All processes of one
//! installation share it. To change it, rename it to `token.key.previous` and restart: both are
//! accepted until the old file is removed.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER_PERMISSIVE;
use ligand_protocol::token::TagKeys;
use zeroize::Zeroizing;

const TOKEN_KEY: &str = "token.key";
const PREVIOUS: &str = "token.key.previous";

/// Why a key could not be had; the text names the mend.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{}: {cause}", path.display())]
    Io { path: PathBuf, cause: std::io::Error },
    #[error(
        "{} does not hold 64 hexadecimal digits; restore it from a backup, or remove it to have a new one made (every session then ends softly)",
        .0.display()
    )]
    Malformed(PathBuf),
    #[error("{} can be read by others; run: chmod 600 {}", .0.display(), .0.display())]
    Exposed(PathBuf),
    #[error("no randomness from the operating system: {0}")]
    Entropy(getrandom::Error),
}

/// Makes the data directory, mode 0700, where it is missing.
///
/// # Errors
/// When it cannot be made.
pub fn create_data_dir(dir: &Path) -> Result<(), KeyError> {
    let io = |cause| KeyError::Io { path: dir.to_owned(), cause };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)
}

/// The token tag keys of an installation; the first call makes one.
///
/// # Errors
/// When a file cannot be read or made, is malformed, or is open to others.
pub fn token_keys(data_dir: &Path) -> Result<TagKeys, KeyError> {
    let path = data_dir.join(TOKEN_KEY);
    let current = match read(&path)? {
        Some(key) => key,
        None => make(&path)?,
    };
    let previous = read(&data_dir.join(PREVIOUS))?;
    Ok(TagKeys::new(&current, previous.as_deref()))
}

type Key = Zeroizing<[u8; 32]>;

fn read(path: &Path) -> Result<Option<Key>, KeyError> {
    let io = |cause| KeyError::Io { path: path.to_owned(), cause };
    let text = match fs::read_to_string(path) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    if fs::metadata(path).map_err(io)?.permissions().mode() & 0o077 != 0 {
        return Err(KeyError::Exposed(path.to_owned()));
    }
    let mut key = Zeroizing::new([0; 32]);
    let malformed = || KeyError::Malformed(path.to_owned());
    let digits = text.trim().as_bytes();
    if digits.len() != 64 {
        return Err(malformed());
    }
    HEXLOWER_PERMISSIVE.decode_mut(digits, &mut *key).map_err(|_| malformed())?;
    Ok(Some(key))
}

/// Makes a key. Written under a name of its own and linked into place, so that of two processes
/// starting at once both end up with the same whole key.
fn make(path: &Path) -> Result<Key, KeyError> {
    let io = |cause| KeyError::Io { path: path.to_owned(), cause };
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *key).map_err(KeyError::Entropy)?;
    let text = Zeroizing::new(HEXLOWER_PERMISSIVE.encode(&*key) + "\n");
    let draft = path.with_extension(format!("key.{}", std::process::id()));
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(io)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(io)?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft).map_err(io)?;
    match linked {
        Ok(()) => {
            let directory = path.parent().unwrap_or(Path::new("."));
            fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(io)?;
            Ok(key)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            read(path)?.ok_or_else(|| io(ErrorKind::NotFound.into()))
        }
        Err(error) => Err(io(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_for_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        token_keys(dir.path()).unwrap();
        let path = dir.path().join(TOKEN_KEY);
        let first = fs::read_to_string(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        token_keys(dir.path()).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), first);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_key_open_to_others_or_malformed_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        token_keys(dir.path()).unwrap();
        let path = dir.path().join(TOKEN_KEY);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(token_keys(dir.path()), Err(KeyError::Exposed(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short").unwrap();
        assert!(matches!(token_keys(dir.path()), Err(KeyError::Malformed(_))));
    }
}
