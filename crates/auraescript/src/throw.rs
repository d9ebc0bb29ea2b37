//! JavaScript errors from Rust. The engine's own way cuts messages at 256 bytes.

use rquickjs::function::Constructor;
use rquickjs::{Ctx, Error, Value};

/// Throws `new <class>(message)`.
pub(crate) fn error(ctx: &Ctx<'_>, class: &str, message: &str) -> Error {
    match make(ctx, class, message) {
        Ok(value) => ctx.throw(value),
        Err(error) => error,
    }
}

/// Makes `new <class>(message)`.
pub(crate) fn make<'js>(
    ctx: &Ctx<'js>,
    class: &str,
    message: &str,
) -> rquickjs::Result<Value<'js>> {
    ctx.globals().get::<_, Constructor<'js>>(class)?.construct((message,))
}
