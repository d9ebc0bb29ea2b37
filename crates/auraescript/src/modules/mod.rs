//! ES modules: which file a name means, and how it is loaded.

pub(crate) mod embedded;
mod import_map;
mod loader;
mod resolver;

pub(crate) use import_map::ImportMap;
pub(crate) use loader::{ModuleLoader, declare};
pub(crate) use resolver::ModuleResolver;
