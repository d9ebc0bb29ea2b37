//! The modules that come with the program: the SDK with the libraries it stands on, and what only
//! the runtime can give. `sdk/typescript` makes the files (`npm run embed`); nothing is parsed before
//! a script imports it.

/// The scheme of every embedded module's name.
pub(crate) const SCHEME: &str = "aurae:";

/// An embedded module.
struct Embedded {
    /// Its name in stack traces and in the module table.
    name: &'static str,
    /// What a script may import it as, beside its name.
    alias: Option<&'static str>,
    code: &'static str,
}

include!("../../embedded/modules.rs");

/// What lowered code needs; `transpile::HELPERS` is where it looks.
const HELPERS: &[Embedded] = &[
    Embedded {
        name: "aurae:helpers/helpers/decorate",
        alias: None,
        code: include_str!("../js/decorate.js"),
    },
    Embedded {
        name: "aurae:helpers/helpers/decorateParam",
        alias: None,
        code: include_str!("../js/decorate-param.js"),
    },
    Embedded {
        name: "aurae:helpers/helpers/usingCtx",
        alias: None,
        code: include_str!("../js/using-ctx.js"),
    },
];

fn modules() -> impl Iterator<Item = &'static Embedded> {
    MODULES.iter().chain(HELPERS)
}

/// The module that a script's import means, if it is an embedded one.
pub(crate) fn resolve(name: &str) -> Option<&'static str> {
    modules()
        .find(|module| module.name == name || module.alias == Some(name))
        .map(|module| module.name)
}

/// The module that an import of one embedded module by another means.
pub(crate) fn sibling(name: &str) -> Option<String> {
    let name = name.strip_prefix("./")?.strip_suffix(".js")?;
    resolve(&format!("{SCHEME}{name}")).map(str::to_owned)
}

/// The code of an embedded module.
pub(crate) fn code(name: &str) -> Option<&'static str> {
    modules().find(|module| module.name == name).map(|module| module.code)
}

/// What scripts can import.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    modules().filter_map(|module| module.alias)
}
