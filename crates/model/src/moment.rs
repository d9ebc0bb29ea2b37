//! Moments in words, for messages about what expired or is not valid yet.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const YEAR: u64 = 365 * DAY;

/// Where a moment is, seen from now: `2 hours ago`, `yesterday`, `in 3 days`. Both are seconds since
/// 1970.
#[must_use]
pub fn relative(then: i64, now: i64) -> String {
    let distance = then.abs_diff(now);
    let past = then <= now;
    if (DAY..2 * DAY).contains(&distance) {
        return if past { "yesterday" } else { "tomorrow" }.to_owned();
    }
    let length = length(distance);
    if past { format!("{length} ago") } else { format!("in {length}") }
}

/// A length of time, in its largest unit that leaves more than one: `90 minutes`, `3 days`.
#[must_use]
pub fn length(seconds: u64) -> String {
    let (unit, name) = match seconds {
        ..120 => (1, "second"),
        120..7200 => (MINUTE, "minute"),
        7200..DAY => (HOUR, "hour"),
        _ if seconds < 2 * YEAR => (DAY, "day"),
        _ => (YEAR, "year"),
    };
    let count = seconds / unit;
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {name}{plural}")
}

/// A moment as RFC 3339 has it, in UTC: `2026-11-25T10:00:00Z`. What no calendar has is told in seconds.
#[must_use]
pub fn timestamp(then: i64) -> String {
    OffsetDateTime::from_unix_timestamp(then)
        .ok()
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{then} s after 1970"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn relative_to_now(seconds: i64) -> String {
        relative(NOW + seconds, NOW)
    }

    #[test]
    fn the_past_is_told_in_the_unit_that_fits() {
        for (seconds, words) in [
            (0, "0 seconds ago"),
            (-1, "1 second ago"),
            (-119, "119 seconds ago"),
            (-120, "2 minutes ago"),
            (-7200, "2 hours ago"),
            (-86_399, "23 hours ago"),
            (-86_400, "yesterday"),
            (-172_800, "2 days ago"),
            (-63_072_000, "2 years ago"),
        ] {
            assert_eq!(relative_to_now(seconds), words, "{seconds}");
        }
    }

    #[test]
    fn so_is_the_future() {
        for (seconds, words) in [
            (60, "in 60 seconds"),
            (3600, "in 60 minutes"),
            (90_000, "tomorrow"),
            (864_000, "in 10 days"),
        ] {
            assert_eq!(relative_to_now(seconds), words, "{seconds}");
        }
    }

    #[test]
    fn no_number_is_too_large() {
        assert!(relative(i64::MIN, i64::MAX).ends_with("years ago"));
        assert_eq!(timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(i64::MAX), "9223372036854775807 s after 1970");
    }
}
