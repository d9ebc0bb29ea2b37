//! Random numbers, from the kernel.

use rquickjs::function::Func;
use rquickjs::{Ctx, Object, TypedArray};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::throw;

/// The most that the Web Crypto API gives at once.
const MAX_BYTES: usize = 65_536;

pub(super) fn install(host: &Object<'_>) -> rquickjs::Result<()> {
    host.set("random", Func::from(random))
}

fn random<'js>(ctx: Ctx<'js>, length: usize) -> rquickjs::Result<TypedArray<'js, u8>> {
    if length > MAX_BYTES {
        let message = format!("{length} random bytes were asked for; at most {MAX_BYTES} at once");
        return Err(throw::error(&ctx, "RangeError", &message));
    }
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        filled += getrandom(rest, GetRandomFlags::empty()).map_err(|error| {
            throw::error(&ctx, "Error", &format!("the kernel gives no random numbers: {error}"))
        })?;
    }
    TypedArray::new(ctx, bytes)
}
