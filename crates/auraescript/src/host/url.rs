//! URLs, by the WHATWG's rules.

use rquickjs::function::Func;
use rquickjs::{Ctx, Object};
use url::{Url, quirks};

use crate::throw;

/// The parts of a URL, in the words of the URL standard.
const PARTS: [&str; 10] = [
    "href", "protocol", "username", "password", "host", "hostname", "port", "pathname", "search",
    "hash",
];

pub(super) fn install(host: &Object<'_>) -> rquickjs::Result<()> {
    host.set("parseUrl", Func::from(parse))?;
    host.set("setUrl", Func::from(set))
}

fn parse<'js>(ctx: Ctx<'js>, text: String, base: Option<String>) -> rquickjs::Result<Object<'js>> {
    let invalid = |what: &str| throw::error(&ctx, "TypeError", &format!("Invalid URL: {what}"));
    let url = match base {
        Some(base) => Url::parse(&base)
            .map_err(|_| invalid(&base))?
            .join(&text)
            .map_err(|_| invalid(&text))?,
        None => Url::parse(&text).map_err(|_| invalid(&text))?,
    };
    parts(&ctx, &url)
}

/// Sets a part. What does not fit leaves the URL as it was, as the standard wants it.
fn set<'js>(
    ctx: Ctx<'js>,
    href: String,
    part: String,
    value: String,
) -> rquickjs::Result<Object<'js>> {
    let mut url = Url::parse(&href)
        .map_err(|_| throw::error(&ctx, "TypeError", &format!("Invalid URL: {href}")))?;
    let _ = match part.as_str() {
        "protocol" => quirks::set_protocol(&mut url, &value),
        "username" => quirks::set_username(&mut url, &value),
        "password" => quirks::set_password(&mut url, &value),
        "host" => quirks::set_host(&mut url, &value),
        "hostname" => quirks::set_hostname(&mut url, &value),
        "port" => quirks::set_port(&mut url, &value),
        "pathname" => {
            quirks::set_pathname(&mut url, &value);
            Ok(())
        }
        "search" => {
            quirks::set_search(&mut url, &value);
            Ok(())
        }
        "hash" => {
            quirks::set_hash(&mut url, &value);
            Ok(())
        }
        _ => Ok(()),
    };
    parts(&ctx, &url)
}

fn parts<'js>(ctx: &Ctx<'js>, url: &Url) -> rquickjs::Result<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    for part in PARTS {
        let value = match part {
            "protocol" => quirks::protocol(url),
            "username" => quirks::username(url),
            "password" => quirks::password(url),
            "host" => quirks::host(url),
            "hostname" => quirks::hostname(url),
            "port" => quirks::port(url),
            "pathname" => quirks::pathname(url),
            "search" => quirks::search(url),
            "hash" => quirks::hash(url),
            _ => quirks::href(url),
        };
        object.set(part, value)?;
    }
    object.set("origin", quirks::origin(url))?;
    Ok(object)
}
