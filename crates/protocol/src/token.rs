//! Tokens: their text, what of them is stored, and the tag that proves an old one genuine.
//!
//! `<prefix><base64url( session_id:16 | generation:u32 | secret:24 | tag:8 )>`. The prefix names the
//! kind, so an access token at `/refresh` is refused by its first letters. The tag grants nothing:
//! it drops garbage without touching the database, and tells reuse from noise with no stored
//! history. Only the SHA-256 of the text is ever stored.

use data_encoding::BASE64URL_NOPAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, ZeroizeOnDrop};

use crate::ids::SessionId;

const SECRET: usize = 24;
const TAG: usize = 8;
const RAW: usize = 16 + 4 + SECRET + TAG;
const PREFIX: usize = 4;
/// Characters of every token: a prefix of four and seventy of base64url.
pub const TEXT_CHARS: usize = PREFIX + (RAW * 4).div_ceil(3);

/// What a token is for; the kinds are never interchangeable (I10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenKind {
    Access,
    Refresh,
    /// Signs in once, as `m.login.token`. Names no session; the sixteen bytes are random.
    Login,
    /// Tells a third party whose it is. Names no session either.
    OpenId,
}

impl TokenKind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Access => "lga_",
            Self::Refresh => "lgr_",
            Self::Login => "lgl_",
            Self::OpenId => "lgo_",
        }
    }

    /// Whether a text begins as tokens of this kind do, whoever wrote it.
    #[must_use]
    pub fn marks(self, text: &str) -> bool {
        text.starts_with(self.prefix())
    }

    /// The byte that stands for the kind under the tag and in the seal's key derivation.
    pub(crate) const fn byte(self) -> u8 {
        match self {
            Self::Access => b'a',
            Self::Refresh => b'r',
            Self::Login => b'l',
            Self::OpenId => b'o',
        }
    }
}

/// 192 random bits, fresh in every generation.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct Secret(pub [u8; SECRET]);

/// A token in clear: exists in a request, in a reply, and here. It cannot be printed by accident.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub struct TokenText(String);

impl TokenText {
    /// The text, for the one reply it is made for.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// What is stored of a token: the SHA-256 of its text.
#[derive(Debug, Clone, Copy)]
pub struct TokenHash(pub [u8; 32]);

impl std::hash::Hash for TokenHash {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartialEq for TokenHash {
    /// In constant time, so that no comparison tells how much of a guess was right.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for TokenHash {}

impl TokenHash {
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }
}

/// The keys under which tags are made: one in use, and during a change the one before it.
#[derive(Clone)]
pub struct TagKeys {
    current: Hmac<Sha256>,
    previous: Option<Hmac<Sha256>>,
}

impl TagKeys {
    #[must_use]
    pub fn new(current: &[u8; 32], previous: Option<&[u8; 32]>) -> Self {
        Self { current: keyed(current), previous: previous.map(keyed) }
    }

    /// A secret that whoever holds the key can derive again, so that it need not be stored. No
    /// label may begin with the byte of a [`TokenKind`].
    pub(crate) fn derive(&self, label: &[u8]) -> [u8; 32] {
        derived(&self.current, label)
    }

    /// The same under every key that counts.
    pub(crate) fn derive_all(&self, label: &[u8]) -> impl Iterator<Item = [u8; 32]> {
        [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .map(move |key| derived(key, label))
    }
}

fn derived(key: &Hmac<Sha256>, label: &[u8]) -> [u8; 32] {
    let mut mac = key.clone();
    mac.update(label);
    mac.finalize().into_bytes().into()
}

/// HMAC with its key schedule done, to be cloned for each tag.
fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    // HMAC pads a key shorter than its block of 64 bytes with zeros (RFC 2104).
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    let mac = Hmac::new(&block.into());
    block.zeroize();
    mac
}

fn tag(key: &Hmac<Sha256>, kind: TokenKind, raw: &[u8]) -> [u8; TAG] {
    let mut mac = key.clone();
    mac.update(&[kind.byte()]);
    mac.update(raw);
    let full = mac.finalize().into_bytes();
    let mut cut = [0; TAG];
    cut.copy_from_slice(&full[..TAG]);
    cut
}

/// The secret part of a token with its tag: all a seal has to keep, since the rest is the row's.
#[derive(Clone, PartialEq, Eq, ZeroizeOnDrop)]
pub(crate) struct Tail(pub(crate) [u8; SECRET + TAG]);

/// A token just minted: its text for the reply, its hash for the row, its tail for the seal.
#[derive(Clone)]
pub struct Minted {
    pub text: TokenText,
    pub hash: TokenHash,
    pub(crate) tail: Tail,
}

impl Minted {
    /// Makes the token of one kind, session and generation from a fresh secret.
    #[must_use]
    pub fn new(kind: TokenKind, id: SessionId, generation: u32, secret: &Secret, keys: &TagKeys) -> Self {
        let mut raw = [0; RAW];
        raw[..16].copy_from_slice(&id.0);
        raw[16..20].copy_from_slice(&generation.to_be_bytes());
        raw[20..RAW - TAG].copy_from_slice(&secret.0);
        let tag = tag(&keys.current, kind, &raw[..RAW - TAG]);
        raw[RAW - TAG..].copy_from_slice(&tag);
        let minted = Self::from_raw(kind, &raw);
        raw.zeroize();
        minted
    }

    /// Rebuilds the very token whose tail was sealed.
    pub(crate) fn from_tail(kind: TokenKind, id: SessionId, generation: u32, tail: &Tail) -> Self {
        let mut raw = [0; RAW];
        raw[..16].copy_from_slice(&id.0);
        raw[16..20].copy_from_slice(&generation.to_be_bytes());
        raw[20..].copy_from_slice(&tail.0);
        let minted = Self::from_raw(kind, &raw);
        raw.zeroize();
        minted
    }

