//! From a request's descriptor to arguments, and from arguments to a request.

mod argument;
mod field;
mod value;

pub(crate) use argument::{fill, positional_and_flag_arguments};
pub(crate) use field::{Field, fields};
