//! Whatever is presented as a token: the parser accepts only what these keys have signed.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use ligand_protocol::ids::SessionId;
use ligand_protocol::token::{Minted, Presented, Secret, TagKeys, TokenKind};
use ligand_protocol::uia::Proof;

static KEYS: LazyLock<TagKeys> = LazyLock::new(|| TagKeys::new(&[1; 32], Some(&[2; 32])));

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for kind in [TokenKind::Access, TokenKind::Refresh, TokenKind::Login, TokenKind::OpenId] {
        assert!(Presented::parse(kind, text, &KEYS).is_none(), "a token nobody minted");
    }
    // Bent anywhere, a genuine token is none.
    let genuine = Minted::new(TokenKind::Access, SessionId([3; 16]), 7, &Secret([9; 24]), &KEYS);
    if let [at, with, ..] = data {
        let mut bytes = genuine.text.expose().as_bytes().to_vec();
        let at = usize::from(*at) % bytes.len();
        let changed = bytes[at] != *with;
        bytes[at] = *with;
        if let Ok(bent) = std::str::from_utf8(&bytes) {
            assert_eq!(Presented::parse(TokenKind::Access, bent, &KEYS).is_none(), changed);
        }
    }
    if let Some(proofs) = Proof::from_text(text) {
        assert_eq!(Proof::from_text(&Proof::to_text(&proofs)), Some(proofs));
    }
});
