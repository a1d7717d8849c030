//! Go durations: read without a panic for any text, written as Go writes them.

use std::time::Duration;

use kubernaut_crds::DURATION_MAX_LENGTH;

/// A text that is not a duration. Its message quotes the text, says what is wrong and gives an example.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a duration: {problem}write a number and a unit (ms, s, m, h), such as 5m or 1h30m")]
pub struct DurationError {
    text: String,
    problem: String,
}

/// Reads a Go duration string of the API's grammar ([`kubernaut_crds::DURATION_PATTERN`], at most
/// [`DURATION_MAX_LENGTH`] characters). Parts of a nanosecond are cut off, as Go does.
///
/// The length and the seven digits before the point keep the sum far below an overflow.
pub fn parse_go(text: &str) -> Result<Duration, DurationError> {
    let error = |problem: String| DurationError {
        text: text.chars().take(DURATION_MAX_LENGTH + 1).collect(),
        problem: if problem.is_empty() {
            problem
        } else {
            format!("{problem}; ")
        },
    };
    if text.chars().count() > DURATION_MAX_LENGTH {
        return Err(error(format!(
            "it has more than {DURATION_MAX_LENGTH} characters"
        )));
    }
    if text.is_empty() {
        return Err(error(String::new()));
    }
    let mut nanos = 0_u128;
    let mut rest = text;
    while !rest.is_empty() {
        let (whole, after_whole) = split_digits(rest);
        if whole.is_empty() {
            return Err(error(String::new()));
        }
        if whole.len() > 7 {
            return Err(error(format!("{whole} has more than seven digits")));
        }
        let (fraction, after_number) = match after_whole.strip_prefix('.') {
            Some(after_point) => split_digits(after_point),
            None => ("", after_whole),
        };
        if after_whole.starts_with('.') && fraction.is_empty() {
            return Err(error(format!("no digit follows the point of {whole}.")));
        }
        if fraction.len() > 9 {
            return Err(error(format!("{fraction} has more than nine digits")));
        }
        let Some((unit, after_unit)) = split_unit(after_number) else {
            return Err(error(if after_number.is_empty() {
                format!("{whole} has no unit")
            } else {
                String::new()
            }));
        };
        nanos += digits(whole) * unit;
        // A digit at position i of the fraction counts unit / 10^(i + 1).
        nanos += digits(fraction) * unit / 10_u128.pow(fraction.len().try_into().unwrap_or(0));
        rest = after_unit;
    }
    let seconds = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
    let below_second = u32::try_from(nanos % 1_000_000_000).unwrap_or(0);
    Ok(Duration::new(seconds, below_second))
}

/// Writes a duration as Go does: `1h0m0s`, `5m0s`, `1.5s`, `300ms`, `0s`. Below a millisecond it stays with `ms`,
/// so that [`parse_go`] reads what this writes.
pub fn format_go(duration: Duration) -> String {
    if duration.is_zero() {
        return "0s".to_owned();
    }
    let seconds = duration.as_secs();
    if seconds == 0 {
        let nanos = duration.subsec_nanos();
        return format!(
            "{}ms",
            with_fraction(u64::from(nanos / 1_000_000), nanos % 1_000_000, 6)
        );
    }
    let below_minute = with_fraction(seconds % 60, duration.subsec_nanos(), 9);
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{below_minute}s"),
        (0, minutes) => format!("{minutes}m{below_minute}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{below_minute}s"),
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    text.split_at(end)
}

/// The unit at the start of a text in nanoseconds, and what follows it.
fn split_unit(text: &str) -> Option<(u128, &str)> {
    const UNITS: [(&str, u128); 4] = [
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    UNITS
        .iter()
        .find_map(|(unit, nanos)| text.strip_prefix(unit).map(|rest| (*nanos, rest)))
}

fn digits(text: &str) -> u128 {
    text.bytes()
        .fold(0, |sum, digit| sum * 10 + u128::from(digit - b'0'))
}

fn with_fraction(whole: u64, fraction: u32, width: usize) -> String {
    let fraction = format!("{fraction:0width$}");
    match fraction.trim_end_matches('0') {
        "" => whole.to_string(),
        digits => format!("{whole}.{digits}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_of_the_grammar_is_read() {
        for (text, millis) in [
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("90s", 90_000),
            ("1.5h", 5_400_000),
            ("500ms", 500),
            ("0s", 0),
            ("1m1m", 120_000),
            ("1m1ms", 60_001),
            ("9999999h", 9_999_999 * 3_600_000),
        ] {
            assert_eq!(parse_go(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(parse_go("0.000000001s"), Ok(Duration::from_nanos(1)));
        assert_eq!(parse_go("0.000000001ms"), Ok(Duration::ZERO));
    }

    #[test]
    fn the_longest_sum_does_not_overflow() {
        let text = "9999999h9999999h9999999h9999999h";
        assert_eq!(text.len(), DURATION_MAX_LENGTH);
        assert_eq!(parse_go(text), Ok(Duration::from_hours(4 * 9_999_999)));
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in [
            "",
            "5",
            "m",
            "-5m",
            "+5m",
            " 5m",
            "5m ",
            "5 m",
            "5M",
            "1.m",
            ".5m",
            "1e3s",
            "5m3",
            "5us",
            "5µs",
            "12345678s",
            "1.1234567890s",
            "5分",
            "٥m",
            "1..5s",
            "99999999999999999999h",
            "1s\n",
            "\0",
        ] {
            assert!(parse_go(text).is_err(), "{text:?}");
        }
        assert!(parse_go(&"1s".repeat(17)).is_err());
    }

    #[test]
    fn the_error_says_what_is_wrong_and_gives_an_example() {
        let message = |text: &str| parse_go(text).unwrap_err().to_string();
        assert_eq!(
            message("5 minutes"),
            r#""5 minutes" is not a duration: write a number and a unit (ms, s, m, h), such as 5m or 1h30m"#
        );
        assert_eq!(
            message("30"),
            r#""30" is not a duration: 30 has no unit; write a number and a unit (ms, s, m, h), such as 5m or 1h30m"#
        );
        assert!(message(&"1".repeat(100_000)).len() < 250);
    }

    #[test]
    fn durations_are_written_as_go_does() {
        for (millis, text) in [
            (0, "0s"),
            (300, "300ms"),
            (1_000, "1s"),
            (1_500, "1.5s"),
            (60_000, "1m0s"),
            (300_000, "5m0s"),
            (3_600_000, "1h0m0s"),
            (5_445_250, "1h30m45.25s"),
        ] {
            assert_eq!(format_go(Duration::from_millis(millis)), text);
        }
        assert_eq!(format_go(Duration::from_nanos(1_500)), "0.0015ms");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = parse_go(&text);
        }

        #[test]
        fn near_misses_do_not_make_it_panic(text in "[0-9.msh]{0,40}") {
            let _ = parse_go(&text);
        }

        #[test]
        fn the_grammar_of_the_api_is_accepted(text in "([0-9]{1,7}(\\.[0-9]{1,9})?(ms|s|m|h)){1,3}") {
            prop_assert_eq!(parse_go(&text).is_ok(), text.len() <= DURATION_MAX_LENGTH);
        }

        #[test]
        fn what_is_written_is_read_back(nanos in any::<u64>()) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_go(&format_go(duration)), Ok(duration));
        }
    }
}
