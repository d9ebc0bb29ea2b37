//! Numbers as people write and read them: sizes, durations, times, signals.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Binary multiples, largest first; a lone letter means the same, as in the kernel's files.
const SIZES: [(&str, &str, u64); 5] = [
    ("PiB", "P", 1 << 50),
    ("TiB", "T", 1 << 40),
    ("GiB", "G", 1 << 30),
    ("MiB", "M", 1 << 20),
    ("KiB", "K", 1 << 10),
];

/// Decimal multiples.
const DECIMAL_SIZES: [(&str, u64); 5] = [
    ("PB", 1_000_000_000_000_000),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
];

/// Units of time in nanoseconds, largest first.
const DURATIONS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Linux' signals by number, from 1; the same on every architecture we run on.
const SIGNALS: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// The largest signal number (`SIGRTMAX`).
const MAX_SIGNAL: i64 = 64;

/// Splits `1.5MiB` into its number and its unit.
fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

/// Multiplies a decimal number, exactly; `None` when it is no number or does not fit.
fn scale(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) || fraction.len() > 18 {
        return None;
    }
    let whole = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    if fraction.is_empty() {
        return Some(whole);
    }
    let divisor = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = u128::from(fraction.parse::<u64>().ok()?).checked_mul(u128::from(factor))? / divisor;
    whole.checked_add(u64::try_from(part).ok()?)
}

/// Parses a size: `64MiB`, `1G`, `10MB`, `4096`.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let binary = SIZES
        .iter()
        .find(|(long, short, _)| {
            unit.eq_ignore_ascii_case(long) || unit.eq_ignore_ascii_case(short)
        })
        .map(|(.., factor)| *factor);
    let decimal = || DECIMAL_SIZES.iter().find(|(name, _)| unit.eq_ignore_ascii_case(name));
    let factor = match unit {
        "" | "B" => Some(1),
        _ => binary.or_else(|| decimal().map(|(_, factor)| *factor)),
    };
    factor
        .and_then(|factor| scale(number, factor))
        .ok_or_else(|| "expected a size: `64MiB`, `1G`, `10MB`, or a number of bytes".to_owned())
}

/// Parses a duration: `10s`, `1h30m`, `400ms`; `plain` is the unit of a number without one.
pub(crate) fn parse_nanoseconds(text: &str, plain: &str) -> Result<u64, String> {
    let wrong =
        || format!("expected a duration: `10s`, `400ms`, `1h30m`, or a number of `{plain}`");
    let (mut total, mut rest) = (0_u64, text.trim());
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let (number, after) = split(rest);
        let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(end);
        let unit = match unit {
            "" if total == 0 && next.is_empty() => plain,
            "µs" | "μs" => "us",
            unit => unit,
        };
        let factor = DURATIONS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
        let part = factor.and_then(|factor| scale(number, factor)).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = next;
    }
    Ok(total)
}

/// Parses a duration; a plain number is seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    parse_nanoseconds(text, "s").map(Duration::from_nanos)
}

/// Parses a time: RFC 3339, `now`, or how long ago it was (`5m`).
pub(crate) fn parse_time(text: &str, now: SystemTime) -> Result<OffsetDateTime, String> {
    if text == "now" {
        return Ok(now.into());
    }
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(time);
    }
    let ago = text.strip_suffix("ago").unwrap_or(text).trim_end();
    let ago = parse_nanoseconds(ago, "s").ok().map(Duration::from_nanos);
    ago.and_then(|ago| now.checked_sub(ago)).map(OffsetDateTime::from).ok_or_else(|| {
        "expected a time: `2026-11-22T15:04:05Z`, how long ago it was (`5m`), or `now`".to_owned()
    })
}

/// Parses a signal: `TERM`, `SIGKILL`, `RTMIN+1`, `9`.
pub(crate) fn parse_signal(text: &str) -> Result<i64, String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(place) = SIGNALS.iter().position(|signal| *signal == name) {
        return Ok(i64::try_from(place).unwrap_or(i64::MAX).saturating_add(1));
    }
    match text.parse() {
        Ok(number) if (1..=MAX_SIGNAL).contains(&number) => Ok(number),
        _ => {
            Err(format!("expected a signal: `TERM`, `SIGKILL`, or a number from 1 to {MAX_SIGNAL}"))
        }
    }
}

/// Parses a share: `12.5%`, or a plain number of basis points.
pub(crate) fn parse_basis_points(text: &str) -> Result<u64, String> {
    let parsed = match text.strip_suffix('%') {
        Some(percent) => scale(percent.trim_end(), 100),
        None => text.parse().ok(),
    };
    parsed.ok_or_else(|| "expected a percentage (`12.5%`) or a number of basis points".to_owned())
}

/// `64 MiB`, `1.5 GiB`, `512 B`.
pub(crate) fn format_bytes(bytes: u64) -> String {
    let Some((unit, _, factor)) = SIZES.iter().find(|(.., factor)| bytes >= *factor) else {
        return format!("{bytes} B");
    };
    let tenths = u128::from(bytes) * 10 / u128::from(*factor);
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole} {unit}"),
        (whole, tenth) => format!("{whole}.{tenth} {unit}"),
    }
}

