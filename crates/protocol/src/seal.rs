//! The sealed successor: the newest pair of a session, kept so that only the predecessor refresh
//! token opens it.
//!
//! A client whose answer was lost repeats the refresh with the token it still holds and gets the
//! same pair. Nobody else does, not even with the whole database: the key is derived from the
//! predecessor's secret, of which the row has only a hash.

use chacha20poly1305::aead::{Aead as _, KeyInit as _};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::ids::SessionId;
use crate::token::{Minted, Presented, Secret, TagKeys, Tail, TokenKind};

/// Random bytes a seal needs.
pub const NONCE: usize = 24;
const TAIL: usize = 32;

/// Everything random that one refresh needs, drawn by the caller.
#[derive(Clone)]
pub struct Fresh {
    pub access: Secret,
    pub refresh: Secret,
    pub nonce: [u8; NONCE],
}

impl Fresh {
    /// Bytes of randomness one refresh takes.
    pub const BYTES: usize = 24 + 24 + NONCE;

    /// Splits fresh random bytes into what a refresh needs.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let part = |from: usize| {
            let mut out = [0; 24];
            out.copy_from_slice(&bytes[from..from + 24]);
            out
        };
        Self { access: Secret(part(0)), refresh: Secret(part(24)), nonce: part(48) }
    }
}

/// A refresh token and an access token of one generation.
#[derive(Clone)]
pub struct Pair {
    pub refresh: Minted,
    pub access: Minted,
}

impl Pair {
    #[must_use]
    pub fn mint(id: SessionId, generation: u32, fresh: &Fresh, keys: &TagKeys) -> Self {
        Self {
            refresh: Minted::new(TokenKind::Refresh, id, generation, &fresh.refresh, keys),
            access: Minted::new(TokenKind::Access, id, generation, &fresh.access, keys),
        }
    }

    /// Seals this pair under the refresh token it replaces: nonce ‖ ciphertext, 104 bytes.
    ///
    /// `None` only if the cipher fails, which it does not for texts of this size.
    #[must_use]
    pub fn seal(&self, predecessor: &Presented, generation: u32, nonce: &[u8; NONCE]) -> Option<Vec<u8>> {
        let mut plain = Zeroizing::new([0; 2 * TAIL]);
        plain[..TAIL].copy_from_slice(&self.refresh.tail.0);
        plain[TAIL..].copy_from_slice(&self.access.tail.0);
        let cipher = cipher(predecessor, generation)?;
        let body = cipher.encrypt(&XNonce::from(*nonce), plain.as_slice()).ok()?;
        Some([nonce.as_slice(), &body].concat())
    }

    /// Opens a seal with the refresh token it was made under; `None` for any other token.
    #[must_use]
    pub fn open(sealed: &[u8], predecessor: &Presented, generation: u32) -> Option<Self> {
        let (nonce, body) = sealed.split_first_chunk::<NONCE>()?;
        let cipher = cipher(predecessor, generation)?;
        let plain = Zeroizing::new(cipher.decrypt(&XNonce::from(*nonce), body).ok()?);
        let (refresh, access) = plain.split_first_chunk::<TAIL>()?;
        let access: [u8; TAIL] = access.try_into().ok()?;
        let id = predecessor.session_id;
        Some(Self {
            refresh: Minted::from_tail(TokenKind::Refresh, id, generation, &Tail(*refresh)),
            access: Minted::from_tail(TokenKind::Access, id, generation, &Tail(access)),
        })
    }
}

/// The cipher keyed by the predecessor's secret, bound to its kind and session and to the
/// generation that is sealed.
fn cipher(predecessor: &Presented, generation: u32) -> Option<XChaCha20Poly1305> {
    let mut info = [0; 1 + 16 + 4];
    info[0] = predecessor.kind.byte();
    info[1..17].copy_from_slice(&predecessor.session_id.0);
    info[17..].copy_from_slice(&generation.to_be_bytes());
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, &predecessor.secret.0).expand(&info, key.as_mut_slice()).ok()?;
    Some(XChaCha20Poly1305::new((&*key).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> TagKeys {
        TagKeys::new(&[1; 32], None)
    }

    fn fresh(byte: u8) -> Fresh {
        Fresh::from_bytes(&std::array::from_fn(|at| byte.wrapping_add(u8::try_from(at).unwrap())))
    }

    fn presented(pair: &Pair) -> Presented {
        Presented::parse(TokenKind::Refresh, pair.refresh.text.expose(), &keys()).unwrap()
    }

    #[test]
    fn the_predecessor_opens_the_very_same_pair() {
        let id = SessionId([5; 16]);
        let old = presented(&Pair::mint(id, 1, &fresh(1), &keys()));
        let new = Pair::mint(id, 2, &fresh(100), &keys());
        let sealed = new.seal(&old, 2, &[3; NONCE]).unwrap();
        assert_eq!(sealed.len(), 104);
        let opened = Pair::open(&sealed, &old, 2).unwrap();
        assert_eq!(opened.refresh.text.expose(), new.refresh.text.expose());
        assert_eq!(opened.access.text.expose(), new.access.text.expose());
        assert_eq!(opened.access.hash, new.access.hash);
    }

    #[test]
    fn nothing_else_opens_it() {
        let id = SessionId([5; 16]);
        let old = presented(&Pair::mint(id, 1, &fresh(1), &keys()));
        let other = presented(&Pair::mint(id, 1, &fresh(2), &keys()));
        let new = Pair::mint(id, 2, &fresh(100), &keys());
        let sealed = new.seal(&old, 2, &[3; NONCE]).unwrap();
        assert!(Pair::open(&sealed, &other, 2).is_none());
        assert!(Pair::open(&sealed, &presented(&new), 2).is_none());
        assert!(Pair::open(&sealed, &old, 3).is_none());
        assert!(Pair::open(&sealed[1..], &old, 2).is_none());
        assert!(Pair::open(&[], &old, 2).is_none());
        let mut bent = sealed;
        bent[60] ^= 1;
        assert!(Pair::open(&bent, &old, 2).is_none());
    }

    #[test]
    fn the_sealed_bytes_hold_no_part_of_the_tokens() {
        let id = SessionId([5; 16]);
        let old = presented(&Pair::mint(id, 1, &fresh(1), &keys()));
        let new = Pair::mint(id, 2, &fresh(100), &keys());
        let sealed = new.seal(&old, 2, &[3; NONCE]).unwrap();
        for secret in [&new.refresh.tail.0, &new.access.tail.0] {
            assert!(!sealed.windows(8).any(|window| window == &secret[..8]));
        }
    }
}