    fn from_raw(kind: TokenKind, raw: &[u8; RAW]) -> Self {
        let mut text = String::with_capacity(TEXT_CHARS);
        text.push_str(kind.prefix());
        BASE64URL_NOPAD.encode_append(raw, &mut text);
        let mut tail = [0; SECRET + TAG];
        tail.copy_from_slice(&raw[20..]);
        Self { hash: TokenHash::of(&text), text: TokenText(text), tail: Tail(tail) }
    }
}

/// A token that somebody presented and whose tag is good: it was ours once. Whether it still
/// counts is for the session to say.
#[derive(Clone)]
pub struct Presented {
    pub kind: TokenKind,
    pub session_id: SessionId,
    pub generation: u32,
    pub hash: TokenHash,
    pub(crate) secret: Secret,
}

impl Presented {
    /// Reads a token of the wanted kind. `None` for anything that this installation never issued
    /// as such: a wrong kind, loose base64, a bad tag. Nothing is read or ended for it (I9).
    #[must_use]
    pub fn parse(kind: TokenKind, text: &str, keys: &TagKeys) -> Option<Self> {
        let encoded = text.strip_prefix(kind.prefix())?;
        if text.len() != TEXT_CHARS {
            return None;
        }
        let mut raw = [0; RAW];
        // Strict: a second spelling of the same bytes would have a second hash.
        let decoded = BASE64URL_NOPAD.decode_mut(encoded.as_bytes(), &mut raw).ok()?;
        if decoded != RAW {
            return None;
        }
        let (body, shown) = raw.split_at(RAW - TAG);
        let genuine = |key: &Hmac<Sha256>| bool::from(tag(key, kind, body).ct_eq(shown));
        if !genuine(&keys.current) && !keys.previous.as_ref().is_some_and(genuine) {
            return None;
        }
        let mut session_id = [0; 16];
        session_id.copy_from_slice(&raw[..16]);
        let mut generation = [0; 4];
        generation.copy_from_slice(&raw[16..20]);
        let mut secret = [0; SECRET];
        secret.copy_from_slice(&raw[20..RAW - TAG]);
        raw.zeroize();
        Some(Self {
            kind,
            session_id: SessionId(session_id),
            generation: u32::from_be_bytes(generation),
            hash: TokenHash::of(text),
            secret: Secret(secret),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys() -> TagKeys {
        TagKeys::new(&[1; 32], None)
    }

    fn minted(kind: TokenKind) -> Minted {
        Minted::new(kind, SessionId([7; 16]), 3, &Secret([9; 24]), &keys())
    }

    #[test]
    fn a_token_reads_back_as_what_it_was_minted_for() {
        let token = minted(TokenKind::Refresh);
        assert_eq!(token.text.expose().len(), TEXT_CHARS);
        let read = Presented::parse(TokenKind::Refresh, token.text.expose(), &keys()).unwrap();
        assert_eq!((read.session_id, read.generation), (SessionId([7; 16]), 3));
        assert_eq!(read.hash, token.hash);
        assert_eq!(read.secret.0, [9; 24]);
    }

    #[test]
    fn kinds_are_not_interchangeable() {
        let access = minted(TokenKind::Access);
        assert!(Presented::parse(TokenKind::Refresh, access.text.expose(), &keys()).is_none());
        // Nor by changing the prefix: the tag covers the kind.
        let dressed = access.text.expose().replace("lga_", "lgr_");
        assert!(Presented::parse(TokenKind::Refresh, &dressed, &keys()).is_none());
    }

    #[test]
    fn no_kind_reads_as_another() {
        let kinds = [TokenKind::Access, TokenKind::Refresh, TokenKind::Login, TokenKind::OpenId];
        for made in kinds {
            let token = minted(made);
            for read in kinds {
                let dressed = token.text.expose().replacen(made.prefix(), read.prefix(), 1);
                assert_eq!(Presented::parse(read, &dressed, &keys()).is_some(), made == read);
            }
        }
    }

    #[test]
    fn during_a_key_change_both_keys_are_accepted_and_afterwards_only_the_new() {
        let old = minted(TokenKind::Access);
        let changing = TagKeys::new(&[2; 32], Some(&[1; 32]));
        assert!(Presented::parse(TokenKind::Access, old.text.expose(), &changing).is_some());
        let changed = TagKeys::new(&[2; 32], None);
        assert!(Presented::parse(TokenKind::Access, old.text.expose(), &changed).is_none());
    }

    #[test]
    fn every_single_character_counts() {
        let token = minted(TokenKind::Access);
        let text = token.text.expose();
        for at in 0..text.len() {
            for other in ['A', 'B', '_', '-', '=', 'é'] {
                let mut forged: Vec<char> = text.chars().collect();
                if forged[at] == other {
                    continue;
                }
                forged[at] = other;
                let forged: String = forged.into_iter().collect();
                assert!(Presented::parse(TokenKind::Access, &forged, &keys()).is_none(), "{at} {other}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic_or_accept(text in ".{0,100}") {
            prop_assert!(Presented::parse(TokenKind::Access, &text, &keys()).is_none());
        }

        #[test]
        fn no_bytes_with_a_random_tag_are_accepted(raw in prop::array::uniform32(any::<u8>()), rest in prop::array::uniform20(any::<u8>())) {
            let mut bytes = raw.to_vec();
            bytes.extend(rest);
            let text = format!("lga_{}", BASE64URL_NOPAD.encode(&bytes));
            prop_assert!(Presented::parse(TokenKind::Access, &text, &keys()).is_none());
        }
    }
}
