//! How a module is loaded.

use std::path::Path;
use std::rc::Rc;

use rquickjs::loader::{ImportAttributes, Loader};
use rquickjs::module::Declared;
use rquickjs::{Ctx, Module, Result};

use super::embedded;
use crate::sources::Sources;
use crate::throw;
use crate::transpile::{Language, transpile};

/// Loads embedded modules and files.
pub(crate) struct ModuleLoader {
    sources: Rc<Sources>,
}

impl ModuleLoader {
    pub(crate) fn new(sources: Rc<Sources>) -> Self {
        Self { sources }
    }
}

impl Loader for ModuleLoader {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        attributes: Option<ImportAttributes<'js>>,
    ) -> Result<Module<'js, Declared>> {
        if let Some(code) = embedded::code(name) {
            return Module::declare(ctx.clone(), name, code);
        }
        let path = Path::new(name);
        let text = std::fs::read_to_string(path).map_err(|error| {
            throw::error(ctx, "Error", &format!("cannot read module {name}: {error}"))
        })?;
        let kind = attributes.map(|attributes| attributes.get_type()).transpose()?.flatten();
        match kind.as_deref() {
            Some("json") => json(ctx, name, &text),
            None if path.extension().is_some_and(|extension| extension == "json") => {
                let message = format!("{name} is JSON: import it `with {{ type: \"json\" }}`");
                Err(throw::error(ctx, "TypeError", &message))
            }
            None => declare(ctx, &self.sources, name, text, Language::of(path), false),
            Some(other) => {
                let message = format!("modules of type \"{other}\" are not supported: {name}");
                Err(throw::error(ctx, "TypeError", &message))
            }
        }
    }
}

/// Declares a module of a source that is ours to transpile.
pub(crate) fn declare<'js>(
    ctx: &Ctx<'js>,
    sources: &Sources,
    name: &str,
    text: String,
    language: Language,
    main: bool,
) -> Result<Module<'js, Declared>> {
    // JavaScript goes through as well: an error in it is shown as well as one in TypeScript.
    let transpiled = transpile(name, &text, language, false)
        .map_err(|message| throw::error(ctx, "SyntaxError", &message))?;
    sources.insert(name, text, language);
    let module = Module::declare(ctx.clone(), name, transpiled.code)?;
    let meta = module.meta()?;
    meta.set("url", format!("file://{name}"))?;
    meta.set("main", main)?;
    meta.set("filename", name)?;
    meta.set("dirname", Path::new(name).parent().map(|path| path.to_string_lossy().into_owned()))?;
    Ok(module)
}

fn json<'js>(ctx: &Ctx<'js>, name: &str, text: &str) -> Result<Module<'js, Declared>> {
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
        let message = format!("{name} is not JSON: {error}");
        return Err(throw::error(ctx, "SyntaxError", &message));
    }
    // As text, because `{"__proto__": …}` means something else in JavaScript than in JSON.
    let quoted = serde_json::to_string(text)
        .map_err(|error| throw::error(ctx, "Error", &error.to_string()))?;
    Module::declare(ctx.clone(), name, format!("export default JSON.parse({quoted});"))
}
