//! Users and groups that a cell has for itself.

use std::fmt;

use crate::Invalid;

/// The host's own users, which its password file names, are below.
const SYSTEM: u32 = 65_536;

/// Users of the host, and the groups of the same numbers, that are 0, 1, 2, … in a user namespace: at least
/// one, and none is 4294967295, which is nobody's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    first: u32,
    count: u32,
}

impl IdRange {
    /// Where a range begins that was not said to begin elsewhere.
    pub const DEFAULT_FIRST: u32 = 524_288;
    /// How many a range has that was not said to have more or less: those that programs know of.
    pub const DEFAULT_COUNT: u32 = 65_536;

    /// Parses a range. Below 65536 it may begin only where `system` says so. `field` is the message that is
    /// named in the error.
    ///
    /// # Errors
    /// It is empty, too long, or begins too low.
    pub fn parse(
        first: Option<u32>,
        count: Option<u32>,
        system: bool,
        field: &str,
    ) -> Result<Self, Invalid> {
        let first = first.unwrap_or(Self::DEFAULT_FIRST);
        let count = count.unwrap_or(Self::DEFAULT_COUNT);
        if count == 0 {
            return Err(Invalid::new(format!("{field}.count"), "Must be 1 or more"));
        }
        if first < SYSTEM && !system {
            let rule = format!(
                "Must be {SYSTEM} or more, unless allow_system_ids is set: below are the host's own users"
            );
            return Err(Invalid::new(format!("{field}.host_id"), rule));
        }
        let too_long = || {
            let rule = format!(
                "Must be at most {}: the last number is {}",
                u32::MAX - first,
                u32::MAX - 1
            );
            Invalid::new(format!("{field}.count"), rule)
        };
        Self::new(first, count).ok_or_else(too_long)
    }

    /// The range of `count` that begins with `first`, if there is one.
    #[must_use]
    pub fn new(first: u32, count: u32) -> Option<Self> {
        (count > 0 && first.checked_add(count).is_some()).then_some(Self { first, count })
    }

    /// The first, which is 0 inside.
    #[must_use]
    pub fn first(self) -> u32 {
        self.first
    }

    /// How many there are.
    #[must_use]
    pub fn count(self) -> u32 {
        self.count
    }

    /// Whether some are the host's own.
    #[must_use]
    pub fn has_system_ids(self) -> bool {
        self.first < SYSTEM
    }
}

/// As [`IdRange::from_text`] reads it.
impl fmt::Display for IdRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}+{}", self.first, self.count)
    }
}

impl IdRange {
    /// Reads what was displayed.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let (first, count) = text.split_once('+')?;
        Self::new(first.parse().ok()?, count.parse().ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(first: Option<u32>, count: Option<u32>, system: bool) -> Result<String, String> {
        let range = IdRange::parse(first, count, system, "users");
        range.map(|range| range.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_range_is_as_long_as_numbers_are() {
        assert_eq!(parse(None, None, false), Ok("524288+65536".into()));
        assert_eq!(parse(Some(65_536), Some(1), false), Ok("65536+1".into()));
        assert_eq!(parse(Some(1_000_000), None, false), Ok("1000000+65536".into()));
        // The last number is nobody's.
        let most = u32::MAX - 65_536;
        assert_eq!(parse(Some(65_536), Some(most), false), Ok(format!("65536+{most}")));
        let rule =
            format!("Field = users.count; Must be at most {most}: the last number is 4294967294");
        assert_eq!(parse(Some(65_536), Some(most + 1), false), Err(rule));
        assert!(parse(Some(u32::MAX), Some(1), false).is_err());
        assert_eq!(
            parse(None, Some(0), false),
            Err("Field = users.count; Must be 1 or more".into())
        );
    }

    #[test]
    fn the_hosts_own_users_are_given_away_only_where_that_is_said() {
        for first in [0, 1, 65_535] {
            let refused = parse(Some(first), Some(1), false).unwrap_err();
            assert!(
                refused.starts_with("Field = users.host_id; Must be 65536 or more"),
                "{refused}"
            );
            assert_eq!(parse(Some(first), Some(1), true), Ok(format!("{first}+1")));
        }
        assert!(IdRange::new(65_535, 2).unwrap().has_system_ids());
        assert!(!IdRange::new(65_536, 2).unwrap().has_system_ids());
    }

    #[test]
    fn what_is_displayed_can_be_read() {
        let range = IdRange::new(7, 8).unwrap();
        assert_eq!(IdRange::from_text(&range.to_string()), Some(range));
        for text in ["", "7", "7+", "7+0", "-1+1", "4294967295+1", "7+8+9"] {
            assert_eq!(IdRange::from_text(text), None, "{text}");
        }
    }
}
