//! TypeScript in, JavaScript out: types are erased, and what the engine does not have (enums,
//! namespaces, parameter properties, decorators) is lowered. Nothing is type-checked here.

use std::path::Path;

use oxc::allocator::Allocator;
use oxc::codegen::{Codegen, CodegenOptions, CodegenReturn, CommentOptions};
use oxc::diagnostics::{OxcDiagnostic, Severity};
use oxc::parser::Parser;
use oxc::semantic::SemanticBuilder;
use oxc::span::SourceType;
use oxc::transformer::{DecoratorOptions, HelperLoaderOptions, TransformOptions, Transformer};

use crate::frame::{self, Position};

/// Where lowered decorators import their helpers from.
pub(crate) const HELPERS: &str = "aurae:helpers";

/// How many syntax errors of one file are shown.
const ERRORS_SHOWN: usize = 3;

/// What a file is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    TypeScript,
    JavaScript,
}

impl Language {
    /// By the file's extension. A file without one (a program with a `#!` line) is TypeScript.
    pub(crate) fn of(path: &Path) -> Self {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("js" | "mjs" | "cjs") => Self::JavaScript,
            _ => Self::TypeScript,
        }
    }

    fn source_type(self) -> SourceType {
        match self {
            Self::TypeScript => SourceType::ts().with_module(true),
            Self::JavaScript => SourceType::mjs(),
        }
    }
}

/// Where generated code came from.
pub(crate) type SourceMap = oxc_sourcemap::SourceMap<'static>;

/// The JavaScript of a source.
pub(crate) struct Transpiled {
    pub(crate) code: String,
    /// Only if it was asked for.
    pub(crate) map: Option<SourceMap>,
}

/// Makes JavaScript of a source. The error is for people: each place with its code frame.
pub(crate) fn transpile(
    name: &str,
    source: &str,
    language: Language,
    with_map: bool,
) -> Result<Transpiled, String> {
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, source, language.source_type()).parse();
    if parsed.panicked || parsed.diagnostics.iter().any(is_error) {
        return Err(explain(name, source, &parsed.diagnostics));
    }
    let mut program = parsed.program;
    let semantic = SemanticBuilder::new()
        .with_check_syntax_error(true)
        .with_excess_capacity(SCOPE_ROOM)
        .with_enum_eval(true)
        .build(&program);
    if semantic.diagnostics.iter().any(is_error) {
        return Err(explain(name, source, &semantic.diagnostics));
    }

    let transformed = Transformer::new(&allocator, Path::new(name), &options())
        .build_with_scoping(semantic.semantic.into_scoping(), &mut program);
    if transformed.diagnostics.iter().any(is_error) {
        return Err(explain(name, source, &transformed.diagnostics));
    }

    let options = CodegenOptions {
        comments: CommentOptions::disabled(),
        source_map_path: with_map.then(|| Path::new(name).to_owned()),
        ..CodegenOptions::default()
    };
    let CodegenReturn { code, map, .. } = Codegen::new().with_options(options).build(&program);
    Ok(Transpiled { code, map: map.map(oxc_sourcemap::SourceMap::into_owned) })
}

/// Room for the scopes that lowering adds: it saves growing the tables.
const SCOPE_ROOM: f64 = 2.0;

fn options() -> TransformOptions {
    let mut options = TransformOptions {
        decorator: DecoratorOptions { legacy: true, ..DecoratorOptions::default() },
        helper_loader: HelperLoaderOptions {
            module_name: HELPERS.into(),
            ..HelperLoaderOptions::default()
        },
        ..TransformOptions::default()
    };
    // The engine has `using`, but loses a module's where a function declaration uses it.
    options.env.es2026.explicit_resource_management = true;
    options
}

fn is_error(diagnostic: &OxcDiagnostic) -> bool {
    diagnostic.severity == Severity::Error
}

fn explain(name: &str, source: &str, diagnostics: &[OxcDiagnostic]) -> String {
    let errors: Vec<&OxcDiagnostic> =
        diagnostics.iter().filter(|diagnostic| is_error(diagnostic)).collect();
    let mut text = String::new();
    for error in errors.iter().take(ERRORS_SHOWN) {
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        text.push_str(&error.message);
        if let Some(label) = error.labels.first() {
            let at = Position::of_offset(source, label.offset() as usize);
            text.push('\n');
            text.push_str(&frame::render(name, source, at, label.len() as usize));
        }
        if let Some(help) = &error.help {
            text.push_str("\n  help: ");
            text.push_str(help);
        }
    }
    if errors.len() > ERRORS_SHOWN {
        text.push_str(&format!("\n\n… and {} more", errors.len() - ERRORS_SHOWN));
    }
    text
}
