//! Phone numbers in their canonical form (E.164 without the plus, as the specification stores them).

use std::ops::RangeInclusive;

use phonenumber::Mode;

/// Country code and number; E.164 allows 15.
const DIGITS: RangeInclusive<usize> = 7..=15;

/// Reads a number as a person of this country (ISO 3166-1 alpha-2) types it.
#[must_use]
pub fn canonical(country: &str, typed: &str) -> Option<String> {
    const CHARS_MAX: usize = 64;
    if typed.len() > CHARS_MAX {
        return None;
    }
    let country = country.to_ascii_uppercase().parse().ok()?;
    let number = phonenumber::parse(Some(country), typed).ok()?;
    let digits = number.format().mode(Mode::E164).to_string().trim_start_matches('+').to_owned();
    // Not whether the number is in use: numbering plans change more often than programs.
    DIGITS.contains(&digits.len()).then_some(digits)
}

/// Whether a text is a number in that form.
#[must_use]
pub fn is_canonical(text: &str) -> bool {
    DIGITS.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn a_number_has_one_form() {
        let form = Some("447700900123".to_owned());
        assert_eq!(canonical("GB", "07700 900123"), form);
        assert_eq!(canonical("gb", "+44 7700 900123"), form);
        assert_eq!(canonical("DE", "+44 7700 900123"), form);
        assert_eq!(canonical("XX", "07700 900123"), None);
        assert_eq!(canonical("GB", "12"), None);
        assert_eq!(canonical("GB", "hello"), None);
        assert_eq!(canonical("GB", &"1".repeat(1_000)), None);
    }
}
