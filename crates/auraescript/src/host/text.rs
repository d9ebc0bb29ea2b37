//! Bytes and text. Bytes come from the engine in base64: its own conversion is fast, and borrowing
//! its memory would be unsafe.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rquickjs::function::Func;
use rquickjs::{Ctx, Object, TypedArray};

use crate::throw;

pub(super) fn install(host: &Object<'_>) -> rquickjs::Result<()> {
    host.set("encodeUtf8", Func::from(encode))?;
    host.set("decodeUtf8", Func::from(decode))
}

/// Bytes that the engine handed over.
pub(super) fn bytes(ctx: &Ctx<'_>, base64: &str) -> rquickjs::Result<Vec<u8>> {
    STANDARD
        .decode(base64)
        .map_err(|error| throw::error(ctx, "TypeError", &format!("not base64: {error}")))
}

fn encode<'js>(ctx: Ctx<'js>, text: String) -> rquickjs::Result<TypedArray<'js, u8>> {
    TypedArray::new(ctx, text)
}

/// Decodes UTF-8. With `fatal`, bytes that are not UTF-8 are an error; else each becomes U+FFFD.
fn decode(ctx: Ctx<'_>, base64: String, fatal: bool) -> rquickjs::Result<String> {
    match String::from_utf8(bytes(&ctx, &base64)?) {
        Ok(text) => Ok(text),
        Err(error) if fatal => {
            Err(throw::error(&ctx, "TypeError", &format!("not UTF-8: {}", error.utf8_error())))
        }
        Err(error) => Ok(String::from_utf8_lossy(error.as_bytes()).into_owned()),
    }
}
