//! Code frames: the line where something went wrong, with a mark below it.

/// A place in a source; both numbers start at 1, columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Position {
    /// The place of a byte offset.
    pub(crate) fn of_offset(source: &str, offset: usize) -> Self {
        let mut offset = offset.min(source.len());
        while !source.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = source.get(..offset).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).unwrap_or_default().chars().count() + 1,
        }
    }
}

/// Longer lines are cut: a frame is for reading.
const WIDTH: usize = 160;

/// Renders the line at a position with `length` characters marked:
///
/// ```text
///   --> /home/me/cells.ts:3:12
///    |
///  3 | const x = ;
///    |           ^
/// ```
pub(crate) fn render(name: &str, source: &str, at: Position, length: usize) -> String {
    let Position { line, column } = at;
    let head = format!("  --> {name}:{line}:{column}");
    let Some(text) = source.lines().nth(line - 1) else {
        return head;
    };
    let shown: String = text.chars().take(WIDTH).collect();
    let number = line.to_string();
    let gutter = " ".repeat(number.len());
    if column > WIDTH {
        return format!("{head}\n {gutter} |\n {number} | {shown}…");
    }
    // Tabs stay tabs, so that the mark stands where the terminal puts the character.
    let indent: String = text
        .chars()
        .take(column - 1)
        .map(|character| if character == '\t' { '\t' } else { ' ' })
        .collect();
    let room = shown.chars().count().saturating_sub(column - 1).max(1);
    let mark = "^".repeat(length.clamp(1, room));
    format!("{head}\n {gutter} |\n {number} | {shown}\n {gutter} | {indent}{mark}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_marks_the_place() {
        let source = "let a = 1;\nlet b = ;\n";
        let at = Position::of_offset(source, source.find(" ;").unwrap() + 1);
        assert_eq!(at, Position { line: 2, column: 9 });
        assert_eq!(
            render("x.ts", source, at, 1),
            "  --> x.ts:2:9\n   |\n 2 | let b = ;\n   |         ^"
        );
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(Position::of_offset("äöü?", "äöü".len()), Position { line: 1, column: 4 });
    }

    #[test]
    fn an_offset_behind_the_end_is_the_end() {
        assert_eq!(Position::of_offset("a\n", 99), Position { line: 2, column: 1 });
        assert_eq!(render("x", "a\n", Position { line: 9, column: 1 }, 1), "  --> x:9:1");
    }
}
