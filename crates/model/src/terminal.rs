//! The size of a terminal.

use std::num::NonZeroU16;

use crate::Invalid;

/// The size of a terminal in characters; neither side is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    rows: NonZeroU16,
    columns: NonZeroU16,
}

impl TerminalSize {
    /// A size as the wire has it; `field` is its path there.
    ///
    /// # Errors
    /// A side is zero, or more than the kernel has numbers for.
    pub fn parse(rows: u32, columns: u32, field: &str) -> Result<Self, Invalid> {
        let side = |number: u32, name: &str| {
            let side = u16::try_from(number).ok().and_then(NonZeroU16::new);
            side.ok_or_else(|| Invalid::new(format!("{field}.{name}"), "Must be in 1 to 65535"))
        };
        Ok(Self { rows: side(rows, "rows")?, columns: side(columns, "columns")? })
    }

    /// Its height.
    #[must_use]
    pub fn rows(self) -> u16 {
        self.rows.get()
    }

    /// Its width.
    #[must_use]
    pub fn columns(self) -> u16 {
        self.columns.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_side_is_zero_or_beyond_16_bits() {
        let size = TerminalSize::parse(1, 65535, "terminal").unwrap();
        assert_eq!((size.rows(), size.columns()), (1, 65535));
        let refusal =
            |rows, columns| TerminalSize::parse(rows, columns, "terminal").unwrap_err().to_string();
        assert_eq!(refusal(0, 80), "Field = terminal.rows; Must be in 1 to 65535");
        assert_eq!(refusal(24, 0), "Field = terminal.columns; Must be in 1 to 65535");
        assert_eq!(refusal(24, 65536), "Field = terminal.columns; Must be in 1 to 65535");
    }
}
