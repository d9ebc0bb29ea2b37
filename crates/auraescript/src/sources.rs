//! The sources of the modules that were loaded, and the way back from a place in the JavaScript that
//! runs to the place in the file that was written.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::frame::{self, Position};
use crate::transpile::{Language, SourceMap, transpile};

/// All modules of a run that came from outside the program, by name.
#[derive(Default)]
pub(crate) struct Sources {
    files: RefCell<HashMap<String, Rc<Source>>>,
}

struct Source {
    text: String,
    language: Language,
    /// Made when the first error needs it: a run without errors does not pay for it.
    map: RefCell<Option<Rc<SourceMap>>>,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: String,
    pub(crate) at: Position,
}

/// How many frames of a stack trace are shown.
const FRAMES_SHOWN: usize = 20;

/// Frames of the modules that come with the program say nothing to a script's author.
const EMBEDDED: &str = "aurae:";

impl Sources {
    /// Remembers a module's source.
    pub(crate) fn insert(&self, name: &str, text: String, language: Language) {
        let source = Source { text, language, map: RefCell::default() };
        self.files.borrow_mut().insert(name.to_owned(), Rc::new(source));
    }

    /// A stack trace as it is to be read: places are those of the files as written, and frames of
    /// the program's own modules are left out.
    pub(crate) fn map_stack(&self, stack: &str) -> String {
        let mut lines: Vec<String> = Vec::new();
        for line in stack.lines() {
            if lines.len() == FRAMES_SHOWN {
                lines.push("    …".to_owned());
                break;
            }
            let Some(frame) = Frame::parse(line) else {
                lines.push(line.to_owned());
                continue;
            };
            if frame.place.file.starts_with(EMBEDDED) || frame.place.file.starts_with('<') {
                continue;
            }
            lines.push(Frame { place: self.original(&frame.place), ..frame }.to_string());
        }
        lines.join("\n")
    }

    /// The code frame of the first place of a stack trace that is in a file we know.
    pub(crate) fn frame_of(&self, mapped_stack: &str) -> Option<String> {
        let place =
            mapped_stack.lines().filter_map(Frame::parse).map(|frame| frame.place).next()?;
        let source = self.get(&place.file)?;
        Some(frame::render(&place.file, &source.text, place.at, 1))
    }

    /// The place in the file as written, of a place in the JavaScript that runs.
    fn original(&self, place: &Place) -> Place {
        self.lookup(place).unwrap_or_else(|| place.clone())
    }

    fn lookup(&self, place: &Place) -> Option<Place> {
        let source = self.get(&place.file)?;
        if source.language == Language::JavaScript {
            return None;
        }
        let map = source.map(&place.file)?;
        let line = u32::try_from(place.at.line).ok()?.checked_sub(1)?;
        let column = u32::try_from(place.at.column).ok()?.checked_sub(1)?;
        let table = map.generate_lookup_table();
        let token = map.lookup_token(&table, line, column)?;
        Some(Place {
            file: place.file.clone(),
            at: Position {
                line: token.get_src_line() as usize + 1,
                column: token.get_src_col() as usize + 1,
            },
        })
    }

    fn get(&self, name: &str) -> Option<Rc<Source>> {
        self.files.borrow().get(name).cloned()
    }
}

impl Source {
    fn map(&self, name: &str) -> Option<Rc<SourceMap>> {
        let mut slot = self.map.borrow_mut();
        if slot.is_none() {
            *slot = transpile(name, &self.text, self.language, true).ok()?.map.map(Rc::new);
        }
        slot.clone()
    }
}

/// A line of a stack trace: `    at name (file:line:column)` or `    at file:line:column`.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    function: Option<String>,
    place: Place,
}

impl Frame {
    fn parse(line: &str) -> Option<Self> {
        let rest = line.trim_start().strip_prefix("at ")?;
        let (function, place) = match rest.rsplit_once(" (") {
            Some((function, place)) => (Some(function), place.strip_suffix(')')?),
            None => (None, rest),
        };
        let (rest, column) = place.rsplit_once(':')?;
        let (file, line) = rest.rsplit_once(':')?;
        Some(Self {
            function: function.filter(|name| *name != "<anonymous>").map(str::to_owned),
            place: Place {
                file: file.to_owned(),
                at: Position { line: line.parse().ok()?, column: column.parse().ok()? },
            },
        })
    }
}

impl std::fmt::Display for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Place { file, at: Position { line, column } } = &self.place;
        match &self.function {
            Some(function) => write!(f, "    at {function} ({file}:{line}:{column})"),
            None => write!(f, "    at {file}:{line}:{column}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_that_of_the_file_as_written() {
        let sources = Sources::default();
        let text = "interface A {\n  b: string;\n}\n\nthrow new Error();\n";
        sources.insert("/x.ts", text.to_owned(), Language::TypeScript);
        let js = transpile("/x.ts", text, Language::TypeScript, false).unwrap().code;
        assert_eq!(js, "throw new Error();\n");

        let mapped = sources.map_stack("    at <anonymous> (/x.ts:1:7)\n");
        assert_eq!(mapped, "    at /x.ts:5:7");
        assert!(
            sources.frame_of(&mapped).unwrap().ends_with("5 | throw new Error();\n   |       ^")
        );
    }

    #[test]
    fn frames_of_the_program_are_left_out() {
        let stack = "    at f (aurae:sdk:1:2)\n    at g (/y.js:3:4)\n    at native (native)\n";
        assert_eq!(
            Sources::default().map_stack(stack),
            "    at g (/y.js:3:4)\n    at native (native)"
        );
    }
}
