//! Finding a secret in a haystack of bytes in any of the forms it may be written
//! in: as it is, hexadecimal, base64 at each of the three offsets.

use data_encoding::{BASE64, BASE64URL, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};

/// A secret and its forms.
#[derive(Debug)]
pub struct Needle {
    /// Whose secret it is, for the report.
    pub label: String,
    forms: Vec<(&'static str, Vec<u8>)>,
}

impl Needle {
    /// A text in all forms.
    pub fn text(label: impl Into<String>, secret: &str) -> Self {
        Self::bytes(label, secret.as_bytes())
    }

    /// Bytes in all forms.
    pub fn bytes(label: impl Into<String>, secret: &[u8]) -> Self {
        let mut forms = vec![
            ("as it is", secret.to_vec()),
            ("in hexadecimal", HEXLOWER.encode(secret).into_bytes()),
            ("in hexadecimal", HEXUPPER.encode(secret).into_bytes()),
        ];
        for offset in 0..3 {
            forms.push(("in base64", inner(&BASE64, offset, secret)));
            forms.push(("in base64", inner(&BASE64URL, offset, secret)));
        }
        Self { label: label.into(), forms }
    }

    /// The secret inside one of our tokens: 24 bytes before the tag of 8, base64
    /// after the prefix. `None` when the token has another form.
    pub fn inside(label: impl Into<String>, token: &str) -> Option<Self> {
        // 52 bytes: session 16, generation 4, secret 24, tag 8.
        let encoded = token.get(token.len().checked_sub(70)?..)?;
        let bytes = BASE64URL_NOPAD.decode(encoded.as_bytes()).ok()?;
        Some(Self::bytes(label, bytes.get(20..44)?))
    }

    /// The form in which it is found, if it is.
    pub fn find_in(&self, haystack: &[u8]) -> Option<&'static str> {
        let found = self.forms.iter().find(|(_, form)| contains(haystack, form));
        found.map(|(name, _)| *name)
    }
}

/// The characters of a base64 text that depend on the secret alone when it stands
/// `offset` bytes after a multiple of three.
fn inner(encoding: &data_encoding::Encoding, offset: usize, secret: &[u8]) -> Vec<u8> {
    let mut padded = vec![0; offset];
    padded.extend_from_slice(secret);
    let whole = padded.len() * 8 / 6;
    let first = (offset * 8).div_ceil(6);
    encoding.encode(&padded).into_bytes()[first..whole].to_vec()
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    // Quick on megabytes: compare whole windows only where the first byte fits.
    let Some((&first, rest)) = needle.split_first() else {
        return false;
    };
    let mut from = 0;
    while let Some(at) = haystack[from..].iter().position(|&b| b == first) {
        from += at + 1;
        if haystack[from..].starts_with(rest) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_found_and_nothing_else() {
        let needle = Needle::text("x", "canary-8271-secret");
        for before in ["", "a", "ab", "abc"] {
            let text = format!("{before}canary-8271-secret and more");
            let encoded = [BASE64.encode(text.as_bytes()), BASE64URL.encode(text.as_bytes())];
            for haystack in encoded {
                assert_eq!(needle.find_in(haystack.as_bytes()), Some("in base64"), "{haystack}");
            }
        }
        let hex = HEXLOWER.encode(b"--canary-8271-secret--");
        assert_eq!(needle.find_in(hex.as_bytes()), Some("in hexadecimal"));
        assert_eq!(needle.find_in(b"ccanary-8271-secret"), Some("as it is"));
        assert_eq!(needle.find_in(b"canary-8271-secre"), None);
    }

    #[test]
    fn the_secret_inside_a_token() {
        let mut bytes = [7_u8; 52];
        bytes[20..44].copy_from_slice(b"the twenty-four bytes...");
        let token = format!("prefix_{}", BASE64URL_NOPAD.encode(&bytes));
        let needle = Needle::inside("x", &token).unwrap();
        assert!(needle.find_in(b"..the twenty-four bytes.....").is_some());
        assert!(Needle::inside("x", "short").is_none());
    }
}