/// `400ms`, `1.5s`, `2h3m`.
pub(crate) fn format_nanoseconds(nanoseconds: u64) -> String {
    const MINUTE: u64 = 60_000_000_000;
    if nanoseconds >= MINUTE {
        return format_long(nanoseconds);
    }
    let Some((unit, factor)) = DURATIONS.iter().find(|(_, factor)| nanoseconds >= *factor) else {
        return "0s".to_owned();
    };
    let (whole, part) = (nanoseconds / factor, nanoseconds % factor * 1000 / factor);
    let fraction = format!("{part:03}");
    match fraction.trim_end_matches('0') {
        "" => format!("{whole}{unit}"),
        fraction => format!("{whole}.{fraction}{unit}"),
    }
}

/// A minute or more, down to whole seconds.
fn format_long(nanoseconds: u64) -> String {
    let (mut text, mut rest) = (String::new(), nanoseconds);
    for (unit, factor) in DURATIONS.iter().take_while(|(unit, _)| *unit != "ms") {
        if rest >= *factor {
            text.push_str(&format!("{}{unit}", rest / factor));
            rest %= factor;
        }
    }
    text
}

/// RFC 3339 in UTC; `None` out of the years that it can write.
pub(crate) fn format_time(nanoseconds: i128) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok()?;
    time.format(&Rfc3339).ok()
}

/// `SIGTERM`, or the number where there is no name.
pub(crate) fn format_signal(number: i64) -> String {
    let place = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
    match place.and_then(|place| SIGNALS.get(place)) {
        Some(name) => format!("SIG{name}"),
        None => number.to_string(),
    }
}

/// `12.5%`.
pub(crate) fn format_basis_points(points: i64) -> String {
    let sign = if points < 0 { "-" } else { "" };
    let (whole, part) = (points.unsigned_abs() / 100, points.unsigned_abs() % 100);
    let fraction = format!("{part:02}");
    match fraction.trim_end_matches('0') {
        "" => format!("{sign}{whole}%"),
        fraction => format!("{sign}{whole}.{fraction}%"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn sizes_are_binary_unless_they_say_otherwise() {
        for (text, bytes) in [
            ("4096", 4096),
            ("64MiB", 64 << 20),
            ("64m", 64 << 20),
            ("1.5G", 3 << 29),
            ("1 KiB", 1024),
            ("10MB", 10_000_000),
            ("7B", 7),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "x", "-1", "1XB", "1.", ".5M", "1..2M", "16777216T", "1e3", "MiB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_add_up() {
        for (text, nanoseconds) in [
            ("10", 10_000_000_000),
            ("400ms", 400_000_000),
            ("1.5s", 1_500_000_000),
            ("1h30m", 5_400_000_000_000),
            ("5µs", 5_000),
            ("0", 0),
        ] {
            assert_eq!(parse_nanoseconds(text, "s"), Ok(nanoseconds), "{text}");
        }
        for text in ["", "s", "1x", "1h30", "-1s", "99999999999d"] {
            assert!(parse_nanoseconds(text, "s").is_err(), "{text}");
        }
        assert_eq!(parse_nanoseconds("250", "us"), Ok(250_000));
    }

    #[test]
    fn a_time_is_absolute_or_ago() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        let seconds = |text| parse_time(text, now).map(OffsetDateTime::unix_timestamp);
        assert_eq!(seconds("1970-01-02T00:00:00+01:00"), Ok(82_800));
        assert_eq!(seconds("5m"), Ok(999_700));
        assert_eq!(seconds("5m ago"), Ok(999_700));
        assert_eq!(seconds("now"), Ok(1_000_000));
        assert!(seconds("yesterday").is_err());
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for text in ["TERM", "sigterm", "SIGTERM", "15"] {
            assert_eq!(parse_signal(text), Ok(15), "{text}");
        }
        assert_eq!(parse_signal("64"), Ok(64));
        for text in ["0", "65", "-9", "NOPE", ""] {
            assert!(parse_signal(text).is_err(), "{text}");
        }
        assert_eq!(format_signal(9), "SIGKILL");
        assert_eq!(format_signal(40), "40");
        assert_eq!(format_signal(-1), "-1");
    }

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(format_bytes(0), "0 B");
        assert_eq!(format_bytes(64 << 20), "64 MiB");
        assert_eq!(format_bytes(u64::MAX), "16383.9 PiB");
        assert_eq!(format_bytes(1536), "1.5 KiB");
        assert_eq!(format_nanoseconds(0), "0s");
        assert_eq!(format_nanoseconds(400_000_000), "400ms");
        assert_eq!(format_nanoseconds(1_500_000_000), "1.5s");
        assert_eq!(format_nanoseconds(7_380_000_000_000), "2h3m");
        assert_eq!(format_time(0).unwrap(), "1970-01-01T00:00:00Z");
        assert_eq!(format_time(i128::MAX), None);
        assert_eq!(format_basis_points(1250), "12.5%");
        assert_eq!(parse_basis_points("12.5%"), Ok(1250));
        assert_eq!(parse_basis_points("70"), Ok(70));
    }
}
