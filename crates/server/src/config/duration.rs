//! Durations as operators write them: a whole number and one unit, `"90s"`, `"5m"`, `"30d"`.

use std::time::Duration;

const SECOND: u64 = 1000;
const DAY: u64 = 24 * 60 * 60 * SECOND;
/// Units with their length in milliseconds, longest first.
const UNITS: [(&str, u64); 6] =
    [("w", 7 * DAY), ("d", DAY), ("h", 60 * 60 * SECOND), ("m", 60 * SECOND), ("s", SECOND), ("ms", 1)];
/// A hundred years: far above any use, and far below where adding it to a time could overflow.
const LONGEST: u64 = 36_500 * DAY;

/// What [`parse_duration`] accepts, to complete the words "expected …".
pub(super) const EXPECTED: &str =
    r#"a duration such as "90s", "5m" or "30d" (units ms, s, m, h, d, w; at most 36500d)"#;

/// Reads a duration such as `90s`; `None` if it is not one, or is longer than a hundred years.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let (_, milliseconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
    let total = number.checked_mul(*milliseconds)?;
    (total <= LONGEST).then(|| Duration::from_millis(total))
}

/// Writes a duration in the longest unit that shows it exactly; less than a millisecond is dropped.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let total = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if total == 0 {
        return "0s".to_owned();
    }
    let exact = UNITS.iter().find(|(_, length)| total.is_multiple_of(*length));
    let (unit, length) = exact.copied().unwrap_or(("ms", 1));
    format!("{}{unit}", total / length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_unit_and_writes_it_back() {
        for (text, milliseconds) in [
            ("1ms", 1),
            ("90s", 90_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("30d", 2_592_000_000),
            ("2w", 1_209_600_000),
            ("0s", 0),
            ("1500ms", 1500),
        ] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(duration, Duration::from_millis(milliseconds), "{text}");
            assert_eq!(format_duration(duration), text);
        }
        assert_eq!(format_duration(Duration::from_secs(3600)), "1h");
        assert_eq!(parse_duration("36500d").unwrap().as_millis(), u128::from(LONGEST));
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "5",
            "s",
            "5 m",
            "-5m",
            "5M",
            "1h30m",
            "1.5h",
            "36501d",
            "99999999999999999999w",
            "18446744073709551615w",
            " 5m",
            "5m ",
            "٥m",
        ] {
            assert_eq!(parse_duration(text), None, "{text:?}");
        }
    }
}
